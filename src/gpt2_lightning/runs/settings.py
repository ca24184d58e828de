"""The options of a run by their names with dots, and what tells runs apart by them."""

from collections.abc import Iterable, Iterator
from typing import Any

SEED = "seed_everything"
_OF_THE_RUN_ITSELF = {"experiment", "run", "logs", "auto_resume", "ckpt_path", "weights_only", "tags"}
_OF_THE_RUN_ITSELF |= {"notes", "checkpoints.stop_after_step"}
_OF_THE_RUN_ITSELF |= {f"trainer.{each}" for each in ("default_root_dir", "logger", "enable_progress_bar")}


def leaves(config: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a nested configuration by their whole names, `model.optimizer.init_args.lr`."""
    if isinstance(config, dict):
        for key, part in config.items():
            yield from leaves(part, f"{name}.{key}" if name else str(key))
    else:
        yield name, config


def settings_of(config: dict[str, Any]) -> dict[str, Any]:
    """The options of a `config.yaml` that make a run what it is; a class stands under its option's name."""
    found = {}
    for name, value in leaves(config):
        option = name.removesuffix(".class_path").replace(".init_args", "")
        if not any(f"{option}.".startswith(f"{own}.") for own in _OF_THE_RUN_ITSELF):
            found[option] = value.rpartition(".")[2] if name.endswith(".class_path") else value
    return found


def short_names(names: Iterable[str]) -> dict[str, str]:
    """The last words of names with dots, as many as tell them apart."""
    words = {name: name.split(".") for name in names}
    short = dict.fromkeys(words, 1)
    while True:
        found = {name: ".".join(words[name][-short[name] :]) for name in words}
        alike = {name for name in words if list(found.values()).count(found[name]) > 1}
        longer = {name for name in alike if short[name] < len(words[name])}
        if not longer:
            return found
        short |= {name: short[name] + 1 for name in longer}


def differences(settings: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """The settings that are not the same in all runs, with each run's value; `None` where it has none."""
    names = dict.fromkeys(name for each in settings for name in each)
    values = {name: [each.get(name) for each in settings] for name in names}
    return {name: each for name, each in values.items() if any(value != each[0] for value in each)}
