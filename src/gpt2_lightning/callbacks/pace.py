"""How long a run will take on this machine, from two of its steps."""

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from gpt2_lightning.callbacks.progress import format_seconds
from gpt2_lightning.callbacks.throughput import Throughput
from gpt2_lightning.data.datamodule import datamodule_of
from gpt2_lightning.model.run_length import expected_steps, time_share, total_steps

_MEASURED = 2  # optimizer steps
_WARM_SECONDS = 2.0  # of training before them: the first steps set up memory and kernels
_FAR_LONGER = 3.0  # than a step's matrix products alone; usual are 1.2 to 2
_NOTICED_SECONDS = 0.1  # of a step: in a shorter one the overhead of each call counts, and nobody waits


@dataclass(frozen=True)
class StepTime:
    """Seconds of an optimizer step, by part.

    Attributes:
        data: waiting for batches.
        forward: of all micro-batches.
        backward: of all micro-batches.
        optimizer: gradient norm and clipping, the optimizer's own step, callbacks.
        products: what the step's matrix products alone would take at the machine's rate, if that is known.
    """

    data: float = 0.0
    forward: float = 0.0
    backward: float = 0.0
    optimizer: float = 0.0
    products: float | None = None

    @property
    def total(self) -> float:
        return self.data + self.forward + self.backward + self.optimizer

    @property
    def parts(self) -> dict[str, float]:
        """Share of each part."""
        return {
            name: getattr(self, name) / self.total for name in ("data", "forward", "backward", "optimizer")
        }

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {share:.0%}" for name, share in self.parts.items())
        return f"{self.total:.2f} s a step ({parts})"

    def accumulated(self, micro_batches: int) -> "StepTime":
        """The same with so many micro-batches in place of one."""
        return self._scaled(micro_batches, "data", "forward", "backward", "products")

    def times(self, factor: float) -> "StepTime":
        """With the computing scaled by `factor`; waiting for data stays."""
        return self._scaled(factor, "forward", "backward", "optimizer", "products")

    def _scaled(self, factor: float, *parts: str) -> "StepTime":
        known = {name: getattr(self, name) for name in parts}
        return replace(self, **{name: part * factor for name, part in known.items() if part is not None})

    def with_products(self, factor: float) -> "StepTime":
        """The same with matrix products that take so many times as long, a third of them forward."""
        assert self.products is not None
        more = max((factor - 1) * self.products, -(self.forward + self.backward) / 2)
        forward, backward = self.forward + more / 3, self.backward + 2 * more / 3
        return replace(self, forward=forward, backward=backward, products=factor * self.products)

    def slow_part(self) -> str | None:
        """Where a step takes far longer than its matrix products, which part takes most of it."""
        if self.products is None or self.total < max(_NOTICED_SECONDS, _FAR_LONGER * self.products):
            return None
        name, share = max(self.parts.items(), key=lambda part: part[1])
        return (
            f"a step takes {self.total / self.products:,.1f} times as long as its matrix products at this "
            f"machine's rate; {share:.0%} of it is {'waiting for data' if name == 'data' else f'the {name}'}"
        )


def run_seconds(
    trainer: Trainer, step: StepTime, steps: float, num_batches: int, num_val_batches: int
) -> float:
    """Estimate for so many optimizer steps and their validations; samples and checkpoints are left out.

    Validations that come by the clock are left out too.

    Args:
        trainer: whose settings say how often it validates.
        step: measured.
        steps: of the run, or what is left of it.
        num_batches: micro-batches of an epoch.
        num_val_batches: batches of a validation.
    """
    accumulate = trainer.accumulate_grad_batches
    interval = getattr(trainer, "val_check_interval", None) or math.inf  # none where it is a time
    every = interval if isinstance(interval, int) else interval * num_batches  # micro-batches
    validations = steps * accumulate / max(every, 1) / (trainer.check_val_every_n_epoch or 1)
    return steps * step.total + validations * num_val_batches * step.forward / accumulate


class Pace(Callback):
    """Says after the first steps how long the run will take, by two of them.

    These are the second and third, or in a quick run those after two seconds. Where a step takes far longer
    than its matrix products would at the machine's rate, it also says which part takes the time. The two
    steps wait for a GPU after each part, no others.

    Args:
        throughput: the run's callback that knows the machine's rate.
        ends: end the training there in place of saying it; `step` has the numbers in any case.
    """

    def __init__(self, throughput: Throughput, ends: bool = False) -> None:
        self._throughput = throughput
        self._ends = ends
        self.step: StepTime | None = None
        self._measures = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.step, self._seen_step = None, trainer.global_step
        self._started = time.perf_counter()

    def _begin(self, trainer: Trainer) -> None:
        self._measures, self._tokens = True, 0
        self._last_step = trainer.global_step + _MEASURED
        self._seconds = {"forward": 0.0, "backward": 0.0, "optimizer": 0.0}
        self._waited = datamodule_of(trainer).wait_seconds

    def _mark(self, pl_module: LightningModule, part: str | None = None) -> None:
        """The time since the last mark is a part's."""
        if not self._measures:
            return
        if pl_module.device.type != "cpu":
            torch.accelerator.synchronize()
        now = time.perf_counter()
        if part:
            self._seconds[part] += now - self._marked
        self._marked = now

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._mark(pl_module)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Any) -> None:
        self._mark(pl_module, "forward")

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._mark(pl_module, "backward")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._measures:
            self._mark(pl_module, "optimizer")
            self._tokens += batch["input_ids"].numel()
        if trainer.global_step == self._seen_step:  # inside an accumulation
            return
        self._seen_step = trainer.global_step
        if self._measures and self._seen_step == self._last_step:
            self._end(trainer)
        elif self.step is None and not self._measures:
            left = total_steps(trainer) - self._seen_step
            if left == _MEASURED or time.perf_counter() - self._started > _WARM_SECONDS:
                self._begin(trainer)

    def _end(self, trainer: Trainer) -> None:
        self._measures = False
        waited = datamodule_of(trainer).wait_seconds - self._waited
        parts = {name: seconds / _MEASURED for name, seconds in (self._seconds | {"data": waited}).items()}
        products = self._throughput.product_seconds(self._tokens / _MEASURED)
        self.step = StepTime(**parts, products=products)
        if self._ends:
            trainer.should_stop = True
        elif trainer.is_global_zero:
            self._say(trainer, self.step)

    def _say(self, trainer: Trainer, step: StepTime) -> None:
        left = math.ceil(expected_steps(trainer, time_share(trainer)) - trainer.global_step)
        if left < 1:
            return
        val_batches = sum(trainer.num_val_batches)  # pyright: ignore[reportArgumentType, reportCallIssue]
        seconds = run_seconds(trainer, step, left, int(trainer.num_training_batches), int(val_batches))
        bar = trainer.progress_bar_callback
        say = bar.print if bar is not None else print
        say(f"the {left:,} steps left take about {format_seconds(seconds)}: {step}")
        if slow := step.slow_part():
            say(slow)
