"""Token files that others made, read in place."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from gpt2_lightning.data.sources.base import FileSource
from gpt2_lightning.errors import InputError
from gpt2_lightning.files.arrays import FileArray
from gpt2_lightning.files.lines import unreadable

_HEADER_BYTES = 256 * 4
_MAGIC = {20240520: "<u2", 20240801: "<u4"}  # llm.c: GPT-2 and Llama 3; modded-nanogpt uses the first


@dataclass(frozen=True)
class Shard:
    """One file: its ids, and the position after each document where an index says so."""

    path: Path
    tokens: FileArray
    ends: FileArray | None


class TokenFiles(FileSource):
    """Token files that others made, memory-mapped as they are and never copied.

    nanoGPT's `.bin` (ids alone), llm.c's and modded-nanogpt's shards (`.bin` with a header of 256
    int32) and datatrove's `.ds` with its `.ds.index`. The tokenizer of the corpus must be the one
    that made them.

    Args:
        paths: a file, a folder (every `.bin` and `.ds` below it), a glob, or a list of these.
        dtype: of the ids where the file has no header to say so.
    """

    suffixes = (".bin", ".ds")

    def __init__(self, paths: str | list[str], dtype: Literal["uint16", "uint32"] = "uint16") -> None:
        super().__init__(paths)
        self.dtype = dtype

    def shards(self) -> list[Shard]:
        """The files, none of them held open.

        Raises:
            InputError: if a file has another length than it should.
        """
        try:
            return [_open(path, np.dtype(self.dtype).newbyteorder("<")) for path in self.files()]
        except OSError as error:
            raise unreadable(error) from None

    def deciding_files(self) -> list[Path]:
        paths = self.files()
        return paths + [index for index in map(_index_of, paths) if index.exists()]


def _index_of(path: Path) -> Path:
    return path.with_name(path.name + ".index")


def _open(path: Path, dtype: np.dtype) -> Shard:
    size, offset = path.stat().st_size, 0
    with path.open("rb") as file:
        header = np.frombuffer(file.read(12), dtype="<i4") if size >= _HEADER_BYTES else np.zeros(3, "<i4")
    if int(header[0]) in _MAGIC:
        dtype, offset = np.dtype(_MAGIC[int(header[0])]), _HEADER_BYTES
        if size != offset + int(header[2]) * dtype.itemsize:
            raise InputError(
                f"{path}: the header promises {int(header[2]):,} tokens, but the file has "
                f"{(size - offset) // dtype.itemsize:,}: it is cut short or damaged"
            )
    if size <= offset or (size - offset) % dtype.itemsize:
        raise InputError(f"{path}: {size:,} bytes are no whole, positive number of {dtype.name} ids")
    tokens = FileArray(path, dtype.str, (size - offset) // dtype.itemsize, offset)
    index = _index_of(path)
    ends = FileArray.whole(index, "<i8") if index.exists() else None
    if ends is not None and (len(ends) == 0 or ends[-1] != len(tokens) or (np.diff(ends) <= 0).any()):
        raise InputError(
            f"{index}: the document ends do not rise to the {len(tokens):,} tokens of {path.name}"
        )
    return Shard(path, tokens, ends)
