"""What is said last counts, also over other options that decide the same matter."""

import math
from dataclasses import MISSING, fields
from typing import Any

from jsonargparse import Namespace

from gpt2_lightning.commandline.option_errors import Parser
from gpt2_lightning.commandline.said import Said
from gpt2_lightning.data.corpus import Corpus
from gpt2_lightning.data.sources import Source
from gpt2_lightning.data.tokenizer import TokenizerRecipe
from gpt2_lightning.errors import InputError

STEPS = "validate_every_n_steps"
_BATCHES, _EPOCHS = "trainer.val_check_interval", "trainer.check_val_every_n_epoch"
_CORPUS = "data.corpus"
_CLASSES = ("model.optimizer", "model.adapter", *(f"{_CORPUS}.{each.name}" for each in fields(Corpus)))
_FOLDER = "trainer.default_root_dir"


def settle(config: Namespace, said: Said) -> list[str]:
    """Let what was said last decide a run's length, its validations and the settings of its classes.

    Args:
        config: of one verb, parsed; it is changed.
        said: by files and on the command line.

    Returns:
        What fell away, for people.

    Raises:
        InputError: if validations would fall inside an optimizer step, or a run's folder is named.
    """
    if folder := said.typed(_FOLDER).get(_FOLDER):  # in a file it may be that of an earlier run
        raise InputError(f"--{_FOLDER} {folder}: is not supported; use --logs, --experiment and --run")
    notes = _settle_length(config, said)
    _settle_validation(config, said)
    _settle_corpus(config, said)
    for option in _CLASSES:
        notes += _settle_class(config, said, option)
    return notes


def _settle_length(config: Namespace, said: Said) -> list[str]:
    """Steps or epochs, whichever was named last; both of one file count, the first that ends."""
    trainer, names = config.trainer, ("max_steps", "max_epochs")
    trainer.max_steps = -1 if trainer.max_steps is None else trainer.max_steps
    steps, epochs = (said.last(f"trainer.{name}") if _is_limit(trainer[name]) else -1 for name in names)
    if steps == epochs or min(steps, epochs) < 0:
        return []
    if epochs > steps:
        loser, trainer.max_steps = f"--trainer.max_steps {trainer.max_steps}", -1
    else:
        loser, trainer.max_epochs = f"--trainer.max_epochs {trainer.max_epochs}", None
    winner = "max_epochs" if epochs > steps else "max_steps"
    return [f"--trainer.{winner} {trainer[winner]} takes the place of {loser}"]


def _is_limit(number: int | None) -> bool:
    return number is not None and number > 0


def _settle_validation(config: Namespace, said: Said) -> None:
    """Count in optimizer steps, or as Lightning does where its own two options were named last."""
    trainer, accumulate = config.trainer, max(1, config.trainer.accumulate_grad_batches)
    steps, batches, epochs = map(said.last, (STEPS, _BATCHES, _EPOCHS))
    interval = trainer.val_check_interval
    if max(batches, epochs) > steps or config[STEPS] is None:
        config[STEPS] = None
        if epochs > batches and not isinstance(interval, float):
            interval = trainer.val_check_interval = 1.0
        if isinstance(interval, float):
            if trainer.check_val_every_n_epoch is None:
                trainer.check_val_every_n_epoch = 1
        elif isinstance(interval, int) and epochs < 0:
            trainer.check_val_every_n_epoch = None  # Lightning's default would begin to count in each epoch
            if interval % accumulate or interval < 1:
                raise InputError(
                    f"--trainer.val_check_interval {interval}: counts micro-batches, of which a step has "
                    f"{accumulate}; count in optimizer steps instead: --{STEPS} "
                    f"{max(1, math.ceil(interval / accumulate))}"
                )
            config[STEPS] = interval // accumulate
    if config[STEPS] is not None:
        trainer.val_check_interval, trainer.check_val_every_n_epoch = config[STEPS] * accumulate, None


def _settle_corpus(config: Namespace, said: Said) -> None:
    """A file that is named for the corpus is the whole corpus: nothing of another one stays."""
    if said.piece(_CORPUS) is None:
        return
    named = {name.split(".")[0] for name in said.settings(_CORPUS).own}
    for each in fields(Corpus):
        if each.name not in named and each.default is not MISSING:
            config.data.corpus[each.name] = each.default


def _type_of(option: str) -> Any:
    """Of an option that takes a class."""
    if option == "model.optimizer":
        from lightning.pytorch.cli import OptimizerCallable

        return OptimizerCallable
    if option == "model.adapter":
        from peft import PeftConfig

        return PeftConfig
    return TokenizerRecipe if option.endswith(".tokenizer") else Source


def _settle_class(config: Namespace, said: Said, option: str) -> list[str]:
    """Another class starts from its own defaults, not from the settings of the one named before."""
    now, settings = config.get(option), said.settings(option)
    is_over_default = option == "model.optimizer" and settings.kind is not None
    if not isinstance(now, Namespace) or not (settings.fallen or settings.replaced or is_over_default):
        return []
    named = {name.split(".")[0] for name in settings.own}
    kept = {name: value for name, value in vars(now.init_args).items() if name in named}
    parser = Parser(exit_on_error=False)
    parser.add_argument("--value", type=_type_of(option))
    value = {"class_path": now.class_path, "init_args": kept} | (
        {"dict_kwargs": now.dict_kwargs} if "dict_kwargs" in now else {}
    )
    config[option] = parser.parse_object({"value": value}).value
    gone = {name: value for name, value in settings.fallen.items() if value and name not in settings.own}
    if not gone:
        return []
    shown = ", ".join(f"{name} {value}" for name, value in gone.items())
    return [f"--{option} {now.class_path.rpartition('.')[2]} starts from its own defaults, without {shown}"]
