"""What a corpus is: text, its tokenizer, and its splits."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from gpt2_lightning.data.documents import Document, Record
from gpt2_lightning.data.sources import Source, TokenFiles
from gpt2_lightning.data.sources.base import Digest
from gpt2_lightning.data.tokenizer import ByteLevelBPE, TokenizerRecipe
from gpt2_lightning.errors import InputError
from gpt2_lightning.ranges import OpenUnitInterval, ShareBelowOne

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass
class Corpus:
    """A text, its tokenizer, and what of it is held out; a file of `configs/data/`.

    Args:
        source: where the documents come from.
        tokenizer: how text becomes token ids.
        validation_fraction: share of the documents held out for validation, by a hash of their
            content; not used if `validation` is given.
        test_fraction: share held out for `train.py test`, by the same hash; no document changes
            between training and validation with it, unless it goes to the test split.
        validation: a source of its own for the validation split: other files, another hub split.
        test: a source of its own for the test split.
        on_error: what happens at a record that is no text: `stop`, or `skip` it and count it; the
            store's `quarantine.jsonl` then says where it stands and why.
    """

    source: Source
    tokenizer: TokenizerRecipe = field(default_factory=ByteLevelBPE)
    validation_fraction: OpenUnitInterval = 0.1
    test_fraction: ShareBelowOne = 0.0
    validation: Source | None = None
    test: Source | None = None
    on_error: Literal["stop", "skip"] = "stop"

    def __post_init__(self) -> None:
        """Tell the sources what they are for, and refuse what cannot go together.

        Raises:
            InputError: if token files stand beside text, or have no validation split of their own.
        """
        for split, source in self.sources.items():
            source.put_at(f"--data.corpus.{'source' if split == 'train' else split}")
            if self.is_in_place != isinstance(source, TokenFiles):
                raise InputError(
                    f"{source.place} {type(source).__name__}: --data.corpus.source is {self.name}; token "
                    "files go with token files alone"
                )
        if self.is_in_place and not self.validation:
            raise InputError(
                "--data.corpus.validation: token files hold no documents to draw a split from; name those of "
                "this split: --data.corpus.validation TokenFiles --data.corpus.validation.paths val.bin"
            )

    @property
    def sources(self) -> dict[Split, Source]:
        """The source of each split that has one; that of `train` may feed the others too."""
        named: dict[Split, Source | None] = {
            "train": self.source,
            "validation": self.validation,
            "test": self.test,
        }
        return {split: source for split, source in named.items() if source}

    @property
    def is_in_place(self) -> bool:
        """Whether it is token files, which are read where they are."""
        return isinstance(self.source, TokenFiles)

    @property
    def name(self) -> str:
        """The kind of source, for people."""
        return type(self.source).__name__

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that there are to be."""
        has_test = self.test is not None or self.test_fraction > 0
        return SPLITS if has_test else SPLITS[:2]

    def fingerprint(self, digest: Digest) -> str:
        """SHA-256 (hex) of everything that decides the tokens: text, tokenizer, splits.

        Args:
            digest: gives the SHA-256 of a file.
        """
        sources = {split: source.fingerprint(digest) for split, source in self.sources.items()}
        fractions = [self.validation_fraction, self.test_fraction]
        parts = [sources, self.tokenizer.settings(), fractions, self.on_error]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def records(self, of: Split | None = None) -> Iterator[tuple[Split, Record]]:
        """Every record with its split; documents of white space alone are left out.

        Args:
            of: the split that alone is wanted; sources that have nothing of it are not read.
        """
        sources = self.sources
        if of:
            feeding: Split = of if of in sources else "train"
            sources: dict[Split, Source] = {feeding: sources[feeding]}
        for split, source in sources.items():
            for record in source.documents():
                if not isinstance(record, Document):
                    yield split, record
                elif record.text.strip():
                    its_split = self.split_of(record.text) if split == "train" else split
                    is_wanted = record.only_for in ("", "train" if its_split == "train" else "held out")
                    if is_wanted and of in (None, its_split):
                        yield its_split, record

    def split_of(self, text: str) -> Split:
        """The split of a document of `source`: decided by its content alone.

        So no document is in two splits, and adding documents moves none.
        """
        position = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
        validation = 0.0 if self.validation else self.validation_fraction
        if position < validation:
            return "validation"
        test = 0.0 if self.test else self.test_fraction
        return "test" if position < validation + test else "train"
