"""Checks across sections of a configuration, before any work is done."""

import tempfile
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from transformers.activations import ACT2FN

from gpt2_lightning.errors import InputError


def check(config: Namespace) -> None:
    """Refuse settings that are each allowed but do not fit together.

    Args:
        config: of one verb (`fit`, `validate`, ...), parsed.

    Raises:
        InputError: naming the options, their values and the remedy.
    """
    if isinstance(config.seed_everything, bool) or config.seed_everything < 0:
        raise InputError(f"--seed_everything {config.seed_everything}: give a whole number from 0")
    _check_activation(config.model.architecture.activation_function)
    _check_length(config)
    _check_callbacks(config.trainer.callbacks)
    if config.get("patience") and config.trainer.limit_val_batches == 0:
        raise InputError(
            f"--patience {config.patience}: never ends a run without validations, "
            "--trainer.limit_val_batches 0"
        )
    if config.ckpt_path and not Path(config.ckpt_path).is_file():
        raise InputError(
            f"--ckpt_path {str(config.ckpt_path)!r}: no such file; runs keep theirs in checkpoints/"
        )
    _check_writable(Path(config.data.folder), "--data.folder")


def _check_activation(name: str | None) -> None:
    if name is not None and name not in ACT2FN:
        close = get_close_matches(name, list(ACT2FN), n=1)
        raise InputError(
            f"--model.architecture.activation_function {name!r} is unknown"
            + (f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(sorted(ACT2FN))}")
        )


_REFUSED_CALLBACKS = {
    "BackboneFinetuning": "what trains is fixed at the start, by --model.trainable",
    "LearningRateFinder": "the schedule of --warmup sets the learning rate at every step; compare rates by "
    "short runs with different --model.optimizer.lr",
    "BatchSizeFinder": "the rows of an optimizer step decide the order of the data; try "
    "--data.micro_batch_size by runs with --trainer.max_steps 3, and keep the rows of a step with "
    "--trainer.accumulate_grad_batches",
}


def _check_callbacks(callbacks: Any) -> None:
    for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
        class_path = callback.get("class_path") if isinstance(callback, Namespace) else None
        name = str(class_path).rpartition(".")[2]
        if reason := _REFUSED_CALLBACKS.get(name):
            raise InputError(f"--trainer.callbacks {name}: is not supported: {reason}")


def _check_length(config: Namespace) -> None:
    trainer, warmup_steps = config.trainer, config.warmup.warmup_steps
    has_steps = trainer.max_steps > 0
    has_epochs = trainer.max_epochs is not None and trainer.max_epochs > 0
    if not has_steps and not has_epochs and not trainer.max_time:
        raise InputError(
            "the learning-rate schedule needs to know how long the run is: give --trainer.max_steps or "
            "--trainer.max_epochs, at least 1, or --trainer.max_time"
        )
    _check_accumulation(trainer)
    if trainer.gradient_clip_val is not None and trainer.gradient_clip_val < 0:
        raise InputError(
            f"--trainer.gradient_clip_val {trainer.gradient_clip_val}: must be at least 0; 0 is off"
        )
    if warmup_steps is not None and has_steps and warmup_steps >= trainer.max_steps:
        raise InputError(
            f"--warmup.warmup_steps {warmup_steps} is not shorter than the run, --trainer.max_steps "
            f"{trainer.max_steps}: shorten it, or give --warmup.warmup_fraction instead"
        )


def _check_accumulation(trainer: Namespace) -> None:
    accumulate, interval = trainer.accumulate_grad_batches, trainer.val_check_interval
    if accumulate < 1:
        raise InputError(f"--trainer.accumulate_grad_batches {accumulate}: must be at least 1")
    if isinstance(interval, int) and interval % accumulate:
        raise InputError(
            f"--trainer.val_check_interval {interval} (micro-batches) is no multiple of "
            f"--trainer.accumulate_grad_batches {accumulate}: it would fall inside a step; "
            f"take {(interval // accumulate + 1) * accumulate}"
        )
    limit = trainer.limit_train_batches
    if isinstance(limit, int) and limit % accumulate:
        raise InputError(
            f"--trainer.limit_train_batches {limit} is no multiple of --trainer.accumulate_grad_batches "
            f"{accumulate}: an epoch would end inside a step"
        )
    if isinstance(interval, float) and interval != 1.0 and trainer.check_val_every_n_epoch is None:
        raise InputError(
            f"--trainer.val_check_interval {interval}: counted over the whole run it must be whole "
            "micro-batches; for a share of an epoch give --trainer.check_val_every_n_epoch 1 too"
        )


def _check_writable(folder: Path, option: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"{option} {str(folder)!r}: cannot be written ({error.strerror})") from None
