"""What all sources promise, and how files are found and read."""

import glob
import gzip
import hashlib
import io
import json
import re
import shutil
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from gpt2_lightning.data.documents import Record, Rejected
from gpt2_lightning.data.templates import TemplateName
from gpt2_lightning.errors import InputError
from gpt2_lightning.files.whole import replacing

Digest = Callable[[Path], str]
"""Gives the SHA-256 (hex) of a file."""

_COMPRESSED = {".gz", ".zst"}
_DOWNLOADS = Path("data/downloads")


class Source(ABC):
    """A corpus: documents in a fixed order, and what decides them."""

    masks_prompts = False
    """Whether some text is read but not learned."""

    is_instructions = False
    """Whether every document is a prompt and its answer."""

    template: TemplateName | None = None
    """What makes a document of an instruction record."""

    place = "--data.corpus.source"
    """Where it stands among the options; messages begin with it."""

    def put_at(self, place: str) -> None:
        """Take a place among the options, for messages, and look at the options that were given.

        Raises:
            InputError: if one of them cannot work.
        """
        self.place = place

    @abstractmethod
    def documents(self) -> Iterator[Record]:
        """Every record of the corpus, in a fixed order: a document, or why it is none."""

    @abstractmethod
    def fingerprint(self, digest: Digest) -> str:
        """SHA-256 (hex) of what decides the documents: it changes when one of them does."""

    def settings(self) -> dict[str, Any]:
        """The options that decide the documents besides the files, as plain JSON."""
        return {
            name: value
            for name, value in vars(self).items()
            if name not in {"paths", "place"} and not name.startswith("_")
        }


class LocalSource(Source):
    """Documents out of local files, which decide them together with the settings."""

    @abstractmethod
    def files(self) -> list[Path]:
        """The files that are read, in a fixed order."""

    def deciding_files(self) -> list[Path]:
        """The files whose bytes decide the documents."""
        return self.files()

    def fingerprint(self, digest: Digest) -> str:
        try:
            digests = [digest(path) for path in self.deciding_files()]
        except OSError as error:
            raise unreadable(error) from None
        parts = [type(self).__name__, self.settings(), digests]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class FileSource(LocalSource):
    """Documents out of files that the user names."""

    suffixes: tuple[str, ...] = ()
    """Endings, without that of a compression, of the files that are taken below a folder."""

    def __init__(self, paths: str | list[str]) -> None:
        self.paths = paths

    def files(self) -> list[Path]:
        """The files that `paths` name, each once, in the order of `paths` and then of their names.

        Raises:
            InputError: if an entry of `paths` names no file.
        """
        found: dict[Path, None] = {}
        for entry in [self.paths] if isinstance(self.paths, str) else self.paths:
            if "://" in entry:
                found[_fetched(entry, f"{self.place}.paths")] = None
                continue
            matches = self._expand(entry) if entry.strip() else []  # an empty one would be the folder here
            if not matches:
                wanted = " or ".join(f"*{suffix}" for suffix in self.suffixes)
                reason = "no such file, no such folder, and no file matches it as a glob"
                if Path(entry).expanduser().is_dir() and entry.strip():
                    reason = f"the folder holds no {wanted}; name other files by a glob, as folder/*.xyz"
                raise InputError(f"{self.place}.paths {entry!r}: {reason}")
            found.update(dict.fromkeys(matches))
        return list(found)

    def _expand(self, entry: str) -> list[Path]:
        path = Path(entry).expanduser()
        if path.is_file():
            return [path]
        if path.is_dir():
            return sorted(p for p in path.rglob("*") if _plain_suffix(p) in self.suffixes and p.is_file())
        matches = glob.glob(str(path), recursive=True)  # noqa: PTH207  (pathlib's takes no absolute pattern)
        return sorted(path for path in map(Path, matches) if path.is_file())


def _fetched(address: str, option: str) -> Path:
    """A file of the web, fetched on first use and kept under its address and name.

    Raises:
        InputError: if it cannot be fetched.
    """
    import fsspec

    place = _DOWNLOADS / f"{hashlib.sha256(address.encode()).hexdigest()[:16]}-{PurePosixPath(address).name}"
    if place.exists():
        return place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with fsspec.open(address, "rb") as remote, replacing(place, "wb") as local:
            shutil.copyfileobj(cast(BinaryIO, remote), local)
    except Exception as error:
        shown = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"{option} {address!r}: cannot be fetched ({shown}); without a network, name a file that you have"
        ) from None
    return place


def _plain_suffix(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix in _COMPRESSED else path.suffix


def open_binary(path: Path) -> BinaryIO:
    """A file's bytes, decompressed where its name ends in `.gz` or `.zst`."""
    if path.suffix == ".gz":
        return cast(BinaryIO, gzip.open(path))
    if path.suffix == ".zst":
        import pyarrow

        stream: Any = pyarrow.input_stream(str(path), compression="zstd")
        return cast(BinaryIO, io.BufferedReader(stream, 2**20))
    return path.open("rb")


def read_lines(path: Path, keep_bytes: bool = False) -> Iterator[tuple[int, str | Rejected]]:
    r"""Number (from 1) and text of each line of a UTF-8 file, its `\n` included.

    A byte-order mark at the start is dropped, and `\r\n` is read as `\n`. A line that is not UTF-8
    comes as a rejection, as does the rest of a compressed file that cannot be read on.

    Args:
        path: of the file.
        keep_bytes: bytes that are not UTF-8 come as surrogates instead, for a format whose records
            can be longer than a line; `not_utf8` finds them.
    """
    number = 0
    try:
        with open_binary(path) as file:
            for number, data in enumerate(file, start=1):
                yield number, _decode(data, path, number, keep_bytes)
    except (EOFError, OSError, zlib.error) as error:
        if path.suffix not in _COMPRESSED and isinstance(error, OSError):
            raise unreadable(error) from None
        yield number + 1, Rejected(f"{path}:{number + 1}", f"the compressed file cannot be read on ({error})")


def _decode(data: bytes, path: Path, number: int, keep_bytes: bool) -> str | Rejected:
    codec = "utf-8-sig" if number == 1 else "utf-8"
    try:
        text = data.decode(codec)
    except UnicodeDecodeError:
        text = data.decode(codec, errors="surrogateescape")
        if not keep_bytes:
            return Rejected(f"{path}:{number}", not_utf8(text, path))
    return text[:-2] + "\n" if text.endswith("\r\n") else text


def unreadable(error: OSError) -> InputError:
    """Of a file of the user's."""
    return InputError(f"{error.filename}: cannot be read ({error.strerror})")


def check_pattern(pattern: str | None, option: str) -> None:
    """Refuse what is no regular expression."""
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise InputError(f"{option} {pattern!r}: no regular expression ({error})") from None


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
