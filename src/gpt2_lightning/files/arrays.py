"""Numbers in files, as arrays."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

_MAPPED = 128  # files at once: each takes a file descriptor, of which macOS gives a process 256


class NumberArray(Protocol):
    """Numbers `(N,)` that can be cut: an array, a file, or the shards of several files."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...


@dataclass(frozen=True, eq=False)
class FileArray:
    """A file's numbers, mapped into memory while they are looked at.

    Holding one costs nothing, and a process that is sent one gets the name of the file, not the
    numbers: a thousand shards are a thousand names.

    Attributes:
        path: of the file.
        dtype: of the numbers, as NumPy writes it, `<u2` for little-endian 16 bits.
        length: how many there are.
        offset: bytes before the first.
    """

    path: Path
    dtype: str
    length: int
    offset: int = 0

    @classmethod
    def whole(cls, path: Path, dtype: str) -> "FileArray":
        """All of a file."""
        return cls(path, dtype, path.stat().st_size // np.dtype(dtype).itemsize)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: Any, /) -> Any:
        return _mapped(self)[index]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(_mapped(self), dtype=dtype, copy=copy)


@lru_cache(maxsize=_MAPPED)
def _mapped(array: FileArray) -> np.ndarray:
    return np.memmap(array.path, array.dtype, "r", array.offset, (array.length,))
