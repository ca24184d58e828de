"""The negative log-likelihood of the targets, from hidden states, without keeping float32 logits."""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Float32 logits held at a time: on a CPU what stays in its cache, elsewhere what keeps kernels large.
_CHUNK_BYTES_CPU = 2 * 2**20
_CHUNK_BYTES = 256 * 2**20


def linear_nll(
    hidden: Tensor, weight: Tensor, targets: Tensor, ignore_index: int = -100
) -> tuple[Tensor, Tensor]:
    """Σ −log P(target) over the targets, for logits `hidden @ weight.T`; and the number of targets.

    The same value as `cross_entropy(hidden @ weight.T, targets, reduction="sum")`. The logits are
    computed once, in autocast's type if autocast is on and in `hidden`'s otherwise, and become
    their own gradient in place, a few rows at a time in float32: one logits-sized buffer lives
    where log-softmax and its backward keep three in float32. On CUDA Liger's fused kernel does the
    same where `liger-kernel` is installed.

    Args:
        hidden: `(..., D)`, the last hidden states.
        weight: `(V, D)`, of the output layer.
        targets: `(...)`, int64 ids; `ignore_index` where nothing is predicted.
        ignore_index: torch's usual mark of a position without a target.

    Returns:
        The sum, a float32 scalar in nats, 0 if there is no target; and the number of targets, an
        int64 scalar. Both stay on the device.
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    flat = targets.flatten()
    if hidden.is_cuda and (fused := _liger()) is not None:
        nll = fused(hidden.flatten(0, -2), weight, flat, ignore_index=ignore_index, reduction="sum")
    elif torch.is_grad_enabled():
        nll: Any = _LinearNLL.apply(hidden.flatten(0, -2), weight, flat, ignore_index, dtype)
    else:
        nll = _nll(hidden.flatten(0, -2).to(dtype) @ weight.to(dtype).T, flat, ignore_index)
    return nll, (flat != ignore_index).sum()


@cache
def _liger() -> Callable[..., Tensor] | None:
    """Liger's kernel of the same sum, where `liger-kernel` is installed."""
    if find_spec("liger_kernel") is None:
        return None
    from liger_kernel.transformers.functional import (  # pyright: ignore[reportMissingImports]
        liger_fused_linear_cross_entropy,
    )

    return liger_fused_linear_cross_entropy


class _LinearNLL(torch.autograd.Function):
    """`linear_nll`'s sum; the backward pass is two matrix products with the kept gradient of the logits."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, ignore_index: int, dtype: torch.dtype
    ):
        hidden_cast, weight_cast = hidden.to(dtype), weight.to(dtype)
        logits = hidden_cast @ weight_cast.T  # (N, V)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for chunk, chunk_targets in zip(*_chunks(logits, targets), strict=True):
            total += _nll_and_gradient(chunk, chunk_targets, ignore_index)
        ctx.save_for_backward(logits, hidden_cast, weight_cast)
        ctx.dtypes = hidden.dtype, weight.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        grad, (grad_logits, hidden, weight) = grad_outputs[0], ctx.saved_tensors
        if grad_logits.dtype == torch.float16:  # scaled before the products, whose overflow the scaler cures
            grad_logits, grad = grad_logits * grad, torch.ones_like(grad)
        hidden_dtype, weight_dtype = ctx.dtypes
        grad_hidden = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_hidden = (grad_logits @ weight).to(hidden_dtype) * grad
        if ctx.needs_input_grad[1]:  # scaled in its small factor: the product has the size of the weight
            grad_weight = (grad_logits.T @ (hidden * grad).to(hidden.dtype)).to(weight_dtype)
        return grad_hidden, grad_weight, None, None, None


def _chunks(logits: Tensor, targets: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Views of a few rows each: of `logits` `(R, V)` and of `targets` `(R, 1)`."""
    budget = _CHUNK_BYTES_CPU if logits.device.type == "cpu" else _CHUNK_BYTES
    rows = max(1, budget // (4 * logits.shape[1]))
    return logits.split(rows), targets[:, None].split(rows)


def _nll(logits: Tensor, targets: Tensor, ignore_index: int) -> Tensor:
    """Sum of the NLL, where nobody asks for a gradient."""
    total = torch.zeros((), dtype=torch.float32, device=logits.device)
    for chunk, chunk_targets in zip(*_chunks(logits, targets), strict=True):
        counted = chunk_targets != ignore_index  # (R, 1)
        log_probabilities = torch.log_softmax(chunk, dim=1, dtype=torch.float32)
        total -= log_probabilities.gather(1, chunk_targets.where(counted, 0)).where(counted, 0).sum()
    return total


def _nll_and_gradient(logits: Tensor, targets: Tensor, ignore_index: int) -> Tensor:
    """Sum of the rows' NLL; `logits` `(R, V)` are overwritten by its gradient: softmax less one-hot."""
    counted = targets != ignore_index  # (R, 1)
    index = targets.where(counted, 0)
    work = torch.log_softmax(logits, dim=1, dtype=torch.float32)  # (R, V)
    nll = -work.gather(1, index).where(counted, 0).sum()
    work.exp_()
    work.scatter_add_(1, index, torch.full_like(index, -1, dtype=torch.float32))
    logits.copy_(work.mul_(counted))
    return nll
