"""Several sources as one."""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import replace

from gpt2_lightning.data.documents import Document
from gpt2_lightning.data.sources.base import Digest, Source, TextSource
from gpt2_lightning.errors import FieldError, placed
from gpt2_lightning.files.lines import Reject, ignore


class Mixture(TextSource):
    """Several sources, each with a weight: how often its documents come in one epoch.

    With the weight 2 an epoch holds each document twice, with 0.5 half of the documents, chosen by
    a hash of their content, with 2.5 both. Held-out documents count once, whatever the weight.

    Args:
        sources: any sources, `Mixture` and `TokenFiles` left out.
        weights: one positive number per source; all 1 if not given.
    """

    def __init__(self, sources: list[Source], weights: list[float] | None = None) -> None:
        self.sources = sources
        self.weights = weights or [1.0] * len(sources)
        self.masks_prompts = any(source.masks_prompts for source in sources)
        self.is_instructions = all(source.is_instructions for source in sources)

    def check(self) -> None:
        if len(self.weights) != len(self.sources) or not self.sources or min(self.weights) <= 0:
            raise FieldError(
                f"weights {self.weights}: give one positive number for each of the {len(self.sources)} "
                "sources"
            )
        for number, source in enumerate(self.sources):
            with placed(f"sources[{number}]"):
                source.check()
            if isinstance(source, Mixture) or not isinstance(source, TextSource):
                raise FieldError(
                    f"sources[{number}] {type(source).__name__}: a mixture takes sources of documents alone; "
                    "mix them before, or list all files of one kind in its `paths`"
                )

    def fingerprint(self, digest: Digest) -> str:
        digests = []
        for number, source in enumerate(self.sources):
            with placed(f"sources[{number}]"):
                digests.append(source.fingerprint(digest))
        return hashlib.sha256(json.dumps([self.weights, digests]).encode()).hexdigest()

    def documents(self, reject: Reject) -> Iterator[Document]:
        for number, (source, weight) in enumerate(zip(self.sources, self.weights, strict=True)):
            assert isinstance(source, TextSource)
            for copy in range(math.ceil(weight)):
                share = min(1.0, weight - copy)
                with placed(f"sources[{number}]"):
                    for document in source.documents(reject if copy == 0 else ignore):
                        chosen = _position(document.text) < share
                        if not copy and chosen:
                            yield document
                        elif not copy or chosen:
                            yield replace(document, only_for="train" if copy else "held out")


def _position(text: str) -> float:
    """From 0 to 1 by the content; not the position that decides the split."""
    return int.from_bytes(hashlib.sha256(b"mixture" + text.encode()).digest()[:8], "big") / 2**64
