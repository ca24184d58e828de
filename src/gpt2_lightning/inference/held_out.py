"""The text that a model is measured on, in the model's own tokens."""

import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

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


@dataclass(frozen=True)
class HeldOut:
    """One source's documents of a split.

    Attributes:
        name: of the source.
        tokens: `(N,)`, each document closed by end-of-text.
        ends: the position after each document, `(documents,)`; `None` where nothing says so.
        learned: whether each token is a target, bool `(N,)`; `None` if all are.
        counts: of the split.
        words: pieces between white space; `None` where the text is not known.
        seen: documents that are, to the letter, in the training split too; `None` likewise.
    """

    name: str
    tokens: np.ndarray
    ends: np.ndarray | None
    learned: np.ndarray | None
    counts: SplitCounts
    words: int | None
    seen: int | None


def read_held_out(
    corpus: Corpus, split: Split, tokenizer: PreTrainedTokenizerFast, folder: str
) -> list[HeldOut]:
    """A split of a corpus in the tokens of a model: a part for each source of a mixture.

    Args:
        corpus: its own tokenizer is not looked at, except of token files.
        split: which one.
        tokenizer: of the model.
        folder: of token stores, where token files have their counts.

    Raises:
        InputError: if there is no such split, nothing in it, or token files of another tokenizer.
    """
    if split not in corpus.splits:
        raise InputError(
            f"--split {split}: there is none; name one with --data.test, or draw one with "
            "--data.test_fraction"
        )
    if corpus.is_in_place:
        return [_in_place(corpus, split, tokenizer, Path(folder))]
    source = corpus.source
    if isinstance(source, Mixture) and (split == "train" or split not in corpus.sources):
        names = [f"sources[{number}] {type(each).__name__}" for number, each in enumerate(source.sources)]
        parts = dict(zip(names, (replace(corpus, source=each) for each in source.sources), strict=True))
    else:
        parts = {corpus.name: corpus}
    found = [_tokenized(part, split, tokenizer, name) for name, part in parts.items()]
    if not any(part.counts.documents for part in found):
        raise InputError(
            f"--split {split}: no document is in it; --data.{split}_fraction decides how many are"
        )
    return [part for part in found if part.counts.documents]


def _in_place(corpus: Corpus, split: Split, tokenizer: PreTrainedTokenizerFast, folder: Path) -> HeldOut:
    store = open_or_build(folder, corpus)
    if not same_vocabulary(store.tokenizer(), tokenizer):
        raise InputError(
            f"--data.source {corpus.name}: these ids are of a tokenizer with {store.vocab_size:,} entries, "
            f"which is not the model's of {len(tokenizer):,}; give text, which the model's own tokenizes"
        )
    counts = store.splits[split]
    ends = np.asarray(store.document_ends(split)) if counts.documents else None
    learned = store.learned(split)
    return HeldOut(
        corpus.name,
        np.asarray(store.tokens(split)[:]),
        ends,
        None if learned is None else np.asarray(learned[:]),
        counts,
        words=None,
        seen=None,
    )


def _tokenized(corpus: Corpus, split: Split, tokenizer: PreTrainedTokenizerFast, name: str) -> HeldOut:
    documents: list[Document] = []
    training: set[bytes] = set()
    for its_split, document in _documents(corpus):
        if its_split == split:
            documents.append(document)
        elif its_split == "train":
            training.add(_digest(document))
    pieces = [piece.text for document in documents for piece in document.pieces]
    ids = iter(encoder_of(tokenizer, pieces)(pieces) if pieces else [])
    masks = any(not piece.learned for document in documents for piece in document.pieces)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with SplitWriter(folder, "test", "I", end_of_text_id(tokenizer), masks) as writer:
            for document in documents:
                writer.add(document, list(islice(ids, len(document.pieces))))
        learned = np.fromfile(folder / "test.learned.bin", "|b1") if masks else None
        return HeldOut(
            name,
            np.fromfile(folder / "test.bin", "<u4"),
            np.fromfile(folder / "test.ends.bin", "<i8"),
            learned,
            writer.counts(),
            words=sum(len(p.text.split()) for d in documents for p in d.pieces if p.learned),
            seen=None if split == "train" else sum(_digest(document) in training for document in documents),
        )


def _documents(corpus: Corpus) -> Iterator[tuple[Split, Document]]:
    for split, record in corpus.records():
        if not isinstance(record, Rejected):
            yield split, record
        elif corpus.on_error == "stop":
            raise InputError(f"{record.origin}: {record.reason}; mend it, or say --data.on_error skip")


def _digest(document: Document) -> bytes:
    return hashlib.sha256(document.text.strip().encode()).digest()
