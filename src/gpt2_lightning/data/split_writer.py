"""The files of one split of a token store."""

import hashlib
import lzma
from pathlib import Path

import numpy as np

from gpt2_lightning.data.corpus import Split
from gpt2_lightning.data.encoder import Encoded
from gpt2_lightning.data.token_store import SplitCounts

_XZ_LIMIT_BYTES = 2**19  # xz -9e reads about 1 MB/s: beyond this its figure is not worth the wait


class SplitWriter:
    """Writes the files of a split, and counts.

    Args:
        folder: of the store.
        split: names the files.
        dtype: of the ids, `<u2` or `<u4`.
        masks: write what is learned too.
    """

    def __init__(self, folder: Path, split: Split, dtype: str, masks: bool) -> None:
        self._dtype = dtype
        self._documents = self._tokens = self._targets = self._utf8_bytes = self._characters = 0
        self._digest = hashlib.sha256()
        self._short_text: list[bytes] | None = [] if split == "validation" else None
        self._file = (folder / f"{split}.bin").open("wb")
        self._ends_file = (folder / f"{split}.ends.bin").open("wb")
        self._mask_file = (folder / f"{split}.learned.bin").open("wb") if masks else None

    def close(self) -> None:
        for file in filter(None, (self._file, self._ends_file, self._mask_file)):
            file.close()

    def add(self, document: Encoded) -> int:
        """Write a document; returns the bytes of what is learned."""
        data = np.asarray(document.tokens).astype(self._dtype, copy=False).tobytes()
        self._file.write(data)
        self._digest.update(data)
        self._tokens += len(document.tokens)
        self._ends_file.write(self._tokens.to_bytes(8, "little"))
        if self._mask_file:
            self._mask_file.write(document.learned)
        text = document.text.encode()
        self._documents += 1
        self._targets += document.learned.count(True)
        self._utf8_bytes += len(text)
        self._characters += len(document.text)
        if self._utf8_bytes > _XZ_LIMIT_BYTES:
            self._short_text = None
        elif self._short_text is not None:
            self._short_text.append(text)
        return len(text)

    def counts(self) -> SplitCounts:
        """What was written."""
        text = None if self._short_text is None else b"".join(self._short_text)
        return SplitCounts(
            documents=self._documents,
            tokens=self._tokens,
            targets=self._targets,
            utf8_bytes=self._utf8_bytes,
            characters=self._characters,
            xz_bytes=None if text is None else len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)),
        )

    @property
    def sha256(self) -> str:
        """Of the ids that were written (hex)."""
        return self._digest.hexdigest()
