"""What a run was trained on, and what of other text is in it."""

import hashlib
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from gpt2_lightning.data.corpus import Corpus
from gpt2_lightning.data.documents import Document
from gpt2_lightning.errors import InputError
from gpt2_lightning.inference.held_out import Text, documents_of
from gpt2_lightning.locations import locate
from gpt2_lightning.runs.run import Run


def corpus_options(name: str) -> dict[str, Any] | None:
    """The corpus of the run that a model is of, as its `config.yaml` has it; `None` if it is of no run.

    Args:
        name: folder of a run, or of its export; `<folder>/latest`.
    """
    path = Path(locate(name, "models"))
    return run.config["data"]["corpus"] if (run := Run.around(path)) else None


def corpus_of(name: str) -> Corpus | None:
    """The same, ready to be read; `None` too for token files, which hold no documents."""
    if (options := corpus_options(name)) is None:
        return None
    parser: Any = ArgumentParser(exit_on_error=False)
    parser.add_argument("--corpus", type=Corpus)
    try:
        corpus: Corpus = parser.instantiate_classes(parser.parse_object({"corpus": options})).corpus
    except ArgumentError as error:
        raise InputError(f"the corpus of its run: {error}") from None
    return None if corpus.is_in_place else corpus


def count_seen(texts: list[Text], trained_on: Corpus) -> list[int]:
    """How many documents of each text are, to the letter, in the training split of a corpus too."""
    wanted = [[_digest(document) for document in text.documents] for text in texts]
    everything = {digest for digests in wanted for digest in digests}
    training = map(_digest, documents_of(trained_on, "train"))
    found = {digest for digest in training if digest in everything}
    return [sum(digest in found for digest in digests) for digests in wanted]


def _digest(document: Document) -> bytes:
    return hashlib.sha256(document.text.strip().encode()).digest()
