"""What stops a run whose numbers have gone wrong."""

import json
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from gpt2_lightning import metrics
from gpt2_lightning.data.datamodule import datamodule_of
from gpt2_lightning.errors import DivergedError
from gpt2_lightning.files.whole import replacing
from gpt2_lightning.metrics import is_due, record
from gpt2_lightning.ranges import NonNegativeInt

_LEAST_SCALE = 2.0**-10  # of the loss in fp16; it starts at 2^16 and is halved at each overflow


class Guards(Callback):
    """Stops a run whose loss or gradient is not finite.

    A step whose NLL or gradient norm is NaN or infinite ends the run with exit code 1, and so do a validation
    loss or weights that are not finite. No checkpoint is written after it, and the rows of such a step lie in
    `nonfinite/step_<n>.jsonl` of the run's folder. On a CPU every step is checked; on a GPU recorded steps,
    and all of them before a checkpoint, so that no other step waits for the device. In fp16 the loss scaler
    leaves steps with infinite gradients out. The numbers are the module's `step_nll` and `grad_norm`.

    Args:
        skip_nonfinite_steps: so many of such steps are left out, weights and optimizer untouched, and
            counted as `events/skipped_steps`, before one stops the run; every step waits for the device
            then.
    """

    def __init__(self, skip_nonfinite_steps: NonNegativeInt = 0) -> None:
        self.skip_nonfinite_steps = skip_nonfinite_steps
        self._skipped = 0
        self._step = 0
        self._scaler: Any = None  # of the loss, in fp16
        self._first_bad = torch.tensor(-1)  # number of the first such step, on the device; -1 for none

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._step = trainer.global_step
        self._first_bad = torch.full((), -1, device=pl_module.device)
        self._scaler = getattr(trainer.precision_plugin, "scaler", None)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        if self._skipped >= self.skip_nonfinite_steps:
            return
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        module: Any = pl_module
        if self._is_finite(module.step_nll, norm):
            return
        for parameter in pl_module.parameters():
            parameter.grad = None  # which makes the optimizer leave it as it is
        self._skipped += 1
        step = trainer.global_step + 1
        self._write_rows(trainer, step)
        if trainer.is_global_zero:
            bar = trainer.progress_bar_callback
            (bar.print if bar is not None else print)(
                f"step {step} is left out: its loss or gradient is not finite"
            )
        record(trainer, {metrics.EVENT_SKIPPED_STEPS: float(self._skipped)}, step)
        self._step = step  # checked

    def _is_finite(self, nll: Tensor, grad_norm: Tensor) -> Tensor:
        return nll.isfinite() if self._scaler is not None else nll.isfinite() & grad_norm.isfinite()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        module: Any = pl_module
        finite, on_cpu = self._is_finite(module.step_nll, module.grad_norm), pl_module.device.type == "cpu"
        if not on_cpu or not finite:
            self._first_bad = torch.where(~finite & (self._first_bad < 0), self._step, self._first_bad)
        due = is_due(trainer, self._step)
        if due or on_cpu:
            self._stop_if_bad(trainer, module)
        if due:
            self._check_scale()

    def _check_scale(self) -> None:
        """In fp16, stop where every gradient overflows however small the loss is made."""
        if self._scaler is not None and (scale := self._scaler.get_scale()) < _LEAST_SCALE:
            raise DivergedError(
                f"optimizer step {self._step}: the gradients overflow in fp16 even with the loss scaled by "
                f"{scale:g}: the run is stopped. Try a lower learning rate, or --trainer.precision 32-true"
            )

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Stop before a checkpoint of weights that are not finite takes the place of a good one."""
        self._stop_if_bad(trainer, pl_module)
        trained = [parameter for parameter in pl_module.parameters() if parameter.requires_grad]
        if not torch.stack([parameter.isfinite().all() for parameter in trained]).all():
            raise DivergedError(
                f"optimizer step {trainer.global_step}: weights are not finite: the run is stopped, and no "
                "checkpoint is written any more. Try a lower learning rate or a longer warm-up"
            )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop where the validation loss is not finite, before it is called a checkpoint's."""
        is_fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if is_fitting and not (nll := trainer.callback_metrics[metrics.VAL_NLL]).isfinite():
            raise DivergedError(
                f"optimizer step {trainer.global_step}: the validation loss is {nll.item():g}: the run is "
                "stopped, and no checkpoint is written any more. Try a lower learning rate"
            )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop_if_bad(trainer, pl_module)

    def _stop_if_bad(self, trainer: Trainer, module: Any) -> None:
        step = int(self._first_bad)
        if step < 0:
            return
        place = self._write_rows(trainer, step)
        numbers = ""
        if step == trainer.global_step:
            numbers = f" (nll {module.step_nll.item():g}, gradient norm {module.grad_norm.item():g})"
        more = self.skip_nonfinite_steps + 10
        raise DivergedError(
            f"optimizer step {step} is not finite{numbers}: the run is stopped, and no checkpoint is written "
            f"any more. The rows of that step are in {place}. Try a lower learning rate or a longer "
            f"warm-up, or leave such steps out: --guards.skip_nonfinite_steps {more}"
        )

    def _write_rows(self, trainer: Trainer, step: int) -> Path:
        """The rows that an optimizer step was computed from, one a line: `row` and `text`."""
        place = Path(trainer.default_root_dir) / "nonfinite" / f"step_{step}.jsonl"
        if trainer.is_global_zero:
            place.parent.mkdir(parents=True, exist_ok=True)
            with replacing(place) as file:
                for row, text in datamodule_of(trainer).rows_of_step(step):
                    file.write(json.dumps({"row": row, "text": text}, ensure_ascii=False) + "\n")
        return place

    def state_dict(self) -> dict[str, Any]:
        return {"skipped": self._skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._skipped = state_dict["skipped"]
