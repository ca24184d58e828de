"""Several sources as one."""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import replace

from gpt2_lightning.data.documents import Document, Record
from gpt2_lightning.data.sources.base import Digest, Source
from gpt2_lightning.data.sources.token_files import TokenFiles
from gpt2_lightning.errors import InputError


class Mixture(Source):
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

    def put_at(self, place: str) -> None:
        super().put_at(place)
        if len(self.weights) != len(self.sources) or not self.sources or min(self.weights) <= 0:
            raise InputError(
                f"{place}.weights {self.weights}: give one positive number for each of the "
                f"{len(self.sources)} sources"
            )
        for number, source in enumerate(self.sources):
            source.put_at(f"{place}.sources[{number}]")
            if isinstance(source, Mixture | TokenFiles):
                raise InputError(
                    f"{source.place} {type(source).__name__}: a mixture takes sources of documents alone; "
                    "mix them before, or list all files of one kind in its `paths`"
                )

    def fingerprint(self, digest: Digest) -> str:
        parts = [self.weights, [source.fingerprint(digest) for source in self.sources]]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def documents(self) -> Iterator[Record]:
        for source, weight in zip(self.sources, self.weights, strict=True):
            for copy in range(math.ceil(weight)):
                share = min(1.0, weight - copy)
                for record in source.documents():
                    if isinstance(record, Document):
                        chosen = _position(record.text) < share
                        if not copy and chosen:
                            yield record
                        elif not copy or chosen:
                            yield replace(record, only_for="train" if copy else "held out")
                    elif not copy:
                        yield record


def _position(text: str) -> float:
    """From 0 to 1 by the content; not the position that decides the split."""
    return int.from_bytes(hashlib.sha256(b"mixture" + text.encode()).digest()[:8], "big") / 2**64
