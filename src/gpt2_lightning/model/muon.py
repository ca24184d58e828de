"""Muon: momentum whose matrices are orthogonalized before each step."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from gpt2_lightning.errors import InputError
from gpt2_lightning.machine.hardware import fastest_format

AdjustLR = Literal["match_rms_adamw", "original"]

_COEFFICIENTS = (
    (8.2193, -23.3375, 16.6266),
    (3.9681, -2.8404, 0.5161),
    (3.4599, -2.4914, 0.4779),
    (2.5359, -1.8730, 0.4411),
)
"""Of a x + b x³ + c x⁵, one a step: the four of least error in turn for singular values from 0.003 to 1.

They come to 1 ± 0.22 there, where the five steps of Jordan et al. come to 0.68 to 1.20. Each but the last is
2 % flatter than the best, so that a singular value which rounding moved past the end of its range comes back.
"""
_HEADROOM = 1.02
_BATCH_ELEMENTS = 2**24  # of one batch: large enough to fill a GPU, small enough to cost no memory


def orthogonalize(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """The matrices with their singular values near 1 and the same singular vectors.

    Source: Amsel et al. 2025, The Polar Express, https://arxiv.org/abs/2505.16932. Deviation: in float32
    and for matrices at least twice as wide as high, the polynomials are multiplied out in the small square
    matrix X Xᵀ, which halves the work; 16 bits are too few for that.

    Args:
        matrices: `(B, M, N)`, M ≤ N.
        dtype: the format of the products.

    Returns:
        `(B, M, N)` in `dtype`.
    """
    at_least_float32 = torch.promote_types(matrices.dtype, torch.float32)
    norms = torch.linalg.matrix_norm(matrices, keepdim=True, dtype=at_least_float32)  # (B, 1, 1)
    x = (matrices / (_HEADROOM * norms + 1e-7)).to(dtype)
    if dtype.itemsize == 2:
        for a, b, c in _COEFFICIENTS:  # a on the diagonal would round off what is beside it
            x = torch.baddbmm(x, _even_terms(x @ x.mT, b, c), x, beta=a)
        return x
    if 2 * x.shape[1] <= x.shape[2]:
        return _all_steps(x @ x.mT) @ x
    for coefficients in _COEFFICIENTS:
        x = _factor(x @ x.mT, *coefficients) @ x
    return x


def _even_terms(gram: Tensor, b: float, c: float) -> Tensor:
    """The even terms of a step, b G + c G² `(B, M, M)`, for G = X Xᵀ."""
    return torch.baddbmm(gram, gram, gram, beta=b, alpha=c)


def _factor(gram: Tensor, a: float, b: float, c: float) -> Tensor:
    """What a step multiplies X with: a I + b G + c G² `(B, M, M)`, for G = X Xᵀ."""
    factor = _even_terms(gram, b, c)
    factor.diagonal(dim1=-2, dim2=-1).add_(a)
    return factor


def _all_steps(gram: Tensor) -> Tensor:
    """The product of all steps' factors, which are polynomials in G = X Xᵀ as it is before the first."""
    product = None
    for number, coefficients in enumerate(_COEFFICIENTS, start=1):
        factor = _factor(gram, *coefficients)
        product = factor if product is None else factor @ product
        if number < len(_COEFFICIENTS):
            gram = factor @ gram @ factor
    assert product is not None
    return product


def layouts(model: nn.Module, parameters: Iterable[nn.Parameter]) -> list[dict[str, Any]]:
    """How the matrices of a GPT-2 lie in its parameters, as plain types that a checkpoint can hold.

    `inputs_first` tells Hugging Face's Conv1D, whose weights are (in, out), from a linear layer's (out, in);
    `parts` is 3 where queries, keys and values lie side by side along the outputs, and 1 elsewhere.
    """
    named = list(model.named_modules())
    attention = [(name, module) for name, module in named if "c_attn" in name.split(".")]
    qkv_outputs = {module.weight.shape[1] for _, module in attention if isinstance(module, Conv1D)}
    qkv = {id(own) for _, module in attention for own in module.parameters(recurse=False)}
    found = {}
    for _, module in named:
        inputs_first = isinstance(module, Conv1D)
        for own in module.parameters(recurse=False):
            outputs = own.shape[-1 if inputs_first else 0]
            is_qkv = id(own) in qkv and outputs in qkv_outputs  # not an adapter's matrix inside c_attn
            found[id(own)] = {"inputs_first": inputs_first, "parts": 3 if is_qkv else 1}
    return [found[id(parameter)] for parameter in parameters]


