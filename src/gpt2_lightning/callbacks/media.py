"""Text and histograms, in whichever of TensorBoard and W&B a run logs to."""

import textwrap

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor


def record_text(trainer: Trainer, name: str, text: str) -> None:
    """Write one text at the current optimizer step, shown as it is."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text(
                name, textwrap.indent(text, "    "), trainer.global_step
            )  # Markdown: verbatim
        elif isinstance(logger, WandbLogger):
            table = [[str(trainer.global_step), text]]
            logger.log_text(name, columns=["step", "text"], data=table, step=trainer.global_step)


def record_histogram(trainer: Trainer, name: str, values: Tensor, step: int) -> None:
    """Write the distribution of the finite ones of `values` (any shape) at optimizer step `step`."""
    values = values.detach().float()
    values = values[values.isfinite()].cpu()
    if not len(values):
        return
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_histogram(name, values, step)
        elif isinstance(logger, WandbLogger):
            import wandb

            logger.log_metrics({name: wandb.Histogram(values.numpy())}, step=step)  # pyright: ignore


def can_show_media(trainer: Trainer) -> bool:
    """Whether any logger of the run takes text and histograms."""
    return any(isinstance(logger, TensorBoardLogger | WandbLogger) for logger in trainer.loggers)
