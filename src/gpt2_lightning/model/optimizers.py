"""Parameter groups, and an optimizer that is good at small budgets."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import nn

HIDDEN_MATRICES = "hidden_matrices"


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """The trainable parameters in three named groups, without those that are empty.

    `hidden_matrices` (two dimensions, inside the blocks), `embeddings` (two dimensions, outside
    them) and `vectors` (biases and layer norms), the last without weight decay.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"name": HIDDEN_MATRICES, "params": [p for n, p in named if p.ndim >= 2 and ".h." in n]},
        {"name": "embeddings", "params": [p for n, p in named if p.ndim >= 2 and ".h." not in n]},
        {"name": "vectors", "params": [p for n, p in named if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def leave_scale_to_scaler(optimizer: Any) -> None:
    """Turn fusing off, where it would take fp16's loss scale out by itself, after gradients were clipped.

    One tensor at a time, the same optimizer leaves the scale to the scaler.
    """
    if getattr(optimizer, "_step_supports_amp_scaling", False):
        optimizer._step_supports_amp_scaling = False
        for group in optimizer.param_groups:
            group["fused"] = False


class MuonAdamW(torch.optim.Optimizer):
    """Muon for the matrices inside the blocks, AdamW for everything else, as one optimizer.

    `torch.optim.Muon` and `torch.optim.AdamW` do the work, each on its groups; groups and state are
    shared with them, so that schedules, checkpoints and gradient scaling see one optimizer.
    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/.

    Args:
        params: groups as `parameter_groups` makes them.
        lr: learning rate of AdamW, for embeddings and vectors.
        muon_lr: learning rate of Muon, for the hidden matrices.
        betas: decay rates of AdamW's running averages.
        eps: added to AdamW's denominator.
        momentum: of Muon.
        weight_decay: decoupled, for matrices and embeddings, in units of the group's learning rate.
        adjust_lr_fn: what the size of Muon's updates follows. `match_rms_adamw`: times
            0.2 · √max(rows, columns), so that one learning rate means the same as AdamW's (Liu et al. 2025,
            Moonlight), and suits one width. `original`: updates of the spectral norm √max(1, rows/columns)
            at every width, so that one learning rate suits many (Yang et al. 2023, A Spectral Condition for
            Feature Learning).
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float = 3e-3,
        muon_lr: float = 0.02,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        momentum: float = 0.95,
        weight_decay: float = 0.1,
        adjust_lr_fn: Literal["match_rms_adamw", "original"] = "match_rms_adamw",
    ) -> None:
        groups = list(params)
        matrices = [group for group in groups if group.get("name") == HIDDEN_MATRICES]
        others = [group for group in groups if group.get("name") != HIDDEN_MATRICES]
        self._parts: list[torch.optim.Optimizer] = []
        if matrices:
            self._parts.append(
                torch.optim.Muon(
                    matrices,
                    lr=muon_lr,
                    momentum=momentum,
                    weight_decay=weight_decay,
                    adjust_lr_fn=adjust_lr_fn,
                )
            )
        if others:
            self._parts.append(
                torch.optim.AdamW(others, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=True)
            )
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Let both parts work on this optimizer's groups and state."""
        for part in self._parts:
            is_muon = isinstance(part, torch.optim.Muon)
            part.param_groups = [g for g in self.param_groups if (g["name"] == HIDDEN_MATRICES) == is_muon]
            part.state = self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
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
