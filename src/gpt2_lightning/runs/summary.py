"""How a run stands: `summary.json`, and the table at its end."""

from pathlib import Path
from typing import Any, TypeVar, cast

from lightning.pytorch import Trainer
from transformers import GPT2LMHeadModel

from gpt2_lightning.callbacks.checkpoints import Checkpoints
from gpt2_lightning.callbacks.progress import format_seconds
from gpt2_lightning.callbacks.throughput import Throughput
from gpt2_lightning.data.datamodule import datamodule_of
from gpt2_lightning.metrics import perplexity
from gpt2_lightning.model.architecture import count_parameters
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
        "git_commit": git("rev-parse", "HEAD"),
        "seed": data.seed,
    }


def find(trainer: Trainer, kind: type[T]) -> T:
    """The run's callback of a class."""
    return next(callback for callback in trainer.callbacks if isinstance(callback, kind))  # pyright: ignore


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
