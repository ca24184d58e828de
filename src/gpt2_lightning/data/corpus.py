"""What a corpus is: text, its tokenizer, and its split."""

import hashlib
import json
from dataclasses import dataclass, field

from gpt2_lightning.data.sources import Source
from gpt2_lightning.data.tokenizer import ByteLevelBPE, TokenizerRecipe
from gpt2_lightning.ranges import OpenUnitInterval


@dataclass
class Corpus:
    """A text, its tokenizer, and how much of it is held out; a file of `configs/data/`.

    Args:
        source: where the documents come from.
        tokenizer: how text becomes token ids.
        validation_fraction: share of the documents held out for validation, by a hash of their
            content.
    """

    source: Source
    tokenizer: TokenizerRecipe = field(default_factory=ByteLevelBPE)
    validation_fraction: OpenUnitInterval = 0.1

    @property
    def name(self) -> str:
        """The kind of source, for people."""
        return type(self.source).__name__

    def fingerprint(self) -> str:
        """SHA-256 (hex) of everything that decides the tokens: text, tokenizer, split."""
        parts = [self.source.fingerprint(), self.tokenizer.settings(), self.validation_fraction]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def is_held_out(self, text: str) -> bool:
        """Whether a document belongs to the validation split: decided by its content alone.

        So no document is in both splits, and adding documents moves none.
        """
        position = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
        return position < self.validation_fraction
