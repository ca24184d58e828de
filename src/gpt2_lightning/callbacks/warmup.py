"""The learning-rate schedule, and the callback that owns the learning rate."""

import math
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer

from gpt2_lightning import metrics
from gpt2_lightning.errors import InputError
from gpt2_lightning.metrics import is_due, record
from gpt2_lightning.model.run_length import expected_steps, time_share, total_steps
from gpt2_lightning.ranges import ClosedUnitInterval, NonNegativeInt

Schedule = Literal["cosine", "linear", "constant", "inverse_sqrt", "wsd"]


def lr_multiplier(
    step: int,
    total_steps: float,
    warmup_steps: float,
    schedule: Schedule = "cosine",
    min_lr_ratio: float = 0.0,
    decay_fraction: float = 0.2,
) -> float:
    """Share of the peak learning rate that optimizer step `step` gets, above 0 at every warm-up step.

    Rises linearly to 1, which the last of the `warmup_steps` gets. Then, to `min_lr_ratio` at
    `total_steps`: along a line (`linear`), half a cosine (`cosine`), or staying at 1 and falling
    along a line over the last `decay_fraction` of all steps (`wsd`: warm-up, stable, decay); as 1/√step
    but never below `min_lr_ratio` (`inverse_sqrt`); or not at all (`constant`).

    Source: Loshchilov and Hutter 2017 (cosine); Vaswani et al. 2017 (inverse square root); Hu et al.
    2024, MiniCPM (warm-up, stable, decay).

    Args:
        step: optimizer steps done before, from 0.
        total_steps: optimizer steps of the whole run.
        warmup_steps: steps of the rise.
        schedule: shape of the fall.
        min_lr_ratio: share left at the end, from 0 to 1.
        decay_fraction: share of all steps in which `wsd` falls.
    """
    if step < warmup_steps:
        return min(1.0, (step + 1) / warmup_steps)
    if schedule == "constant":
        return 1.0
    if schedule == "inverse_sqrt":
        return max(min_lr_ratio, math.sqrt(max(1.0, warmup_steps) / max(1, step)))
    start = max(warmup_steps, (1 - decay_fraction) * total_steps) if schedule == "wsd" else warmup_steps
    progress = min(1.0, max(0.0, step - start) / max(1, total_steps - start))
    fall = 0.5 * (1 + math.cos(math.pi * progress)) if schedule == "cosine" else 1 - progress
    return min_lr_ratio + (1 - min_lr_ratio) * fall


class WarmupSchedule(Callback):
    """Owns the learning rate: linear warm-up, then a fall to the end of the run.

    Sets the rate of every parameter group before each micro-batch, from the group's own peak rate
    and `lr_multiplier`. It keeps no state: a resumed run continues the same curve, stretched to the run's
    length where that has changed, or another from `start_step` on. Where
    `trainer.max_time` ends the run, its length in steps is estimated again at each step from the pace
    so far, so that the curve ends with the time, unless a long validation takes its last part. Records
    `train/learning_rate`, the rate that the optimizer's `lr` stands for, every `trainer.log_every_n_steps`
    optimizer steps, and `learning_rate/<group>` where the groups have different ones.

    Args:
        start_step: optimizer step at which the curve starts, warm-up included; for more training of a
            finished run, the step that it is resumed at.
        warmup_steps: optimizer steps until the peak; overrides `warmup_fraction`.
        warmup_fraction: share of the run until the peak, where `warmup_steps` is not given.
        schedule: how the rate falls after the peak: `cosine`, `linear`, `inverse_sqrt`, `wsd` (stable,
            then a line down), or `constant`, which does not.
        min_lr_ratio: share of the peak rate that is left at the end.
        decay_fraction: share of the run in which `wsd` falls.
    """

    def __init__(
        self,
        start_step: NonNegativeInt = 0,
        warmup_steps: NonNegativeInt | None = None,
        warmup_fraction: ClosedUnitInterval = 0.03,
        schedule: Schedule = "cosine",
        min_lr_ratio: ClosedUnitInterval = 0.1,
        decay_fraction: ClosedUnitInterval = 0.2,
    ) -> None:
        self.start_step = start_step
        self.warmup_steps = warmup_steps
        self.warmup_fraction = warmup_fraction
        self.schedule: Schedule = schedule
        self.min_lr_ratio = min_lr_ratio
        self.decay_fraction = decay_fraction

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        steps = total_steps(trainer) - self.start_step
        if steps <= 0:
            raise InputError(
                f"--warmup.start_step {self.start_step}: the run has {total_steps(trainer)} steps; raise "
                "--trainer.max_steps"
            )
        if self._warmup_steps(steps) >= steps:
            raise InputError(
                f"--warmup: {self._warmup_steps(steps)} steps are not shorter than the run of {steps}"
            )
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group.setdefault("initial_lr", group["lr"])  # torch's own name for the peak; checkpointed

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        share = time_share(trainer)
        if share is not None and trainer.world_size > 1:
            share = trainer.strategy.broadcast(share)  # the first rank's clock counts for all
        steps = expected_steps(trainer, share) - self.start_step
        multiplier = lr_multiplier(
            max(0, trainer.global_step - self.start_step),
            steps,
            self._warmup_steps(steps),
            self.schedule,
            self.min_lr_ratio,
            self.decay_fraction,
        )
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * multiplier

    def _warmup_steps(self, steps: float) -> float:
        """Of a curve of so many steps."""
        if self.warmup_steps is not None:
            return self.warmup_steps
        share = self.warmup_fraction * steps
        return round(share) if math.isfinite(share) else 0  # the run's length is not known yet

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        step = trainer.global_step + 1
        if is_due(trainer, step):
            record(trainer, _rates(optimizer.param_groups), step)


def _rates(groups: list[dict[str, Any]]) -> dict[str, float]:
    """Of the last group, which is the optimizer's `lr`; and of each by its name, where they differ."""
    rates = {metrics.TRAIN_LEARNING_RATE: groups[-1]["lr"]}
    if len({group["lr"] for group in groups}) > 1:
        rates |= {metrics.LEARNING_RATE_PREFIX + group["name"]: group["lr"] for group in groups}
    return rates
