"""Names of the recorded metrics, and the one way to record them."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

TRAIN_NLL = "train/nll"
TRAIN_GRAD_NORM = "train/grad_norm"
TRAIN_LEARNING_RATE = "train/learning_rate"
TRAIN_TOKENS_PER_SECOND = "train/tokens_per_second"
TRAIN_MEAN_TOKENS_PER_SECOND = "train/mean_tokens_per_second"
TRAIN_MFU = "train/mfu"
TRAIN_DATA_WAIT_SHARE = "train/data_wait_share"
TRAIN_PEAK_MEMORY_BYTES = "train/peak_memory_bytes"
VAL_NLL = "val/nll"
VAL_PERPLEXITY = "val/perplexity"
VAL_BITS_PER_BYTE = "val/bits_per_byte"
VAL_BITS_PER_CHARACTER = "val/bits_per_character"
SAMPLES_DISTINCT_2 = "samples/distinct_2"
SAMPLES_REPEATED_4 = "samples/repeated_4"
EVENT_SKIPPED_STEPS = "events/skipped_steps"
UPDATE_TO_WEIGHT_PREFIX = "update_to_weight/"
LEARNING_RATE_PREFIX = "learning_rate/"
VAL_PREFIX = "val/"
TEST_PREFIX = "test/"

# What every run records; the columns of metrics.csv from its start.
NAMES = (
    TRAIN_NLL,
    TRAIN_GRAD_NORM,
    TRAIN_LEARNING_RATE,
    TRAIN_TOKENS_PER_SECOND,
    TRAIN_MEAN_TOKENS_PER_SECOND,
    TRAIN_MFU,
    TRAIN_DATA_WAIT_SHARE,
    TRAIN_PEAK_MEMORY_BYTES,
    VAL_NLL,
    VAL_PERPLEXITY,
    VAL_BITS_PER_BYTE,
    VAL_BITS_PER_CHARACTER,
)


CONFIDENCE = 1.96
"""Standard errors on each side of 95 %."""


def perplexity(nll: float) -> float:
    """`exp(nll)`; infinity where that overflows."""
    try:
        return math.exp(nll)
    except OverflowError:
        return math.inf


def record(trainer: "Trainer", metrics: Mapping[str, float], step: int | None = None) -> None:
    """Write `metrics` to every logger of `trainer`, against the optimizer step.

    `LightningModule.log` counts differently in each place and costs about a millisecond a call, so
    the callbacks record through this function, and only when something is due.

    Args:
        trainer: whose loggers take them.
        metrics: plain numbers by metric name.
        step: optimizer steps done; the trainer's count if not given.
    """
    for logger in trainer.loggers:
        logger.log_metrics(dict(metrics), step=trainer.global_step if step is None else step)


def is_due(trainer: "Trainer", step: int) -> bool:
    """Whether the metrics of optimizer step `step` are to be recorded."""
    every_n_steps: int = trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue]
    return every_n_steps > 0 and step % every_n_steps == 0
