"""The learning-rate schedule, and the callback that owns the learning rate."""

import math
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer

from gpt2_lightning import metrics
from gpt2_lightning.errors import InputError
from gpt2_lightning.metrics import is_due, record
from gpt2_lightning.ranges import ClosedUnitInterval, NonNegativeInt

Schedule = Literal["cosine", "linear", "constant"]


def lr_multiplier(
    step: int, total_steps: int, warmup_steps: int, schedule: Schedule = "cosine", min_lr_ratio: float = 0.0
) -> float:
    """Share of the peak learning rate that optimizer step `step` gets, above 0 at every warm-up step.

    Rises linearly to 1, which the last of the `warmup_steps` gets, then falls from 1 to
    `min_lr_ratio` at `total_steps` along a line or half a cosine, or stays.

    Args:
        step: optimizer steps done before, from 0.
        total_steps: optimizer steps of the whole run.
        warmup_steps: steps of the rise.
        schedule: shape of the fall.
        min_lr_ratio: share left at the end, from 0 to 1.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if schedule == "constant":
        return 1.0
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    fall = 0.5 * (1 + math.cos(math.pi * progress)) if schedule == "cosine" else 1 - progress
    return min_lr_ratio + (1 - min_lr_ratio) * fall


class WarmupSchedule(Callback):
    """Owns the learning rate: linear warm-up, then a fall to the end of the run.

    Sets the rate of every parameter group before each micro-batch, from the group's own peak rate
    and `lr_multiplier`. It keeps no state: a resumed run continues the same curve. Records
    `train/learning_rate`, of the first group, every `trainer.log_every_n_steps` optimizer steps.

    Args:
        warmup_steps: optimizer steps until the peak; takes the place of `warmup_fraction`.
        warmup_fraction: share of the run until the peak, where `warmup_steps` is not given.
        schedule: how the rate falls after the peak.
        min_lr_ratio: share of the peak rate that is left at the end.
    """

    def __init__(
        self,
        warmup_steps: NonNegativeInt | None = None,
        warmup_fraction: ClosedUnitInterval = 0.03,
        schedule: Schedule = "cosine",
        min_lr_ratio: ClosedUnitInterval = 0.1,
    ) -> None:
        self.warmup_steps = warmup_steps
        self.warmup_fraction = warmup_fraction
        self.schedule: Schedule = schedule
        self.min_lr_ratio = min_lr_ratio

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._total_steps = total_steps(trainer)
        if self.warmup_steps is None:
            self._warmup_steps = round(self.warmup_fraction * self._total_steps)
        else:
            self._warmup_steps = self.warmup_steps
        if self._warmup_steps >= self._total_steps:
            raise InputError(
                f"--warmup: {self._warmup_steps} steps are not shorter than the run of {self._total_steps}"
            )
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group.setdefault("initial_lr", group["lr"])  # torch's own name for the peak; checkpointed

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        multiplier = lr_multiplier(
            trainer.global_step, self._total_steps, self._warmup_steps, self.schedule, self.min_lr_ratio
        )
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * multiplier

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        step = trainer.global_step + 1
        if is_due(trainer, step):
            record(trainer, {metrics.TRAIN_LEARNING_RATE: optimizer.param_groups[0]["lr"]}, step)


def total_steps(trainer: Trainer, num_batches: int | None = None) -> int:
    """Optimizer steps of the whole run, from `max_steps` and `max_epochs`, whichever ends first.

    Not `trainer.estimated_stepping_batches`: reading that makes Lightning drop the data position
    when a run is resumed (Lightning issue 20550).

    Args:
        trainer: of the run.
        num_batches: micro-batches of an epoch; the trainer's own count if not given.
    """
    bounds = []
    if trainer.max_steps > 0:
        bounds.append(trainer.max_steps)
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        batches = trainer.num_training_batches if num_batches is None else num_batches
        bounds.append(trainer.max_epochs * math.ceil(batches / trainer.accumulate_grad_batches))
    return min(bounds)
