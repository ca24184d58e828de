"""The text that models are measured on, read once, and in the tokens of each."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from transformers import PreTrainedTokenizerFast

from gpt2_lightning.data.corpus import Corpus, Split
from gpt2_lightning.data.documents import Document, Rejected
from gpt2_lightning.data.encoder import encoder_of
from gpt2_lightning.data.sources import Mixture
from gpt2_lightning.data.split_writer import SplitWriter
from gpt2_lightning.data.store_builder import open_or_build
from gpt2_lightning.data.token_store import SplitCounts
from gpt2_lightning.data.tokenizer import end_of_text_id
from gpt2_lightning.errors import InputError
from gpt2_lightning.model.pretrained import same_vocabulary

_BATCH = 256  # documents that are tokenized at once


@dataclass(frozen=True)
class Text:
    """One source's documents of a split."""

    name: str
    documents: list[Document]

    @property
    def words(self) -> int:
        """Pieces between white space that count."""
        return sum(
            len(piece.text.split())
            for document in self.documents
            for piece in document.pieces
            if piece.learned
        )


@dataclass(frozen=True)
class HeldOut:
    """One source's documents of a split, in the tokens of a model.

    Attributes:
        name: of the source.
        tokens: `(N,)`, each document closed by end-of-text.
        ends: the position after each document, `(documents,)`; `None` where nothing says so.
        learned: whether each token is a target, bool `(N,)`; `None` if all are.
        counts: of the split.
        words: pieces between white space; `None` where the text is not known.
    """

    name: str
    tokens: np.ndarray
    ends: np.ndarray | None
    learned: np.ndarray | None
    counts: SplitCounts
    words: int | None


def read_texts(corpus: Corpus, split: Split | Literal["all"]) -> list[Text]:
    """The documents of a split, for each source of a mixture; nothing of token files.

    Raises:
        InputError: if there is no such split, or nothing in it that counts.
    """
    if split != "all" and split not in corpus.splits:
        raise InputError(
            f"--split {split}: there is none; name one with --data.test, or draw one with "
            "--data.test_fraction"
        )
    if corpus.is_in_place and split == "all":
        raise InputError("--split all: is of text; of token files, name one split")
    if corpus.is_in_place:
        return []
    source = corpus.source if split == "all" else corpus.sources.get(split, corpus.source)
    parts = {corpus.name: corpus}
    if isinstance(source, Mixture):
        names = [f"sources[{number}] {type(each).__name__}" for number, each in enumerate(source.sources)]
        place = split if source is not corpus.source and split != "train" else "source"
        each_alone = (replace(corpus, **{place: each}) for each in source.sources)
        parts = dict(zip(names, each_alone, strict=True))
    found = [Text(name, list(documents_of(part, split))) for name, part in parts.items()]
    pieces = (piece for text in found for document in text.documents for piece in document.pieces)
    if not any(piece.learned for piece in pieces):
        raise InputError(
            f"--split {split}: no document is in it that counts, and prompts do not; a hash of their content "
            "draws documents for a split, and --split all takes all of them"
        )
    return [text for text in found if text.documents]


def tokenized(text: Text, tokenizer: PreTrainedTokenizerFast) -> HeldOut:
    """A text in the tokens of a model."""
    encode = encoder_of(tokenizer, [piece.text for each in text.documents[:_BATCH] for piece in each.pieces])
    masks = any(not piece.learned for document in text.documents for piece in document.pieces)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with SplitWriter(folder, "test", "I", end_of_text_id(tokenizer), masks) as writer:
            for start in range(0, len(text.documents), _BATCH):
                documents = text.documents[start : start + _BATCH]
                ids = iter(encode([piece.text for document in documents for piece in document.pieces]))
                for document in documents:
                    writer.add(document, [next(ids) for _ in document.pieces])
        learned = np.fromfile(folder / "test.learned.bin", "|b1") if masks else None
        return HeldOut(
            text.name,
            np.fromfile(folder / "test.bin", "<u4"),
            np.fromfile(folder / "test.ends.bin", "<i8"),
            learned,
            writer.counts(),
            words=text.words,
        )


def in_place(corpus: Corpus, split: Split, tokenizer: PreTrainedTokenizerFast, folder: str) -> HeldOut:
    """A split of token files.

    Args:
        corpus: of `TokenFiles`.
        split: which one.
        tokenizer: of the model.
        folder: of token stores, where token files have their counts.

    Raises:
        InputError: if they are of another tokenizer than the model's.
    """
    store = open_or_build(Path(folder), corpus)
    if not same_vocabulary(store.tokenizer(), tokenizer):
        raise InputError(
            f"--data.source {corpus.name}: these ids are of a tokenizer with {store.vocab_size:,} entries, "
            f"which is not the model's of {len(tokenizer):,}; give text, which the model's own tokenizes"
        )
    ends = np.asarray(store.document_ends(split))
    learned = store.learned(split)
    return HeldOut(
        corpus.name,
        np.asarray(store.tokens(split)[:]),
        ends if len(ends) > 1 else None,
        None if learned is None else np.asarray(learned[:]),
        store.splits[split],
        words=None,
    )


def documents_of(corpus: Corpus, split: Split | Literal["all"]) -> Iterator[Document]:
    """The documents of a split, or of all.

    Raises:
        InputError: at a record that is no text, unless `on_error` says to skip it.
    """
    for _, record in corpus.records(None if split == "all" else split):
        if not isinstance(record, Rejected):
            yield record
        elif corpus.on_error == "stop":
            raise InputError(f"{record.origin}: {record.reason}; mend it, or say --data.on_error skip")
