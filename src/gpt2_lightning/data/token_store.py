"""The token ids of a corpus, memory-mapped, with what is known about them."""

import json
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from transformers import PreTrainedTokenizerFast

from gpt2_lightning.data.corpus import Corpus, Split
from gpt2_lightning.files.arrays import FileArray, NumberArray
from gpt2_lightning.files.digests import FileDigests


@dataclass(frozen=True)
class SplitCounts:
    """What one split holds.

    Attributes:
        documents: number of documents; `None` where nothing says so.
        tokens: ids, with one end-of-text per document.
        targets: those that are learned: all but prompts'.
        utf8_bytes: bytes of the text that is learned: the unit of bits per byte; `None` where the
            text is not known.
        characters: of that text.
        xz_bytes: the text that is learned, one document after the other, after `xz -9e`; only for a
            validation split of at most 512 KiB, else `None`.
    """

    documents: int | None
    tokens: int
    targets: int
    utf8_bytes: int | None
    characters: int | None
    xz_bytes: int | None = None

    def bits_per_byte(self, nll: float) -> float | None:
        """Bits per UTF-8 byte of text, for a mean NLL in nats per target over the whole split.

        The end-of-text tokens cost bits and bring no bytes.
        """
        return self._bits_per(nll, self.utf8_bytes)

    def bits_per_character(self, nll: float) -> float | None:
        """Bits per character of text (a Unicode code point), for a mean NLL in nats per target."""
        return self._bits_per(nll, self.characters)

    def _bits_per(self, nll: float, units: int | None) -> float | None:
        return nll / math.log(2) * self.targets / units if units else None

    @property
    def bytes_per_token(self) -> float | None:
        """UTF-8 bytes for each target."""
        return self.utf8_bytes / self.targets if self.utf8_bytes and self.targets else None

    @property
    def xz_bits_per_byte(self) -> float | None:
        """What `xz -9e` needs on the same text."""
        return 8 * self.xz_bytes / self.utf8_bytes if self.xz_bytes and self.utf8_bytes else None


@dataclass(frozen=True)
class TokenStore(ABC):
    """An opened store: a folder with `<split>.ends.bin`, `manifest.json` and the rest.

    Attributes:
        folder: where it lies.
        fingerprint: of text, tokenizer and options.
        vocab_size: entries of the tokenizer.
        rejected: records that were left out.
        files: SHA-256 of every file by its name in the folder.
        splits: counts by split.
    """

    folder: Path
    fingerprint: str
    vocab_size: int
    rejected: int
    files: dict[str, str]
    splits: dict[Split, SplitCounts]

    announcement: ClassVar[str]
    """What is said before one is built, of a corpus by its `name` into a `folder`."""

    @classmethod
    @abstractmethod
    def build(cls, corpus: Corpus, work: Path) -> dict[str, Any]:
        """Write the files of a corpus' store into a folder; returns what its manifest says of them.

        Raises:
            InputError: if something of the corpus cannot be used.
        """

    @classmethod
    def open(cls, folder: Path, corpus: Corpus, digests: FileDigests) -> "TokenStore":
        """The store in a folder, after a look whether its files are those that were written.

        Raises:
            ValueError: if a file has another content than it should.
        """
        manifest = json.loads((folder / "manifest.json").read_text())
        for name, sha256 in manifest["files"].items():
            if digests(folder / name) != sha256:
                raise ValueError(f"{name} has another SHA-256 than the manifest says")
        manifest["splits"] = {name: SplitCounts(**counts) for name, counts in manifest["splits"].items()}
        return cls(folder=folder, **manifest, **cls._of_corpus(corpus))

    @classmethod
    def _of_corpus(cls, corpus: Corpus) -> dict[str, Any]:
        """Attributes that come from the corpus each time."""
        return {}

    @abstractmethod
    def tokens(self, split: Split) -> NumberArray:
        """All ids of a split, `(tokens,)`."""

    def document_ends(self, split: Split) -> FileArray:
        """For each document, the position after its end-of-text, int64 `(documents,)`."""
        return FileArray.whole(self.folder / f"{split}.ends.bin", "<i8")

    @abstractmethod
    def learned(self, split: Split) -> NumberArray | None:
        """Whether each id is a target, bool `(tokens,)`; `None` if all are."""

    @abstractmethod
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer that made the ids."""
