"""Samples and histograms in TensorBoard and W&B, whichever a run logs to."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor

_BINS = 64
_EXACT = 1 << 23  # values whose counts float32, in which histc counts, holds exactly
_MARKUP = re.compile(r"[!-/:-@\[-`{-~]|^\s|\s(?=\s)|\s$")  # ASCII's punctuation, and space that would go


@dataclass(frozen=True)
class Histogram:
    """A distribution in bins of equal width.

    Attributes:
        counts: of the values in each bin, `(64,)`.
        edges: of the bins, `(65,)`, from the least value to the greatest.
        num: of the finite values.
        sum: of the finite values.
        sum_squares: of the finite values.
    """

    counts: np.ndarray
    edges: np.ndarray
    num: int
    sum: float
    sum_squares: float

    @classmethod
    def of(cls, tensors: Iterable[Tensor]) -> "Histogram | None":
        """Of the finite values of tensors together, computed where they are; `None` if there are none."""
        values = torch.cat([tensor.detach().flatten().float() for tensor in tensors])
        if not len(values):
            return None
        low, high = (bound.item() for bound in values.aminmax())
        if not abs(low) + abs(high) < float("inf"):
            return cls.of([values[values.isfinite()]])
        if low == high:
            low, high = low - 0.5, high + 0.5
        if torch.are_deterministic_algorithms_enabled():
            values = values.cpu()  # histc is not deterministic on CUDA
        counts = sum(torch.histc(some, _BINS, low, high).double() for some in values.split(_EXACT))
        assert isinstance(counts, Tensor)
        return cls(
            counts.cpu().numpy(),
            np.linspace(low, high, _BINS + 1),
            len(values),
            values.sum().item(),
            values.norm().item() ** 2,
        )


def record_histogram(trainer: Trainer, name: str, histogram: Histogram, step: int) -> None:
    """Write a distribution at optimizer step `step`."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_histogram_raw(
                name,
                min=float(histogram.edges[0]),
                max=float(histogram.edges[-1]),
                num=histogram.num,
                sum=histogram.sum,
                sum_squares=histogram.sum_squares,
                bucket_limits=histogram.edges[1:].tolist(),
                bucket_counts=histogram.counts.tolist(),
                global_step=step,
            )
        elif isinstance(logger, WandbLogger):
            import wandb

            bins = wandb.Histogram(np_histogram=(histogram.counts, histogram.edges))
            logger.log_metrics({name: bins}, step=step)  # pyright: ignore[reportArgumentType]


def record_samples(trainer: Trainer, samples: list[dict[str, Any]]) -> None:
    """Write texts of the current optimizer step: TensorBoard gets each, W&B a table.

    Args:
        trainer: of the run.
        samples: each with `step`, `prompt` and `text`, and figures of it.
    """
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            for number, sample in enumerate(samples):
                text = _as_markdown(sample["prompt"], "**") + _as_markdown(sample["text"])
                logger.experiment.add_text(f"samples/{number}", text, sample["step"])
        elif isinstance(logger, WandbLogger):
            import wandb

            rows: list[Any] = [list(sample.values()) for sample in samples]
            table = wandb.Table(columns=list(samples[0]), data=rows)
            logger.log_metrics({"samples": table}, step=samples[0]["step"])  # pyright: ignore[reportArgumentType]


def _as_markdown(text: str, mark: str = "") -> str:
    """The text as it is: nothing in it is markup, its lines are lines, and its spaces stay.

    Args:
        text: of any kind.
        mark: put around what each line has, `**` for bold.
    """
    lines = (_MARKUP.sub(_as_entity, line) for line in text.split("\n"))
    return "  \n".join(f"{mark}{line}{mark}" if line else "" for line in lines)


def _as_entity(found: re.Match[str]) -> str:
    return "&nbsp;" if found[0].isspace() else f"&#{ord(found[0])};"


def can_show_media(trainer: Trainer) -> bool:
    """Whether any logger of the run takes text and histograms."""
    return any(isinstance(logger, TensorBoardLogger | WandbLogger) for logger in trainer.loggers)
