"""The options of a run by their names with dots, and what tells runs apart by them."""

from collections.abc import Iterable, Iterator
from typing import Any

SEED = "seed_everything"
_OF_THE_RUN_ITSELF = {"experiment", "run", "logs", "auto_resume", "ckpt_path", "weights_only", "tags"}
_OF_THE_RUN_ITSELF |= {"notes", "trainer.default_root_dir", "trainer.logger", "trainer.enable_progress_bar"}


def settings_of(config: dict[str, Any]) -> dict[str, Any]:
    """The options of a `config.yaml` that make a run what it is; a class stands under its option's name."""
    return dict(_flat("", config))


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and "class_path" in value:
        yield prefix, value["class_path"].rpartition(".")[2]
        value = value.get("init_args") or {}
    if isinstance(value, dict) and value:
        for name, part in value.items():
            whole = f"{prefix}.{name}" if prefix else name
            if whole not in _OF_THE_RUN_ITSELF:
                yield from _flat(whole, part)
    elif prefix:
        yield prefix, value


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