class _Matrix(NamedTuple):
    """One matrix to step: views `(R, C)` of a parameter, its gradient and its momentum."""

    weight: Tensor
    gradient: Tensor
    momentum: Tensor
    scale: float


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalized: each matrix moves as far in every direction.

    Queries, keys and values are three matrices each, though GPT-2 keeps them in one parameter. Matrices of
    one shape are orthogonalized in one batch, in the number format that the device multiplies fastest:
    bf16 where that is native, fp16 on GPUs with older tensor cores, float32 elsewhere.
    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/, with the polynomials of Amsel et
    al. 2025 (see `orthogonalize`).

    Args:
        params: groups of 2-dimensional parameters, each group with `layouts` as `layouts` gives them.
        lr: learning rate.
        momentum: decay rate of the running average of the gradients.
        weight_decay: decoupled, in units of the learning rate.
        adjust_lr_fn: how far a step goes, as in `MuonAdamW`.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.1,
        adjust_lr_fn: AdjustLR = "match_rms_adamw",
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        for name, value in defaults.items():
            if not value >= 0:
                raise ValueError(f"{name} {value}: must be at least 0")
        super().__init__(params, defaults | {"adjust_lr_fn": adjust_lr_fn})
        for group in self.param_groups:
            if any(parameter.ndim != 2 for parameter in group["params"]):
                raise ValueError("Muon is for matrices; a parameter has another number of dimensions")
            if len(group.get("layouts", ())) != len(group["params"]):
                raise ValueError("each parameter of Muon needs a layout, as muon.layouts gives it")

    @torch.no_grad()
    def step(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]  # MuonAdamW calls the closure
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[_Matrix]] = defaultdict(list)
            for parameter, layout in zip(group["params"], group["layouts"], strict=True):
                if parameter.grad is None:
                    continue
                momentum = self._momentum(parameter, group["momentum"])
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                for matrix in _matrices(parameter, momentum, layout, group["adjust_lr_fn"]):
                    by_shape[matrix.weight.shape].append(matrix)
            for shape, matrices in by_shape.items():
                at_once = max(1, _BATCH_ELEMENTS // shape.numel())
                for start in range(0, len(matrices), at_once):
                    _move(matrices[start : start + at_once], group["lr"], group["momentum"])

    def _momentum(self, parameter: Tensor, decay: float) -> Tensor:
        """The running average of the gradients, this one included."""
        assert parameter.grad is not None
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        return state["momentum_buffer"].lerp_(parameter.grad, 1 - decay)


def _matrices(
    parameter: Tensor, momentum: Tensor, layout: dict[str, Any], adjust_lr_fn: AdjustLR
) -> list[_Matrix]:
    """The matrices that lie in a parameter."""
    assert parameter.grad is not None
    along = 1 if layout["inputs_first"] else 0
    cut = [tensor.chunk(layout["parts"], along) for tensor in (parameter, parameter.grad, momentum)]
    matrices = []
    for views in zip(*cut, strict=True):
        rows, columns = views[0].shape
        outputs, inputs = (columns, rows) if layout["inputs_first"] else (rows, columns)
        matrices.append(_Matrix(*views, scale=_scale(outputs, inputs, adjust_lr_fn)))
    return matrices


def _move(matrices: list[_Matrix], lr: float, momentum: float) -> None:
    """Step matrices of one shape along Nesterov's momentum, orthogonalized."""
    weight = matrices[0].weight
    updates = weight.new_empty(len(matrices), *weight.shape)  # (B, R, C)
    for matrix, update in zip(matrices, updates, strict=True):
        torch.lerp(matrix.gradient, matrix.momentum, momentum, out=update)
    is_high, dtype = weight.shape[0] > weight.shape[1], fastest_format(weight.device)
    updates = orthogonalize(updates.mT, dtype).mT if is_high else orthogonalize(updates, dtype)
    for matrix, update in zip(matrices, updates, strict=True):
        matrix.weight.add_(update, alpha=-lr * matrix.scale)


def _scale(outputs: int, inputs: int, adjust_lr_fn: AdjustLR) -> float:
    if adjust_lr_fn == "original":
        return max(1.0, outputs / inputs) ** 0.5
    return 0.2 * max(outputs, inputs) ** 0.5


def check_layouts(state_dict: dict[str, Any]) -> None:
    """Refuse the state of a Muon that did not know how GPT-2's matrices lie.

    Raises:
        InputError: if it is one.
    """
    for group in state_dict["param_groups"]:
        if "ns_steps" in group and "layouts" not in group:
            raise InputError(
                "--ckpt_path: its Muon took queries, keys and values for one matrix, and today's takes them "
                "apart: the run would continue with another rule. Start it again, or continue it with the "
                "version of this project in the run's environment.json"
            )
