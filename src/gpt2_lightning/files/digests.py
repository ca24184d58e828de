"""SHA-256 of files: remembered while nobody touches them, and written beside them."""

import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from gpt2_lightning.errors import InputError
from gpt2_lightning.files.whole import write_text

SUMS = "SHA256SUMS"
_SETTLED_SECONDS = 2  # a younger file could change again within the clock's tick: it is read each time


def sha256_of(path: Path) -> str:
    """The SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests_of(folder: Path, known: Mapping[str, str] | None = None) -> dict[str, str]:
    """SHA-256 (hex) of every file below a folder, by its name in it.

    Args:
        folder: to look in.
        known: digests that need not be computed.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: (known or {}).get(name) or sha256_of(path) for name, path in names.items()}


def write_sums(folder: Path) -> None:
    """Write the digests of a folder's files into its `SHA256SUMS`, as `sha256sum --check` reads them."""
    (folder / SUMS).unlink(missing_ok=True)
    lines = [f"{digest}  {name}\n" for name, digest in digests_of(folder).items()]
    write_text(folder / SUMS, "".join(lines))


def unlisted(folder: Path) -> list[str]:
    """Names of the files below a folder that its `SHA256SUMS` does not list; of all, if there is none."""
    lines = (folder / SUMS).read_text().splitlines() if (folder / SUMS).is_file() else []
    listed = {line.partition("  ")[2] for line in lines} | {SUMS}
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return sorted(name for name in found if name not in listed)


def check_sums(folder: Path) -> None:
    """Nothing, if the files are those that `SHA256SUMS` lists, or there is no such file.

    Raises:
        InputError: naming the file that was altered or is missing.
    """
    if not (folder / SUMS).is_file():
        return
    for line in (folder / SUMS).read_text().splitlines():
        digest, _, name = line.partition("  ")
        path = folder / name
        if not path.is_file() or sha256_of(path) != digest:
            state = "was altered after it was written" if path.exists() else "is missing"
            raise InputError(
                f"{path}: {state} ({SUMS} has another digest); export the run again, or remove {SUMS} if the "
                "change is yours"
            )


class FileDigests:
    """Remembers what it has hashed, in a file, by path, size, inode and times.

    The change time is set by the system at every write and cannot be set back, so that a file
    altered in place is found, also where its size and modification time stay.

    Args:
        cache: file to remember in; one that is missing, damaged or not writable only costs time.
    """

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self._changed = False
        try:
            self._known: dict[str, list[str | int]] = dict(json.loads(cache.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            self._known = {}

    def __call__(self, path: Path) -> str:
        """The SHA-256 (hex) of a file's bytes."""
        status = path.stat()
        key = [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]
        name = str(path.resolve())
        if name in self._known and self._known[name][1:] == key:
            return str(self._known[name][0])
        digest = sha256_of(path)
        if time.time() - max(status.st_mtime, status.st_ctime) > _SETTLED_SECONDS:
            self._known[name] = [digest, *key]
            self._changed = True
        return digest

    def save(self) -> None:
        """Write what was learned."""
        if self._changed:
            with suppress(OSError):
                write_text(self.cache, json.dumps(self._known))
            self._changed = False
