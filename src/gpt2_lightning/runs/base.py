"""The run that a run starts from."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gpt2_lightning.errors import InputError
from gpt2_lightning.runs.run import Run

_FAR_FEWER = 0.6  # of the bytes that a token has on the text it was made for


@dataclass(frozen=True)
class Base:
    """What is known of the weights that a run starts from.

    Attributes:
        name: the run's folder, a model's folder, or a hub id.
        trained_on: kind of the corpus; `None` if it is of no run here.
        bits_per_byte: on its own held-out text.
        bytes_per_token: of its tokenizer, there.
    """

    name: str
    trained_on: str | None = None
    bits_per_byte: float | None = None
    bytes_per_token: float | None = None

    @classmethod
    def of(cls, pretrained: str | None) -> "Base | None":
        """Of the option `--model.pretrained`; `None` for a run from scratch.

        Args:
            pretrained: a folder, with `latest` resolved, or a hub id.
        """
        if pretrained is None:
            return None
        run = Run.of_model(Path(pretrained).expanduser())
        if run is None:
            return cls(pretrained)
        try:
            source, summary = run.config["data"]["corpus"]["source"], run.summary
        except (InputError, KeyError, TypeError):
            return cls(str(run.folder))
        nll, bits = summary.get("val_nll"), summary.get("val_bits_per_byte")
        kind = str(source["class_path"] if isinstance(source, dict) else source).rpartition(".")[2]
        return cls(str(run.folder), kind, bits, nll / (bits * math.log(2)) if nll and bits else None)

    def __str__(self) -> str:
        known = [self.trained_on] if self.trained_on else []
        known += [f"{self.bits_per_byte:.2f} bits/byte"] if self.bits_per_byte else []
        return self.name + (f" ({', '.join(known)})" if known else "")

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)

    def misfit(self, bytes_per_token: float | None) -> str | None:
        """A warning where its tokenizer cuts another text into far smaller pieces than its own.

        Args:
            bytes_per_token: on the other text.
        """
        own = self.bytes_per_token
        if own is None or bytes_per_token is None or bytes_per_token > _FAR_FEWER * own:
            return None
        return (
            f"its tokenizer fits this text badly: {bytes_per_token:.2f} bytes a token, and {own:.2f} on its "
            "own text; take another base, or another tokenizer with --model.change_tokenizer true"
        )
