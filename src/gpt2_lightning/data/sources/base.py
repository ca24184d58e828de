"""What all sources promise, and how files are found."""

import glob
import hashlib
import json
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from gpt2_lightning.data.documents import Document
from gpt2_lightning.data.templates import TemplateName
from gpt2_lightning.errors import FieldError
from gpt2_lightning.files.lines import COMPRESSED, Reject, unreadable
from gpt2_lightning.files.whole import replacing

Digest = Callable[[Path], str]
"""Gives the SHA-256 (hex) of a file."""

_DOWNLOADS = Path("data/downloads")


class Source(ABC):
    """What a corpus is read from, and what decides it; its errors name its own fields."""

    masks_prompts = False
    """Whether some text is read but not learned."""

    is_instructions = False
    """Whether every document is a prompt and its answer."""

    template: TemplateName | None = None
    """What makes a document of an instruction record."""

    def check(self) -> None:  # noqa: B027  (many have nothing to look at)
        """Look at the options that were given.

        Raises:
            FieldError: if one of them cannot work.
        """

    @abstractmethod
    def fingerprint(self, digest: Digest) -> str:
        """SHA-256 (hex) of what decides the corpus: it changes when a document does."""

    def settings(self) -> dict[str, Any]:
        """The options that decide the corpus besides the files, as plain JSON."""
        return {
            name: value for name, value in vars(self).items() if name != "paths" and not name.startswith("_")
        }


class TextSource(Source):
    """A source of documents."""

    @abstractmethod
    def documents(self, reject: Reject) -> Iterator[Document]:
        """Every document, in a fixed order.

        Args:
            reject: is told of a record that is no document; it may raise, which ends the reading.
        """


class LocalSource(Source):
    """A source of local files, which decide it together with the settings."""

    @abstractmethod
    def files(self) -> list[Path]:
        """The files that are read, in a fixed order."""

    def deciding_files(self) -> list[Path]:
        """The files whose bytes decide the corpus."""
        return self.files()

    def fingerprint(self, digest: Digest) -> str:
        try:
            digests = [digest(path) for path in self.deciding_files()]
        except OSError as error:
            raise unreadable(error) from None
        parts = [type(self).__name__, self.settings(), digests]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class FileSource(LocalSource):
    """A source of files that the user names."""

    suffixes: tuple[str, ...] = ()
    """Endings, without that of a compression, of the files that are taken below a folder."""

    def __init__(self, paths: str | list[str]) -> None:
        self.paths = paths

    def files(self) -> list[Path]:
        """The files that `paths` name, each once, in the order of `paths` and then of their names.

        Raises:
            FieldError: if an entry of `paths` names no file.
        """
        found: dict[Path, None] = {}
        for entry in [self.paths] if isinstance(self.paths, str) else self.paths:
            if "://" in entry:
                found[_fetched(entry)] = None
                continue
            matches = self._expand(entry) if entry.strip() else []  # an empty one would be the folder here
            if not matches:
                wanted = " or ".join(f"*{suffix}" for suffix in self.suffixes)
                reason = "no such file, no such folder, and no file matches it as a glob"
                if Path(entry).expanduser().is_dir() and entry.strip():
                    reason = f"the folder holds no {wanted}; name other files by a glob, as folder/*.xyz"
                raise FieldError(f"paths {entry!r}: {reason}")
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


def _fetched(address: str) -> Path:
    """A file of the web, fetched on first use and kept under its address and name.

    Raises:
        FieldError: if it cannot be fetched.
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
        raise FieldError(
            f"paths {address!r}: cannot be fetched ({shown}); without a network, name a file that you have"
        ) from None
    return place


def _plain_suffix(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix in COMPRESSED else path.suffix


def check_heading(pattern: str | None) -> None:
    """Refuse a `heading` that is no regular expression."""
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise FieldError(f"heading {pattern!r}: no regular expression ({error})") from None
