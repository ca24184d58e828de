"""What AdaLoRA needs besides the loss: a penalty, and ranks that move between the matrices.

Source: Zhang et al. 2023, https://arxiv.org/abs/2303.10512; the allocation is PEFT's.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from gpt2_lightning.errors import InputError

_IMPORTANCE = ("ipt", "exp_avg_ipt", "exp_avg_unc")  # what PEFT's allocator remembers between steps


def is_adalora(model: nn.Module | None) -> bool:
    """Whether PEFT has put AdaLoRA into the model."""
    return hasattr(getattr(model, "base_model", None), "rankallocator")


def set_total_steps(model: Any, total_steps: float) -> None:
    """Tell the allocator how long the run is, in optimizer steps, whatever its configuration says.

    Raises:
        InputError: if nobody knows, or it is too short for the configuration's `tinit` and `tfinal`.
    """
    config = model.active_peft_config
    if not config.tinit + 1 < total_steps - config.tfinal < math.inf:
        raise InputError(
            f"--model.adapter.tinit {config.tinit} and --model.adapter.tfinal {config.tfinal} need a longer "
            f"run than both together; this one has {total_steps} steps (--trainer.max_steps)"
        )
    model.base_model.rankallocator.set_total_step(total_steps)
    config.total_step = total_steps


def add_penalty_gradients(model: Any, scale: float = 1.0) -> None:
    """Add to the gradients those of `orth_reg_weight` · mean ‖PᵀP − I‖ over the factors P.

    Args:
        model: adapted by AdaLoRA, after the backward pass of an optimizer step.
        scale: what the gradients that are there are scaled by (fp16).
    """
    factors = [
        (n, p) for n, p in model.named_parameters() if ("lora_A" in n or "lora_B" in n) and p.requires_grad
    ]
    with torch.enable_grad(), torch.autocast(factors[0][1].device.type, enabled=False):
        distances = [_distance(p if "lora_A" in n else p.T) for n, p in factors]
        penalty = model.active_peft_config.orth_reg_weight * torch.stack(distances).mean() * scale
    parameters = [p for _, p in factors]
    for parameter, gradient in zip(parameters, torch.autograd.grad(penalty, parameters), strict=True):
        parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def _distance(rows: Tensor) -> Tensor:
    """How far the rows `(r, d)` are from orthonormal, a Frobenius norm."""
    return torch.linalg.matrix_norm(rows @ rows.T - torch.eye(len(rows), device=rows.device))


def allocate(model: Any, step: int, may_overflow: bool) -> None:
    """Give ranks to the matrices that need them; after optimizer step `step`, before gradients go.

    Args:
        model: adapted by AdaLoRA.
        step: optimizer steps done.
        may_overflow: whether gradients may be infinite (fp16), whose step was left out: they tell
            nothing of importance.
    """
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    if not gradients:  # a step that was left out
        return
    if may_overflow and not torch.stack([gradient.isfinite().all() for gradient in gradients]).all():
        return
    model.base_model.update_and_allocate(step)


def state(model: Any) -> dict[str, Any]:
    """What a checkpoint keeps so that a resumed run allocates as the whole one would."""
    allocator = model.base_model.rankallocator
    kept: dict[str, Any] = {name: dict(getattr(allocator, name)) for name in _IMPORTANCE}
    return kept | {"rank_pattern": model.active_peft_config.rank_pattern}


def set_state(model: Any, state: dict[str, Any]) -> None:
    """Continue from what `state` gave."""
    allocator, device = model.base_model.rankallocator, next(model.parameters()).device
    for name in _IMPORTANCE:
        setattr(allocator, name, {key: value.to(device) for key, value in state[name].items()})
    model.active_peft_config.rank_pattern = state["rank_pattern"]
