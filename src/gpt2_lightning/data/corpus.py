"""What a corpus is: text, its tokenizer, and its splits."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from gpt2_lightning.data.documents import Document
from gpt2_lightning.data.sources import Source, TextSource, TokenFiles
from gpt2_lightning.data.sources.base import Digest
from gpt2_lightning.data.tokenizer import ByteLevelBPE, TokenizerRecipe
from gpt2_lightning.errors import FieldError, InputError, placed
from gpt2_lightning.files.lines import Reject, ignore
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
        """Refuse what cannot work, or cannot go together.

        Raises:
            InputError: if token files stand beside text, or have no validation split of their own.
        """
        with placed("--data.corpus"):
            for split, source in self.sources.items():
                with placed(field := self.field_of(split)):
                    source.check()
                if isinstance(source, TokenFiles) != self.is_in_place:
                    raise FieldError(
                        f"{field} {type(source).__name__}: --data.corpus.source is {self.name}; token files "
                        "go with token files alone"
                    )
            if self.is_in_place and not self.validation:
                raise FieldError(
                    "validation: token files hold no documents to draw a split from; name those of this "
                    "split: --data.corpus.validation TokenFiles --data.corpus.validation.paths val.bin"
                )

    @property
    def sources(self) -> dict[Split, Source]:
        """The source of each split that has one; that of `train` may feed the others too."""
        named = zip(SPLITS, (self.source, self.validation, self.test), strict=True)
        return {split: source for split, source in named if source}

    def field_of(self, split: Split) -> str:
        """The field of the source that feeds a split."""
        return split if split != "train" and split in self.sources else "source"

    @property
    def is_in_place(self) -> bool:
        """Whether it is token files, which are read where they are; else it is text."""
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
        sources: dict[str, str] = {}
        for split, source in self.sources.items():
            with placed(self.field_of(split)):
                sources[split] = source.fingerprint(digest)
        fractions = [self.validation_fraction, self.test_fraction]
        parts = [sources, self.tokenizer.settings(), fractions, self.on_error]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def documents(self, reject: Reject, of: Split | None = None) -> Iterator[tuple[Split, Document]]:
        """Every document with its split; those of white space alone are left out.

        Args:
            reject: is told of each record that is no document.
            of: the split that alone is wanted; sources that have nothing of it are not read.

        Raises:
            InputError: of token files, which hold no documents.
        """
        for split, source in self.sources.items():
            if of and self.field_of(split) != self.field_of(of):
                continue
            if not isinstance(source, TextSource):
                raise InputError(f"{self.name}: token files hold no documents")
            with placed(self.field_of(split)):
                for document in source.documents(reject):
                    if not isinstance(document, Document):
                        raise InputError(
                            f"{type(source).__name__}: documents() gives {type(document).__name__}; let it "
                            "give gpt2_lightning.data.documents.Document(text, origin)"
                        )
                    its_split = self.split_of(document.text) if split == "train" else split
                    is_wanted = document.only_for in ("", "train" if its_split == "train" else "held out")
                    if is_wanted and of in (None, its_split) and document.text.strip():
                        yield its_split, document

    def rejecting(self, remedy: str, keep: Reject = ignore) -> Reject:
        """What `on_error` wants at a record that is no document: to stop with a message, or to keep it.

        Args:
            remedy: what to do, for the message.
            keep: is told of it where it is skipped.
        """

        def stop(origin: str, reason: str) -> None:
            raise InputError(f"{origin}: {reason}; {remedy}")

        return stop if self.on_error == "stop" else keep

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
