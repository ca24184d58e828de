"""Errors that are not bugs: wrong input, and runs that diverge."""

from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """What the user gave cannot be used.

    The message names the option, or the file and line, the value found, what is allowed and what to
    do. The commands print it alone and exit with code 2; every other exception is a bug of this
    project and shows its traceback.
    """


class FieldError(InputError):
    """The value of one field cannot be used; the message begins with the field's name.

    Whoever knows where the field stands among the options puts that before it, with `placed`.
    """


@contextmanager
def placed(place: str) -> Iterator[None]:
    """Put a place among the options before the field names that errors begin with; once it is an option's."""
    try:
        yield
    except FieldError as error:
        kind = InputError if place.startswith("--") else FieldError
        raise kind(f"{place}.{error}") from None


class DivergedError(RuntimeError):
    """Training diverged: the command prints the message alone and exits with code 1."""
