"""Checks across sections of a configuration, before any work is done."""

import tempfile
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from transformers.activations import ACT2FN

from gpt2_lightning.errors import InputError
from gpt2_lightning.machine.hardware import available_cores
from gpt2_lightning.machine.precision import takes_cpu


def check(config: Namespace) -> None:
    """Refuse settings that are each allowed but do not fit together.

    Args:
        config: of one verb (`fit`, `validate`, ...), parsed.

    Raises:
        InputError: naming the options, their values and the remedy.
    """
    if isinstance(config.seed_everything, bool) or not 0 <= config.seed_everything < 2**32:
        raise InputError(f"--seed_everything {config.seed_everything}: give a whole number from 0 to 2³²-1")
    _check_machine(config)
    _check_activation(config.model.architecture.activation_function)
    _check_trainer(config.trainer)
    _check_length(config)
    _check_callbacks(config.trainer.callbacks)
    if config.get("patience") and config.trainer.limit_val_batches == 0:
        raise InputError(
            f"--patience {config.patience}: never ends a run without validations, "
            "--trainer.limit_val_batches 0"
        )
    if config.ckpt_path is not None and not Path(config.ckpt_path).is_file():
        raise InputError(
            f"--ckpt_path {str(config.ckpt_path)!r}: no such file; runs keep theirs in checkpoints/"
        )
    _check_writable(Path(config.data.folder), "--data.folder")


_ACCELERATORS = ("auto", "cpu", "cuda", "gpu", "mps")
_MOST_RANKS = 4  # for each core
_MOST_NODES = 10_000
_MOST_WORKERS = 16  # for each core: they wait for the disk, and more of them for each other


def _check_machine(config: Namespace) -> None:
    """Refuse processes that the machine cannot hold."""
    accelerator, devices, cores = config.trainer.accelerator, config.trainer.devices, available_cores()
    if isinstance(accelerator, str) and accelerator not in _ACCELERATORS:
        raise InputError(f"--trainer.accelerator {accelerator}: is unknown; use {' or '.join(_ACCELERATORS)}")
    number = int(devices) if str(devices).isdigit() else 1
    if takes_cpu(str(accelerator)) and number > (most := _MOST_RANKS * cores):
        raise InputError(f"--trainer.devices {number}: the {cores} CPU cores hold at most {most} processes")
    if config.trainer.num_nodes > _MOST_NODES:
        raise InputError(f"--trainer.num_nodes {config.trainer.num_nodes}: give at most {_MOST_NODES:,}")
    if config.data.num_workers > _MOST_WORKERS * cores:
        raise InputError(
            f"--data.num_workers {config.data.num_workers}: the {cores} CPU cores hold at most "
            f"{_MOST_WORKERS * cores}"
        )


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


_REFUSED_TRAINER = {  # options of Lightning's that would do nothing, or undo what is promised
    "use_distributed_sampler": "leave it out: the data module gives each rank its share of the rows",
    "reload_dataloaders_every_n_epochs": "leave it out: a run's position in the data would be lost",
    "barebones": "use --trainer.fast_dev_run true, or turn parts off: --trainer.logger false, "
    "--samples.every_n_steps 0, --histograms.every_n_steps 0",
    "min_steps": "give --trainer.max_steps: the schedule needs to know how long the run is",
    "min_epochs": "give --trainer.max_epochs: the schedule needs to know how long the run is",
    "model_registry": "use make export, and upload its folder",
    "limit_predict_batches": "use make sample: there is no verb predict",
    "sync_batchnorm": "leave it out: GPT-2 has no batch norm",
}


_REFUSED_STRATEGIES = ("ddp_spawn", "ddp_fork", "ddp_notebook")


def _check_trainer(trainer: Namespace) -> None:
    for name, reason in _REFUSED_TRAINER.items():
        if trainer[name]:
            raise InputError(f"--trainer.{name} {trainer[name]}: is not supported; {reason}")
    if str(trainer.strategy).startswith(_REFUSED_STRATEGIES):
        raise InputError(f"--trainer.strategy {trainer.strategy}: trains to other numbers here; use ddp")
    if trainer.enable_checkpointing is False:
        raise InputError(
            "--trainer.enable_checkpointing false: is not supported; a run keeps two checkpoints"
        )
    if trainer.check_val_every_n_epoch == 0:
        raise InputError("--trainer.check_val_every_n_epoch 0: give --trainer.limit_val_batches 0 for none")
    if 0 in (trainer.max_steps, trainer.max_epochs):
        raise InputError(
            "--trainer.max_steps 0 or .max_epochs 0: trains nothing; make evaluate measures a model"
        )
    if isinstance(trainer.overfit_batches, float) and trainer.overfit_batches:
        raise InputError(
            f"--trainer.overfit_batches {trainer.overfit_batches}: give a whole number of micro-batches"
        )
    if trainer.log_every_n_steps < 1:
        raise InputError(
            f"--trainer.log_every_n_steps {trainer.log_every_n_steps}: give at least 1, "
            "or --trainer.logger false to record nothing"
        )


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
    accumulate = trainer.accumulate_grad_batches
    if accumulate < 1:
        raise InputError(f"--trainer.accumulate_grad_batches {accumulate}: must be at least 1")
    limit = trainer.limit_train_batches
    if limit == 0:
        raise InputError("--trainer.limit_train_batches 0: trains nothing; make evaluate measures a model")
    if isinstance(limit, int) and limit % accumulate:
        raise InputError(
            f"--trainer.limit_train_batches {limit} is no multiple of --trainer.accumulate_grad_batches "
            f"{accumulate}: an epoch would end inside a step"
        )


def _check_writable(folder: Path, option: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"{option} {str(folder)!r}: cannot be written ({error.strerror})") from None
