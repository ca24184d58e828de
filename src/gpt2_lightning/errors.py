"""The exceptions that are no bugs: what the user gave, and what became of a run."""


class InputError(ValueError):
    """What the user gave cannot be used.

    The message names the option, or the file and line, the value found, what is allowed and what to
    do. The commands print it alone and exit with code 2; every other exception is a bug of this
    project and shows its traceback.
    """


class DivergedError(RuntimeError):
    """Training diverged: the command prints the message alone and exits with code 1."""
