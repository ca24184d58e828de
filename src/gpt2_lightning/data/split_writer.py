"""The files of one split of a token store."""

import hashlib
import lzma
import sys
from array import array
from pathlib import Path
from typing import Literal

from gpt2_lightning.data.corpus import Split
from gpt2_lightning.data.documents import Document
from gpt2_lightning.data.token_store import SplitCounts

_XZ_LIMIT_BYTES = 2**19  # xz -9e reads about 1 MB/s: beyond this its figure is not worth the wait


class SplitWriter:
    """Writes the files of one split, and counts."""

    def __init__(
        self, folder: Path, split: Split, typecode: Literal["H", "I"], end_of_text: int, masks: bool
    ) -> None:
        self._folder, self._split, self._typecode, self._end_of_text = folder, split, typecode, end_of_text
        self._masks = masks
        self._documents = self._targets = self._utf8_bytes = self._characters = self._tokens = 0
        self._digest = hashlib.sha256()
        self._compressor = (
            lzma.LZMACompressor(preset=9 | lzma.PRESET_EXTREME) if split == "validation" else None
        )
        self._compressed = 0

    def __enter__(self) -> "SplitWriter":
        self._file = (self._folder / f"{self._split}.bin").open("wb")
        self._ends_file = (self._folder / f"{self._split}.ends.bin").open("wb")
        self._mask_file = (self._folder / f"{self._split}.learned.bin").open("wb") if self._masks else None
        return self

    def __exit__(self, *exception: object) -> None:
        for file in filter(None, (self._file, self._ends_file, self._mask_file)):
            file.close()

    def add(self, document: Document, ids: list[list[int]]) -> int:
        """Write a document, given the ids of each of its pieces; returns the bytes of what is learned."""
        pieces = document.pieces
        tokens = array(self._typecode, ids[0])  # an id past the type's range raises OverflowError
        for more in ids[1:]:
            tokens.extend(more)
        tokens.append(self._end_of_text)
        data = _little_endian(tokens)
        self._file.write(data)
        self._digest.update(data)
        self._tokens += len(tokens)
        self._ends_file.write(self._tokens.to_bytes(8, "little"))
        self._documents += 1
        learned = [piece.learned for piece in pieces]
        ends_learned = learned[-1]  # after an answer the end is learned; after a prompt there is none
        self._targets += (
            sum(len(i) for i, counted in zip(ids, learned, strict=True) if counted) + ends_learned
        )
        if self._mask_file:
            mask = b"".join(bytes([counted]) * len(i) for i, counted in zip(ids, learned, strict=True))
            self._mask_file.write(mask + bytes([ends_learned]))
        return self._count_text("".join(piece.text for piece in pieces if piece.learned))

    def _count_text(self, text: str) -> int:
        encoded = text.encode()
        self._utf8_bytes += len(encoded)
        self._characters += len(text)
        if self._compressor:
            if self._utf8_bytes <= _XZ_LIMIT_BYTES:
                self._compressed += len(self._compressor.compress(encoded))
            else:
                self._compressor = None
        return len(encoded)

    def counts(self) -> SplitCounts:
        """What was written."""
        return SplitCounts(
            documents=self._documents,
            tokens=self._tokens,
            targets=self._targets,
            utf8_bytes=self._utf8_bytes,
            characters=self._characters,
            xz_bytes=self._compressed + len(self._compressor.flush()) if self._compressor else None,
        )

    @property
    def sha256(self) -> str:
        """Of the ids that were written (hex)."""
        return self._digest.hexdigest()


def _little_endian(values: "array[int]") -> bytes:
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values.tobytes()
