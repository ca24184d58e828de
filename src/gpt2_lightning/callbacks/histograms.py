"""Distributions of gradients and weights, and how far a step moves the weights."""

import re
from collections import defaultdict
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from gpt2_lightning import metrics
from gpt2_lightning.callbacks.media import Histogram, can_show_media, record_histogram
from gpt2_lightning.metrics import record
from gpt2_lightning.ranges import NonNegativeInt

_BLOCK_PART = re.compile(r"h\.\d+\.\w+")  # h.3.attn.c_attn.weight: the part `attn` of block 3
_ELEMENTS = 65_536  # of each parameter, evenly spaced, that tell how far it moved: 256 KiB kept for a step


class Histograms(Callback):
    """Gradients and weights of the parts that train, once per N optimizer steps.

    A part is a piece of a block (`h.0.attn`, `h.0.mlp`, `h.0.ln_1`, ...), an embedding (`wte`, `wpe`), the
    last norm (`ln_f`), or what an adapter adds outside the blocks; frozen parameters are left out. In
    `on_before_optimizer_step` `gradients/<part>` and `weights/<part>` are written to TensorBoard and W&B:
    the gradient is that of the whole step, unscaled and before clipping; the weights are those it was
    computed at. After the step `update_to_weight/<block>`, ‖change‖ / ‖weights‖ by their L2 norms, is
    recorded in every logger; of parameters with more than 65,536 elements, so many evenly spaced ones
    tell both norms.

    Args:
        every_n_steps: optimizer steps between histograms; 0 turns them off.
    """

    def __init__(self, every_n_steps: NonNegativeInt = 100) -> None:
        self.every_n_steps = every_n_steps
        self._before: dict[str, Tensor] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        wanted = self.every_n_steps and not trainer.fast_dev_run  # pyright: ignore[reportAttributeAccessIssue]
        if wanted and not can_show_media(trainer):
            rank_zero_warn("histograms are off: neither TensorBoard nor W&B is among the loggers")

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        step = trainer.global_step + 1
        if not self.every_n_steps or step % self.every_n_steps or not trainer.is_global_zero:
            return
        trained = {name: p for name, p in pl_module.named_parameters() if p.grad is not None}
        self._before = {name: _spaced(parameter).clone() for name, parameter in trained.items()}
        if can_show_media(trainer):
            parts: dict[str, list[nn.Parameter]] = defaultdict(list)
            for name, parameter in trained.items():
                parts[part_of(name)].append(parameter)
            for part, parameters in parts.items():
                gradients = [p.grad for p in parameters if p.grad is not None]
                for kind, tensors in (("gradients", gradients), ("weights", parameters)):
                    if histogram := Histogram.of(tensors):
                        record_histogram(trainer, f"{kind}/{part}", histogram, step)

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self._before:
            return
        after = dict(pl_module.named_parameters())
        squares: dict[str, list[Tensor]] = defaultdict(lambda: [torch.zeros(()), torch.zeros(())])
        for name, before in self._before.items():
            share = after[name].numel() / before.numel()
            change = _spaced(after[name]) - before
            sums = torch.stack([change.float().square().sum(), before.float().square().sum()]) * share
            block = block_of(name)
            squares[block] = [a + b for a, b in zip(squares[block], sums.cpu(), strict=True)]
        self._before = {}
        ratios = {
            metrics.UPDATE_TO_WEIGHT_PREFIX + block: (change / weights).sqrt().item()
            for block, (change, weights) in squares.items()
            if weights > 0
        }
        record(trainer, ratios)


def part_of(name: str) -> str:
    """The part that a parameter belongs to: `model.transformer.h.0.attn.c_attn.weight` is of `h.0.attn`."""
    if match := _BLOCK_PART.search(name):
        return match[0]
    return name.rpartition("transformer.")[2].removeprefix("model.").split(".")[0]


def block_of(name: str) -> str:
    """The block, or the part outside the blocks, that a parameter belongs to."""
    return ".".join(part_of(name).split(".")[:2])


def _spaced(parameter: Tensor) -> Tensor:
    """At most `_ELEMENTS` elements of a parameter, evenly spaced."""
    flat = parameter.detach().flatten()
    return flat[:: max(1, -(-len(flat) // _ELEMENTS))]
