"""The negative log-likelihood of the targets, from hidden states, without keeping float32 logits."""

from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Logits held at a time, and of these in float32: on a CPU little memory and what stays in its cache,
# elsewhere what keeps kernels large.
_LOGITS_BYTES_CPU, _FLOAT32_BYTES_CPU = 64 * 2**20, 2 * 2**20
_LOGITS_BYTES_CPU_16_BIT = 256 * 2**20  # adding up a part's gradient of the weight in float32 is a pass more
_LOGITS_BYTES, _FLOAT32_BYTES = 4 * 2**30, 256 * 2**20
_FP16_SCALE = 256.0


def linear_nll(
    hidden: Tensor, weight: Tensor, targets: Tensor, ignore_index: int = -100
) -> tuple[Tensor, Tensor]:
    """Σ −log P(target) over the targets, for logits `hidden @ weight.T`; and the number of targets.

    The same value as `cross_entropy(hidden @ weight.T, targets, reduction="sum")`. The logits are
    computed once, in autocast's type if autocast is on and in `hidden`'s otherwise, and become
    their own gradient in place, a few rows at a time in float32: where log-softmax and its backward
    keep three float32 buffers of all logits, this keeps a part of one. The gradients are there after
    the forward pass. On CUDA Liger's fused kernel does the same where `liger-kernel` is installed.

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
    rows, flat = hidden.flatten(0, -2), targets.flatten()
    if hidden.is_cuda and (fused := _liger()) is not None:
        nll = fused(rows, weight, flat, ignore_index=ignore_index, reduction="sum")
    elif torch.is_grad_enabled():
        nll: Any = _LinearNLL.apply(rows, weight, flat, ignore_index, dtype)
    else:
        nll = _nll(rows.to(dtype), weight.to(dtype), flat, ignore_index)
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
    """`linear_nll`'s sum; the forward pass leaves its gradients, which the backward pass scales."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, ignore_index: int, dtype: torch.dtype
    ):
        hidden_cast, weight_cast = hidden.to(dtype), weight.to(dtype)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grad_hidden = torch.empty_like(hidden_cast) if ctx.needs_input_grad[0] else None  # (N, D)
        grad_weight = None  # (V, D)
        start = 0
        for logits, rows, row_targets in _logits(hidden_cast, weight_cast, targets):
            for chunk, chunk_targets in _chunks(logits, row_targets):
                total += _nll_and_gradient(chunk, chunk_targets, ignore_index)
            if grad_hidden is not None:
                torch.mm(logits, weight_cast, out=grad_hidden[start : start + len(rows)])
            if ctx.needs_input_grad[1]:
                grad_weight = _plus_product(grad_weight, logits.T, rows, weight.dtype)
            start += len(rows)
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.hidden_dtype = hidden.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        grad, (grad_hidden, grad_weight) = grad_outputs[0], ctx.saved_tensors
        if grad_hidden is not None:
            grad_hidden = grad_hidden.to(ctx.hidden_dtype) * grad
        if grad_weight is not None:
            grad_weight = grad_weight.mul_(grad)
        return grad_hidden, grad_weight, None, None, None


def _plus_product(total: Tensor | None, left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    """`total + left @ right` in `total`, which is of `dtype`; zero if not given."""
    if left.dtype == torch.float16:  # whose largest number, 65,504, a common token's sum would pass
        product = (left @ (right / _FP16_SCALE)).to(dtype) * _FP16_SCALE
        return product if total is None else total.add_(product)
    if total is None:
        return (left @ right).to(dtype)
    if total.dtype == left.dtype:
        return total.addmm_(left, right)
    return total.add_(left @ right)


def _logits(hidden: Tensor, weight: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Logits `(R, V)` of a part of the rows, in one buffer for all; their hidden states and targets."""
    on_cpu = _LOGITS_BYTES_CPU_16_BIT if hidden.element_size() == 2 else _LOGITS_BYTES_CPU
    budget = on_cpu if hidden.device.type == "cpu" else _LOGITS_BYTES
    num_rows = max(1, budget // (hidden.element_size() * len(weight)))
    buffer = hidden.new_empty(min(num_rows, len(hidden)), len(weight))
    for rows, row_targets in zip(hidden.split(num_rows), targets.split(num_rows), strict=True):
        yield torch.mm(rows, weight.T, out=buffer[: len(rows)]), rows, row_targets


def _chunks(logits: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Views of a few rows each: of `logits` `(R, V)` and of `targets` `(R, 1)`."""
    budget = _FLOAT32_BYTES_CPU if logits.device.type == "cpu" else _FLOAT32_BYTES
    rows = max(1, budget // (4 * logits.shape[1]))
    return zip(logits.split(rows), targets[:, None].split(rows), strict=True)


def _nll(hidden: Tensor, weight: Tensor, targets: Tensor, ignore_index: int) -> Tensor:
    """Sum of the NLL, without a gradient."""
    total = torch.zeros((), dtype=torch.float32, device=hidden.device)
    for logits, _, row_targets in _logits(hidden, weight, targets):
        for chunk, chunk_targets in _chunks(logits, row_targets):
            counted = chunk_targets != ignore_index  # (R, 1)
            log_probabilities = torch.log_softmax(chunk, dim=1, dtype=torch.float32)
            total -= log_probabilities.gather(1, chunk_targets.where(counted, 0)).where(counted, 0).sum()
    return total


def _nll_and_gradient(logits: Tensor, targets: Tensor, ignore_index: int) -> Tensor:
    """Sum of the rows' NLL; `logits` `(R, V)` are overwritten by its gradient: softmax less one-hot."""
    counted = targets != ignore_index  # (R, 1)
    index = targets.where(counted, 0)
    work = torch.log_softmax(logits, dim=1, dtype=torch.float32)  # (R, V)
    of_targets = work.gather(1, index)  # (R, 1)
    torch.exp(work, out=work if logits.dtype != work.dtype else logits)
    if logits.dtype != work.dtype:
        logits.copy_(work)
    logits.scatter_(1, index, (of_targets.exp() - 1).to(logits.dtype))
    if not logits.is_cpu or not counted.all():  # elsewhere, looking at it would wait for the device
        logits.mul_(counted)
    return -of_targets.where(counted, 0).sum()
