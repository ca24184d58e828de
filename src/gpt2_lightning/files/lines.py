"""Text files line by line, and files of a JSON object a line, each with the optimizer step it belongs to."""

import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from gpt2_lightning.errors import InputError
from gpt2_lightning.files.whole import replacing

COMPRESSED = {".gz", ".zst"}

Reject = Callable[[str, str], None]
"""Is told of a record that cannot be used: where it stands, and why."""


def ignore(origin: str, reason: str) -> None:
    """A `Reject` that leaves the record out and says nothing."""


def read_lines(path: Path, reject: Reject, keep_bytes: bool = False) -> Iterator[tuple[int, str | None]]:
    r"""Number (from 1) and text of each line of a UTF-8 file, its `\n` included; `None` for one rejected.

    A byte-order mark at the start is dropped, and `\r\n` is read as `\n`. A line that is not UTF-8 is
    rejected, as is the rest of a compressed file that cannot be read on.

    Args:
        path: of the file.
        reject: is told of what cannot be read.
        keep_bytes: bytes that are not UTF-8 come as surrogates instead, for a format whose records
            can be longer than a line; `not_utf8` finds them.
    """
    number = 0
    try:
        for number, data in enumerate(_whole_lines(path), start=1):
            text = data.decode("utf-8-sig" if number == 1 else "utf-8", errors="surrogateescape")
            if not keep_bytes and not text.isascii() and (reason := not_utf8(text, path)):
                reject(f"{path}:{number}", reason)
                yield number, None
            else:
                yield number, text[:-2] + "\n" if text.endswith("\r\n") else text
    except _BrokenOffError as error:
        reject(f"{path}:{number + 1}", f"the compressed file cannot be read on ({error})")
        yield number + 1, None


class _BrokenOffError(Exception):
    """Raised where a compressed file cannot be read on."""


def _whole_lines(path: Path) -> Iterator[bytes]:
    try:
        with open_binary(path) as file:
            yield from file
    except (EOFError, OSError, zlib.error) as error:
        if path.suffix not in COMPRESSED and isinstance(error, OSError):
            raise unreadable(error) from None
        raise _BrokenOffError(str(error)) from None


def open_binary(path: Path) -> BinaryIO:
    """A file's bytes, decompressed where its name ends in `.gz` or `.zst`."""
    if path.suffix == ".gz":
        return cast(BinaryIO, gzip.open(path))
    if path.suffix == ".zst":
        import pyarrow

        stream: Any = pyarrow.input_stream(str(path), compression="zstd")
        return cast(BinaryIO, io.BufferedReader(stream, 2**20))
    return path.open("rb")


def not_utf8(text: str, path: Path) -> str:
    """The reason, if `text` holds a byte of the file that is not UTF-8; else empty."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        byte = ord(text[error.start]) - 0xDC00  # `surrogateescape` makes U+DC80 of the byte 0x80
        return (
            f"byte 0x{byte:02x} is not UTF-8; convert the file, for example with: "
            f"iconv -f LATIN1 -t UTF-8 {path}"
        )
    return ""


def unreadable(error: OSError) -> InputError:
    """Of a file of the user's."""
    return InputError(f"{error.filename}: cannot be read ({error.strerror})")


def take_back(path: Path, step: int) -> list[dict[str, Any]]:
    """Remove what was written past `step`, and what a kill has cut; returns the rest.

    Args:
        path: of the file, which need not be there.
        step: optimizer steps done.
    """
    if not path.exists():
        return []
    *lines, _ = path.read_bytes().split(b"\n")  # after the last line's end is nothing, or half a line
    kept = [(row, line) for row, line in ((json.loads(line), line) for line in lines) if row["step"] <= step]
    with replacing(path, "wb") as file:
        file.writelines(line + b"\n" for _, line in kept)
    return [row for row, _ in kept]
