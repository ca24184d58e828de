"""Muon: momentum whose matrices are orthogonalized before each step."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from gpt2_lightning.errors import InputError
from gpt2_lightning.hardware import fastest_format

AdjustLR = Literal["match_rms_adamw", "original"]

_COEFFICIENTS = (
    (7.9347, -22.2581, 15.8015),
    (3.5755, -2.572, 0.4867),
    (2.6945, -2.0042, 0.4556),
)
"""Of a x + b x³ + c x⁵, one a step: the three of least error in turn for singular values from 0.01 to 1.

They come to 1 ± 0.28 there, where the five steps of Jordan et al. come to 0.68 to 1.20. Each but the last is
2 % flatter than the best, so that a singular value which rounding moved past the end of its range comes back.
"""
_HEADROOM, _TINY = 1.02, 1e-7
_BATCH_ELEMENTS = 2**24  # of one batch: large enough to fill a GPU, small enough to cost no memory


def orthogonalize(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """The matrices with their singular values near 1 and the same singular vectors.

    Source: Amsel et al. 2025, The Polar Express, https://arxiv.org/abs/2505.16932. Deviations: the largest
    singular value is bounded by the fourth root of Σ σ⁴, the norm of X Xᵀ, which is far closer to it than the
    norm of X and saves a step; and in float32, for matrices at least twice as wide as high, the polynomials
    are multiplied out in the small square matrix X Xᵀ, which halves the work. 16 bits are too few for that.

    Args:
        matrices: `(B, M, N)`, M ≤ N.
        dtype: the format of the products.

    Returns:
        `(B, M, N)` in `dtype`.
    """
    x = (matrices / (_norm(matrices) + _TINY)).to(dtype)
    gram = x @ x.mT  # (B, M, M)
    bound = _HEADROOM * _norm(gram).sqrt() + _TINY  # (B, 1, 1)
    x, gram = (x / bound).to(dtype), (gram / bound**2).to(dtype)
    if dtype.itemsize > 2 and 2 * x.shape[1] <= x.shape[2]:
        return _all_steps(gram) @ x
    for number, (a, b, c) in enumerate(_COEFFICIENTS, start=1):
        x = torch.baddbmm(x, _even_terms(gram, b, c), x, beta=a)
        if number < len(_COEFFICIENTS):
            gram = x @ x.mT
    return x


def _norm(matrices: Tensor) -> Tensor:
    """`(B, 1, 1)` in float32."""
    return torch.linalg.matrix_norm(matrices, keepdim=True, dtype=torch.float32)


def _even_terms(gram: Tensor, b: float, c: float) -> Tensor:
    """What a step multiplies X with, besides a I: b G + c G² `(B, M, M)`, for G = X Xᵀ."""
    return torch.baddbmm(gram, gram, gram, beta=b, alpha=c)


def _all_steps(gram: Tensor) -> Tensor:
    """The product of all steps' factors, which are polynomials in G = X Xᵀ as it is before the first."""
    product = None
    for number, (a, b, c) in enumerate(_COEFFICIENTS, start=1):
        factor = _even_terms(gram, b, c)
        factor.diagonal(dim1=-2, dim2=-1).add_(a)
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
    """One matrix to step: views `(M, N)`, M ≤ N, of a parameter, its gradient and its momentum."""

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

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises InputError for a state of torch's Muon, which took c_attn for one matrix."""
        check_layouts(state_dict)
        super().load_state_dict(state_dict)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[_Matrix]] = defaultdict(list)
            for parameter, layout in zip(group["params"], group["layouts"], strict=True):
                if parameter.grad is not None:
                    for matrix in self._matrices(parameter, layout, group):
                        by_shape[matrix.weight.shape].append(matrix)
            for shape, matrices in by_shape.items():
                at_once = max(1, _BATCH_ELEMENTS // shape.numel())
                for start in range(0, len(matrices), at_once):
                    _move(matrices[start : start + at_once], group["lr"], group["momentum"])
        return loss

    def _matrices(self, parameter: Tensor, layout: dict[str, Any], group: dict[str, Any]) -> list[_Matrix]:
        """Decay the parameter, take its gradient into the momentum, and cut all three into matrices."""
        assert parameter.grad is not None
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        momentum = state["momentum_buffer"].lerp_(parameter.grad, 1 - group["momentum"])
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        along = 1 if layout["inputs_first"] else 0
        cut = [tensor.chunk(layout["parts"], along) for tensor in (parameter, parameter.grad, momentum)]
        matrices = []
        for views in zip(*cut, strict=True):
            rows, columns = views[0].shape
            outputs, inputs = (columns, rows) if layout["inputs_first"] else (rows, columns)
            weight, gradient, average = views if rows <= columns else (view.mT for view in views)
            scale = _scale(outputs, inputs, group["adjust_lr_fn"])
            matrices.append(_Matrix(weight, gradient, average, scale))
        return matrices


def _move(matrices: list[_Matrix], lr: float, momentum: float) -> None:
    """Step matrices of one shape along Nesterov's momentum, orthogonalized."""
    weight = matrices[0].weight
    updates = weight.new_empty(len(matrices), *weight.shape)  # (B, M, N)
    for matrix, update in zip(matrices, updates, strict=True):
        torch.lerp(matrix.gradient, matrix.momentum, momentum, out=update)
    updates = orthogonalize(updates, fastest_format(weight.device))
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
                "apart: the run would go on by another rule. Start it again, or continue it with the "
                "version of this project in the run's environment.json"
            )
