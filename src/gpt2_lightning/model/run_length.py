"""The length of a run, in optimizer steps or in time."""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

_SHORTEST_SHARE = 1e-3  # of the time: before that the pace cannot be known


def ends_step(trainer: "Trainer", batch_idx: int) -> bool:
    """Whether a training micro-batch is the last of its optimizer step."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch


def total_steps(trainer: "Trainer", num_batches: int | None = None) -> float:
    """Optimizer steps of the whole run, by `max_steps` and `max_epochs`, whichever ends first.

    Infinity where `max_time` alone ends it. Not `trainer.estimated_stepping_batches`: reading that
    makes Lightning drop the data position when a run is resumed (Lightning issue 20550).

    Args:
        trainer: of the run.
        num_batches: micro-batches of an epoch; the trainer's own count if not given.
    """
    bounds = [math.inf]
    if trainer.max_steps > 0:
        bounds.append(trainer.max_steps)
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        batches = trainer.num_training_batches if num_batches is None else num_batches
        ahead = getattr(getattr(trainer, "datamodule", None), "steps_ahead", 0)  # steps had another size
        bounds.append(trainer.max_epochs * math.ceil(batches / trainer.accumulate_grad_batches) - ahead)
    return min(bounds)


def expected_steps(trainer: "Trainer", share: float | None) -> float:
    """Optimizer steps of the whole run: `total_steps`, or fewer if `max_time` ends it earlier at its pace.

    Args:
        trainer: of the run.
        share: of `max_time` that has passed, as `time_share` gives it.
    """
    steps = total_steps(trainer)
    if share is None:
        return steps
    return min(steps, (trainer.global_step + 1) / max(share, _SHORTEST_SHARE))


def time_share(trainer: "Trainer") -> float | None:
    """Share of `max_time` that has passed by this rank's clock, also before a resume; `None` without one."""
    from lightning.pytorch.callbacks import Timer

    for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(callback, Timer):
            elapsed, left = callback.time_elapsed("train"), callback.time_remaining("train") or 0.0
            return min(1.0, elapsed / max(elapsed + left, 1e-9))
    return None
