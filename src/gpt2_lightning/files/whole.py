"""The one way to write: a file beside its place, to the disk, renamed; a folder beside its place, renamed."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

_PART = ".part"


@contextmanager
def replacing(path: Path, mode: Literal["w", "wb"] = "w") -> Iterator[IO[Any]]:
    """A file to write into, which takes the place of `path` at the end of the block.

    After an error or a kill in the block, or a full disk, `path` is what it was. Text is UTF-8, with the line
    ends that are written.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}{_PART}")
    is_text = mode == "w"
    try:
        with part.open(mode, encoding="utf-8" if is_text else None, newline="" if is_text else None) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """A new folder to fill, which takes the place of `folder` at the end of the block."""
    part = folder.with_name(folder.name + _PART)
    shutil.rmtree(part, ignore_errors=True)  # of one that was killed
    try:
        part.mkdir(parents=True)
        yield part
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Let a file hold `text`."""
    with replacing(path) as file:
        file.write(text)


def write_json(path: Path, content: Any) -> None:
    """Let a file hold `content`, as people read it."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def remove_parts(folder: Path) -> None:
    """Remove the files that killed processes were still writing; for a folder that one process writes."""
    for part in folder.glob(f"*{_PART}"):
        if part.is_file():
            part.unlink()


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows opens no folders; NTFS keeps a journal of names
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
