"""Printing that never decides about a run."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO


class LastingStream:
    """A stream of text that goes nowhere once nobody reads it, and shows what its encoding lacks escaped.

    Attributes:
        is_read: whether what is written still arrives.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream or io.StringIO()
        self.is_read = stream is not None

    def write(self, text: str) -> int:
        if self.is_read:
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                encoding = self._stream.encoding or "ascii"
                return self.write(text.encode(encoding, "backslashreplace").decode(encoding))
            except (OSError, ValueError):  # a pipe without a reader, a stream that is closed
                self.is_read = False
        return len(text)

    def flush(self) -> None:
        if self.is_read:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self.is_read = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def lasting_output() -> Iterator[None]:
    """Let standard output and error be such streams."""
    before = sys.stdout, sys.stderr
    lasting = LastingStream(sys.stdout), LastingStream(sys.stderr)
    sys.stdout, sys.stderr = lasting  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for number, stream in enumerate(lasting, start=1):
            stream.flush()
            if not stream.is_read:  # Python flushes once more, at its end
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)
