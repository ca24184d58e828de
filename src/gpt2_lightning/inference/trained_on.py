"""What a run was trained on, and what of other text is in it."""

import hashlib
from itertools import chain
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from gpt2_lightning.data.corpus import Corpus
from gpt2_lightning.data.documents import Document
from gpt2_lightning.errors import InputError, placed
from gpt2_lightning.inference.held_out import Texts, documents_of
from gpt2_lightning.locations import locate
from gpt2_lightning.runs.run import Run


def corpus_options(name: str) -> dict[str, Any] | None:
    """The corpus of the run that a model is of, as its `config.yaml` has it; `None` if it is of no run.

    Args:
        name: folder of a run, or of its export; `<folder>/latest`.
    """
    path = Path(locate(name, "models"))
    run = Run.of_model(path) if path.is_dir() else None
    return run.config.get("data", {}).get("corpus") if run else None


def seen_documents(texts: Texts, name: str) -> list[int] | None:
    """How many documents of each source are, to the letter, in the training split of a model's run too.

    The whole training text is read for it.

    Args:
        texts: to look for.
        name: folder of a run, or of its export; `None` is returned for a model of no run.

    Raises:
        InputError: if what the run was trained on cannot be read, or is token files.
    """
    if (options := corpus_options(name)) is None:
        return None
    wanted = [list(map(_digest, documents)) for documents in texts.values()]
    everything = set(chain.from_iterable(wanted))
    try:
        with placed("--data.corpus"):
            training = map(_digest, documents_of(_corpus_of(options), "train", "mend it"))
            found = {digest for digest in training if digest in everything}
    except (ArgumentError, InputError) as error:
        raise InputError(f"--seen true: the corpus of {name!r} cannot be read: {error}") from None
    return [sum(digest in found for digest in digests) for digests in wanted]


def _corpus_of(options: dict[str, Any]) -> Corpus:
    parser: Any = ArgumentParser(exit_on_error=False)
    parser.add_argument("--corpus", type=Corpus)
    return parser.instantiate_classes(parser.parse_object({"corpus": options})).corpus


def _digest(document: Document) -> bytes:
    return hashlib.sha256(document.text.strip().encode()).digest()
