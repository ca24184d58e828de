"""Checkpoints on disk: whole or not there, and found out when damaged."""

import errno
import hashlib
import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch import Tensor

from gpt2_lightning.errors import InputError
from gpt2_lightning.files.digests import sha256_of
from gpt2_lightning.files.whole import replacing, write_text

_COPIED_BYTES = 2**24  # at once
_MARGIN = 1.02  # of a checkpoint's tensors: what the file has besides them


class SafeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place with its SHA-256, then renames it; reads nothing but data.

    Lightning writes to `$TMPDIR` and moves the file, which across file systems is a copy over the earlier
    checkpoint, and it builds the whole file in memory before.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Put a checkpoint in the place of the one before, which a kill or a full disk leaves whole.

        Raises:
            InputError: if the file system has no room for it, or cannot be written.
        """

        def write(file: IO[bytes]) -> list[str]:
            _check_room(checkpoint, Path(path).parent)
            hashing = _Hashing(file)
            torch.save(checkpoint, hashing)  # pyright: ignore[reportArgumentType]  (it writes only)
            return [hashing.hexdigest()]

        _put(Path(path), write)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> Any:
        return read(Path(path))


def read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU.

    Raises:
        InputError: if it is damaged, or holds anything but numbers and plain types, whose loading could run
            code.
    """
    known = _digests(path)
    if known and sha256_of(path) not in known:
        raise InputError(f"{path}: is damaged: its SHA-256 is not the one in {_checksum(path).name}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if re.search(r"unsupported (global|class)", str(error), re.IGNORECASE):
            reason = "holds more than numbers and plain types: it is refused, as loading it could run code"
            raise InputError(f"{path}: {reason}") from None
        raise InputError(f"{path}: is damaged, or no checkpoint") from None
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{path}: is damaged, or no checkpoint ({reason})") from None
    if not isinstance(content, dict) or "state_dict" not in content:
        raise InputError(f"{path}: is no checkpoint of a run")
    return content


def newest_whole(folder: Path) -> Path:
    """The newest checkpoint of a run's that is not damaged; says so where it is not the last.

    Raises:
        InputError: if there is none.
    """
    damage = []
    for name in ("last.ckpt", "best.ckpt"):
        path = folder / name
        if not path.is_file():
            continue
        try:
            read(path)
        except InputError as error:
            damage.append(str(error))
            continue
        for message in damage:
            print(f"{message}: goes on from {name}", flush=True)
        return path
    raise InputError("; ".join(damage) or f"{folder}: holds no checkpoint")


def copy(path: Path, other: Path) -> None:
    """Put a copy of a checkpoint in the place of another: two files, of which one may be damaged."""

    def write(file: IO[bytes]) -> list[str]:
        with path.open("rb") as source:
            shutil.copyfileobj(source, file, _COPIED_BYTES)
        return _digests(path)[:1]

    _put(other, write)


def _put(path: Path, write: Callable[[IO[bytes]], list[str]]) -> None:
    """Let what is written take the place of a checkpoint and of its digest, which `write` returns.

    Both digests come first: whichever file is there after a kill has one of them.
    """
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, "wb") as file:
            digest = write(file)
            _write_digests(path, [*digest, *_digests(path)[:1]])
        _write_digests(path, digest)


class _Hashing:
    """A file that is hashed as it is written."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    def write(self, data: Any) -> int:
        self._hash.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Say in one line what keeps a checkpoint from being written."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        reason = "the disk is full" if cause.errno == errno.ENOSPC else cause.strerror
        raise InputError(f"{path}: cannot be written: {reason}; the checkpoint before it is whole") from None


def _check_room(checkpoint: dict[str, Any], folder: Path) -> None:
    size = int(_MARGIN * sum(tensor.numel() * tensor.element_size() for tensor in _tensors(checkpoint)))
    if (free := shutil.disk_usage(folder).free) < size:
        raise InputError(
            f"{folder}: has no room for a checkpoint of {size / 1e6:,.0f} MB, {free / 1e6:,.0f} MB are free; "
            "the one before is whole"
        )


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def _digests(path: Path) -> list[str]:
    """What the checkpoint may have as SHA-256, the newest first; nothing is known without its file."""
    checksum = _checksum(path)
    return checksum.read_text().split() if checksum.is_file() else []


def _write_digests(path: Path, digests: list[str]) -> None:
    write_text(_checksum(path), "".join(f"{digest}\n" for digest in digests))


def _checksum(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")
