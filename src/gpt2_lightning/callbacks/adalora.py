"""What AdaLoRA needs besides the loss: a penalty, and ranks that move between the matrices.

Source: Zhang et al. 2023, https://arxiv.org/abs/2303.10512; the allocation is PEFT's.
"""

import math
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from gpt2_lightning.errors import InputError
from gpt2_lightning.model.run_length import ends_step, total_steps

_KEY = "adalora"  # of a checkpoint


class AdaLoRA(Callback):
    """Adds the penalty to each optimizer step's gradients, and gives ranks to the matrices that need them.

    The penalty's gradients come in `on_before_optimizer_step`, unscaled and before clipping: this callback
    must stand before those that read gradients. Ranks are allocated after the step, in
    `on_train_batch_end`. Records no metrics.
    """

    @classmethod
    def needed_by(cls, adapter: Any) -> "list[AdaLoRA]":
        """The callback that a PEFT configuration needs, if it does."""
        return [cls()] if getattr(adapter, "peft_type", None) == "ADALORA" else []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.max_steps > 0:  # refused before a file is written
            _set_total_steps(pl_module.model, trainer.max_steps)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        _set_total_steps(pl_module.model, total_steps(trainer))
        model: Any = pl_module.model
        for values in _importance(model).values():  # a checkpoint's are on the CPU
            values.update({key: value.to(pl_module.device) for key, value in values.items()})

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        add_penalty_gradients(pl_module.model)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not ends_step(trainer, batch_idx):
            return
        module: Any = pl_module
        in_fp16 = getattr(trainer.precision_plugin, "scaler", None) is not None
        if in_fp16 and not module.grad_norm.isfinite():  # the scaler has left the step out, and waited for it
            return
        if any(parameter.grad is not None for parameter in module.parameters()):  # else the guards have
            module.model.base_model.update_and_allocate(trainer.global_step)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        model: Any = pl_module.model
        rank_pattern = model.active_peft_config.rank_pattern
        checkpoint[_KEY] = _importance(model) | {"rank_pattern": rank_pattern}

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        model: Any = pl_module.model
        for name, values in _importance(model).items():
            values.update(checkpoint[_KEY][name])
        model.active_peft_config.rank_pattern = checkpoint[_KEY]["rank_pattern"]


def _importance(model: Any) -> dict[str, dict[str, Tensor]]:
    """What PEFT's allocator remembers of each matrix between steps."""
    allocator = model.base_model.rankallocator
    return {name: getattr(allocator, name) for name in ("ipt", "exp_avg_ipt", "exp_avg_unc")}


def _set_total_steps(model: Any, steps: float) -> None:
    """Tell the allocator the length of the run in optimizer steps, in place of its configuration's.

    Raises:
        InputError: if that is not known, or too short for the configuration's `tinit` and `tfinal`.
    """
    config = model.active_peft_config
    if not config.tinit + 1 < steps - config.tfinal < math.inf:
        raise InputError(
            f"--model.adapter.tinit {config.tinit} and --model.adapter.tfinal {config.tfinal} need a longer "
            f"run than both together; this one has {steps} steps (--trainer.max_steps)"
        )
    model.base_model.rankallocator.set_total_step(steps)
    config.total_step = steps


def add_penalty_gradients(model: Any) -> None:
    """Add to the gradients those of `orth_reg_weight` · mean ‖PᵀP − I‖ over the factors P."""
    named = [(name, p) for name, p in model.named_parameters() if "lora_A" in name or "lora_B" in name]
    factors = {p: p if "lora_A" in name else p.T for name, p in named if p.requires_grad}
    with torch.enable_grad(), torch.autocast(model.device.type, enabled=False):
        distances = torch.stack([_distance(rows) for rows in factors.values()])
        penalty = model.active_peft_config.orth_reg_weight * distances.mean()
        gradients = torch.autograd.grad(penalty, list(factors))
    for parameter, gradient in zip(factors, gradients, strict=True):
        parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def _distance(rows: Tensor) -> Tensor:
    """How far the rows `(r, d)` are from orthonormal, a Frobenius norm."""
    return torch.linalg.matrix_norm(rows @ rows.T - torch.eye(len(rows), device=rows.device))
