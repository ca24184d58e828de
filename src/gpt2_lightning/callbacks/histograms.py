"""Distributions of gradients and weights."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from gpt2_lightning.callbacks.media import can_show_media, record_histogram
from gpt2_lightning.ranges import NonNegativeInt


class Histograms(Callback):
    """Gradients and weights of every trainable parameter, once per N optimizer steps.

    Writes `gradients/<parameter>` and `weights/<parameter>` to TensorBoard and W&B, in
    `on_before_optimizer_step`: the gradient is that of the whole step, unscaled and before
    clipping; the weights are those it was computed at.

    Args:
        every_n_steps: optimizer steps between histograms; 0 turns them off.
    """

    def __init__(self, every_n_steps: NonNegativeInt = 100) -> None:
        self.every_n_steps = every_n_steps

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        wanted = self.every_n_steps and not trainer.fast_dev_run  # pyright: ignore[reportAttributeAccessIssue]
        if wanted and not can_show_media(trainer):
            rank_zero_warn("histograms are off: neither TensorBoard nor W&B is among the loggers")

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        step = trainer.global_step + 1
        if not self.every_n_steps or step % self.every_n_steps:
            return
        for name, parameter in pl_module.named_parameters():
            if parameter.grad is not None:
                name = name.rpartition("transformer.")[2].removeprefix("model.")
                record_histogram(trainer, f"gradients/{name}", parameter.grad, step)
                record_histogram(trainer, f"weights/{name}", parameter, step)
