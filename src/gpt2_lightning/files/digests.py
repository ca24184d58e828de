"""SHA-256 of files, each read once as long as nobody touches it."""

import hashlib
import json
import os
import time
from pathlib import Path

_SETTLED_SECONDS = 2  # a younger file could change again within the clock's tick: it is read each time


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
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if time.time() - max(status.st_mtime, status.st_ctime) > _SETTLED_SECONDS:
            self._known[name] = [digest, *key]
            self._changed = True
        return digest

    def save(self) -> None:
        """Write what was learned, beside the file and renamed."""
        if not self._changed:
            return
        part = self.cache.with_name(f"{self.cache.name}.{os.getpid()}.part")
        try:
            part.write_text(json.dumps(self._known), encoding="utf-8")
            part.replace(self.cache)
        except OSError:
            part.unlink(missing_ok=True)
        self._changed = False
