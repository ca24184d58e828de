"""A start without the collector of garbage."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import large libraries in four fifths of the time.

    What they define stays until the process ends: looking through it for garbage, time and again while it
    grows, finds none. Afterwards the collector is as it was, and leaves out what is there by then.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
