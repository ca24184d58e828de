"""Parameter groups, and an optimizer that is good at small budgets."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from gpt2_lightning.errors import InputError
from gpt2_lightning.model.muon import AdjustLR, Muon, check_layouts, layouts

HIDDEN_MATRICES = "hidden_matrices"
_FUSING_DEVICES = ("cpu", "cuda", "mps")
_HOW = ("fused", "foreach")
_REMEDY = "continue with the same, or start a new run from its weights: --model.pretrained <run>"
_SLOWER = ("foreach", "differentiable")  # what excludes a fused step


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """The trainable parameters in three named groups, without those that are empty.

    `hidden_matrices` (two dimensions, inside the blocks), `embeddings` (two dimensions, outside
    them) and `vectors` (biases and layer norms), the last without weight decay. The first has the
    `layouts` that `Muon` needs.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    hidden = [p for n, p in named if p.ndim >= 2 and ".h." in n]
    groups: list[dict[str, Any]] = [
        {"name": HIDDEN_MATRICES, "params": hidden, "layouts": layouts(model, hidden)},
        {"name": "embeddings", "params": [p for n, p in named if p.ndim >= 2 and ".h." not in n]},
        {"name": "vectors", "params": [p for n, p in named if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def fuse(optimizer: torch.optim.Optimizer) -> None:
    """Let Adam, AdamW and SGD take their fused step, where nothing was said of `fused` and `foreach`.

    torch's own choice takes one tensor at a time on a CPU: 4 times as long. A checkpoint's choice counts
    over this one, so that a run continues as it started.
    """
    if not isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW | torch.optim.SGD):
        return
    unsaid = not any(optimizer.defaults[option] for option in _SLOWER) and optimizer.defaults["fused"] is None
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if unsaid and all(p.device.type in _FUSING_DEVICES and p.is_floating_point() for p in parameters):
        for group in optimizer.param_groups:
            group["fused"] = True


def leave_scale_to_scaler(optimizer: Any) -> None:
    """Turn fusing off, where it would take fp16's loss scale out by itself, after gradients were clipped.

    One tensor at a time, the same optimizer leaves the scale to the scaler.
    """
    if getattr(optimizer, "_step_supports_amp_scaling", False):
        optimizer._step_supports_amp_scaling = False
        for group in optimizer.param_groups:
            group["fused"] = False


def keep_own_settings(optimizer: torch.optim.Optimizer) -> None:
    """Let a checkpoint restore the optimizer's state, and its settings stay those that were given.

    Learning rates, betas, decay and so on are then what the options say now, in every group. How a step is
    taken, `fused` or not, stays the checkpoint's where nothing was said of it.

    Raises:
        InputError: later, as a checkpoint is loaded, if it is of another class or of other tensors.
    """
    for group in optimizer.param_groups:
        group["kind"] = type(optimizer).__name__  # checkpointed
    optimizer.register_load_state_dict_pre_hook(_with_own_settings)


def _with_own_settings(optimizer: torch.optim.Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    loaded = state_dict["param_groups"]
    _check_same_kind(optimizer.param_groups, loaded)
    unsaid = {name for name in _HOW if optimizer.defaults.get(name) is None}
    groups = []
    for own, before in zip(optimizer.param_groups, loaded, strict=True):
        settings = {name: value for name, value in own.items() if name != "params" and name not in unsaid}
        groups.append(before | settings | {"initial_lr": own["lr"]})  # no step was taken: it is the peak
    return state_dict | {"param_groups": groups}


def _check_same_kind(own: list[dict[str, Any]], loaded: list[dict[str, Any]]) -> None:
    now, before = own[0], loaded[0]
    if "kind" in before:
        is_same = now["kind"] == before["kind"]
    else:  # of an earlier version
        is_same = now.keys() - {"kind"} == before.keys() - {"initial_lr"}
    if not is_same:
        was = before.get("kind", "another optimizer")
        raise InputError(f"--model.optimizer {now['kind']}: the checkpoint has the state of {was}; {_REMEDY}")
    sizes, were = ({g.get("name"): len(g["params"]) for g in groups} for groups in (own, loaded))
    if sizes != were:
        raise InputError(f"--model.trainable: {sizes} tensors train, and {were} in the checkpoint; {_REMEDY}")


class MuonAdamW(torch.optim.Optimizer):
    """Muon for the matrices inside the blocks, AdamW for everything else, as one optimizer.

    `Muon` and `torch.optim.AdamW` do the work, each on its groups; groups and state are shared with them,
    so that schedules, checkpoints and gradient scaling see one optimizer.

    Args:
        params: groups as `parameter_groups` makes them.
        lr: learning rate of AdamW, for embeddings and vectors.
        muon_lr_ratio: learning rate of Muon, for the hidden matrices, as a multiple of `lr`.
        muon_lr: the same as a number, in place of the ratio.
        betas: decay rates of AdamW's running averages.
        eps: added to AdamW's denominator.
        momentum: of Muon.
        weight_decay: decoupled, for matrices and embeddings, in units of the group's learning rate.
        adjust_lr_fn: how far a step of Muon goes, by the number of a matrix' outputs and inputs.
            `match_rms_adamw`: times 0.2 · √max(outputs, inputs), as far per element as AdamW's steps
            usually go, so that both may have one learning rate (Liu et al. 2025, Moonlight). `original`:
            times √max(1, outputs / inputs), so that what a layer puts out changes as much at every width
            (Jordan et al. 2024).
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float = 3e-3,
        muon_lr_ratio: float = 1.0,
        muon_lr: float | None = None,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        momentum: float = 0.95,
        weight_decay: float = 0.1,
        adjust_lr_fn: AdjustLR = "match_rms_adamw",
    ) -> None:
        if not lr >= 0:
            raise ValueError(f"Invalid learning rate: {lr}")
        groups = list(params)
        matrices = [group for group in groups if group.get("name") == HIDDEN_MATRICES]
        others = [group for group in groups if group.get("name") != HIDDEN_MATRICES]
        self._parts: list[torch.optim.Optimizer] = []
        if matrices:
            rate = lr * muon_lr_ratio if muon_lr is None else muon_lr
            self._parts.append(Muon(matrices, rate, momentum, weight_decay, adjust_lr_fn))
        if others:
            self._parts.append(
                torch.optim.AdamW(others, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=True)
            )
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Let both parts work on this optimizer's groups and state."""
        for part in self._parts:
            is_muon = isinstance(part, Muon)
            part.param_groups = [g for g in self.param_groups if (g["name"] == HIDDEN_MATRICES) == is_muon]
            part.state = self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        check_layouts(state_dict)
        super().load_state_dict(state_dict)
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss
