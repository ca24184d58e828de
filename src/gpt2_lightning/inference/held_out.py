"""The text that models are measured on, read once, and in the tokens of each."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from transformers import PreTrainedTokenizerFast

from gpt2_lightning.data.corpus import Corpus, Split
from gpt2_lightning.data.documents import Document
from gpt2_lightning.data.encoder import encode_documents
from gpt2_lightning.data.sources import Mixture
from gpt2_lightning.data.store_builder import open_or_build
from gpt2_lightning.data.token_store import SplitCounts
from gpt2_lightning.errors import InputError, placed
from gpt2_lightning.model.pretrained import same_vocabulary

Texts = dict[str, list[Document]]
"""The documents of a split by their source; by each source of a mixture."""


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


def read_texts(corpus: Corpus, split: Split | Literal["all"]) -> Texts:
    """The documents of a split; nothing of token files.

    Raises:
        InputError: if there is no such split, or nothing in it that counts.
    """
    if split != "all" and split not in corpus.splits:
        raise InputError(
            f"--split {split}: there is none; name one with --data.test, or draw one with "
            "--data.test_fraction"
        )
    if corpus.is_in_place:
        if split == "all":
            raise InputError("--split all: is of text; of token files, name one split")
        return {}
    source = corpus.source if split == "all" else corpus.sources.get(split, corpus.source)
    parts = {corpus.name: corpus}
    if isinstance(source, Mixture):
        names = [f"sources[{number}] {type(each).__name__}" for number, each in enumerate(source.sources)]
        field = "source" if split == "all" else corpus.field_of(split)
        each_alone = (replace(corpus, **{field: each}) for each in source.sources)
        parts = dict(zip(names, each_alone, strict=True))
    with placed("--data"):
        found = {name: list(documents_of(part, split)) for name, part in parts.items()}
    pieces = (piece for documents in found.values() for document in documents for piece in document.pieces)
    if not any(piece.learned for piece in pieces):
        raise InputError(
            f"--split {split}: no document is in it that counts, and prompts do not; a hash of their content "
            "draws documents for a split, and --split all takes all of them"
        )
    return {name: documents for name, documents in found.items() if documents}


def tokenized(name: str, documents: list[Document], tokenizer: PreTrainedTokenizerFast) -> HeldOut:
    """A source's documents in the tokens of a model."""
    tokens, learned, ends = array("I"), bytearray(), array("q")
    utf8_bytes = characters = 0
    for _, document in encode_documents(tokenizer, enumerate(documents)):
        tokens += document.tokens
        learned += document.learned
        ends.append(len(tokens))
        utf8_bytes += len(document.text.encode())
        characters += len(document.text)
    counts = SplitCounts(len(ends), len(tokens), learned.count(True), utf8_bytes, characters)
    pieces = (piece for document in documents for piece in document.pieces if piece.learned)
    words = sum(len(piece.text.split()) for piece in pieces)
    return HeldOut(name, np.array(tokens), np.array(ends), np.frombuffer(learned, bool), counts, words)


def in_place(corpus: Corpus, split: Split, tokenizer: PreTrainedTokenizerFast, folder: str) -> HeldOut:
    """A split of token files, which have their counts in a `folder` of token stores.

    Raises:
        InputError: if they are of another tokenizer than the model's.
    """
    store = open_or_build(Path(folder), corpus, place="--data")
    if not same_vocabulary(store.tokenizer(), tokenizer):
        raise InputError(
            f"--data.source {corpus.name}: these ids are of a tokenizer with {store.vocab_size:,} entries, "
            f"which is not the model's of {len(tokenizer):,}; give text, which the model's own tokenizes"
        )
    tokens, ends = store.tokens(split)[:], np.asarray(store.document_ends(split))
    return HeldOut(
        corpus.name, tokens, ends if len(ends) > 1 else None, None, store.splits[split], words=None
    )


def documents_of(
    corpus: Corpus, split: Split | Literal["all"], remedy: str = "mend it, or say --data.on_error skip"
) -> Iterator[Document]:
    """The documents of a split, or of all.

    Raises:
        InputError: at a record that is no text, unless `on_error` says to skip it.
    """
    reject = corpus.rejecting(remedy)
    for _, document in corpus.documents(reject, None if split == "all" else split):
        yield document
