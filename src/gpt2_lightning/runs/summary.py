"""How a run stands: `summary.json`, and the table at its end."""

import math
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Timer
from transformers import GPT2LMHeadModel

from gpt2_lightning.callbacks.checkpoints import Checkpoints
from gpt2_lightning.callbacks.progress import format_seconds
from gpt2_lightning.callbacks.throughput import Throughput
from gpt2_lightning.data.datamodule import datamodule_of
from gpt2_lightning.metrics import perplexity
from gpt2_lightning.model.architecture import count_parameters
from gpt2_lightning.model.run_length import total_steps
from gpt2_lightning.runs.base import Base
from gpt2_lightning.runs.environment import git

T = TypeVar("T")


def summarize(trainer: Trainer, status: str, train_seconds: float) -> dict[str, Any]:
    """The content of `summary.json`: plain JSON, the unit in each name.

    `val_*` are those of the best checkpoint, which is the one exported; `None` before the first
    validation. `epochs` counts passes over the training tokens. `tokens_per_second` leaves out
    validation, samples and checkpoints, `train_seconds` does not.
    """
    folder = Path(trainer.default_root_dir)
    data = datamodule_of(trainer)
    train, validation = data.store.splits["train"], data.store.splits["validation"]
    throughput = find(trainer, Throughput)
    checkpoints = find(trainer, Checkpoints)
    total, trainable = count_parameters(cast(GPT2LMHeadModel, trainer.lightning_module.model))
    nll = checkpoints.best_nll if checkpoints.best_step is not None else None
    return {
        "experiment": folder.parent.name,
        "run": folder.name,
        "status": status,
        "steps": trainer.global_step,
        "tokens": throughput.tokens,
        "epochs": throughput.tokens / train.tokens,
        "train_seconds": train_seconds,
        "tokens_per_second": throughput.tokens_per_second,
        "peak_memory_bytes": throughput.peak_memory_bytes(),
        "parameters_total": total,
        "parameters_trainable": trainable,
        "val_nll": nll,
        "val_perplexity": None if nll is None else perplexity(nll),
        "val_bits_per_byte": None if nll is None else validation.bits_per_byte(nll),
        "val_bits_per_character": None if nll is None else validation.bits_per_character(nll),
        "xz_bits_per_byte": validation.xz_bits_per_byte,
        "best_step": checkpoints.best_step,
        "best_checkpoint": _relative(checkpoints.best, folder),
        "export": _relative(folder / "export", folder),
        "base": base.as_dict() if (base := base_of(trainer)) else None,
        "git_commit": git("rev-parse", "HEAD"),
        "seed": data.seed,
    }


def find(trainer: Trainer, kind: type[T]) -> T:
    """The run's callback of a class."""
    return next(callback for callback in trainer.callbacks if isinstance(callback, kind))  # pyright: ignore


def base_of(trainer: Trainer) -> Base | None:
    """What the run starts from."""
    module: Any = trainer.lightning_module
    return Base.of(module.recipe.pretrained)


def length(trainer: Trainer, num_batches: int | None = None) -> str:
    """How long the run is, in steps, tokens and epochs, and the option that ends it.

    Args:
        trainer: of the run.
        num_batches: micro-batches of an epoch; the trainer's own count if not given.
    """
    steps, data = total_steps(trainer, num_batches), datamodule_of(trainer)
    timer = next((each for each in trainer.callbacks if isinstance(each, Timer)), None)  # pyright: ignore
    until = f"until --trainer.max_time {timedelta(seconds=timer._duration)}" if timer else ""  # pyright: ignore
    if math.isinf(steps):
        return until
    option = "max_steps" if steps == trainer.max_steps else "max_epochs"
    rows_per_step = data.micro_batch_size * trainer.accumulate_grad_batches * trainer.world_size
    rows = (steps + data.steps_ahead) * rows_per_step  # a resumed run may have had steps of another size
    epochs = rows / len(data.rows_of("train"))
    tokens = f"{rows * data.block_size:,} tokens"
    said = f"{steps:,} steps, {tokens}, {epochs:.2f} epochs (--trainer.{option} {getattr(trainer, option)})"
    return f"{said}, or {until}" if until else said


def _relative(path: Path, folder: Path) -> str | None:
    return str(path.relative_to(folder)) if path.exists() else None


def table(summary: dict[str, Any]) -> str:
    """The numbers of a finished run, one a line; those of the validation if there was one."""
    rows = {
        "steps": f"{summary['steps']:,}",
        "tokens": f"{summary['tokens']:,} ({summary['epochs']:.2f} epochs)",
        "time": format_seconds(summary["train_seconds"]),
        "tokens/s": f"{summary['tokens_per_second']:,.0f}",
    }
    if summary["val_nll"] is not None:
        bits_per_byte, xz = summary["val_bits_per_byte"], summary["xz_bits_per_byte"]
        rows |= {
            "validation NLL": f"{summary['val_nll']:.4f} nats per token (step {summary['best_step']:,})",
            "perplexity": f"{summary['val_perplexity']:.2f}",
            "bits per byte": "unknown: there is no text" if bits_per_byte is None else f"{bits_per_byte:.4f}",
        }
        if xz is not None:
            rows["xz -9e on the same text"] = f"{xz:.4f} bits per byte"
    width = max(map(len, rows))
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in rows.items())
