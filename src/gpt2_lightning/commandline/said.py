"""What was said of each option, by files and on the command line, from the first word to the last."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from gpt2_lightning.errors import InputError
from gpt2_lightning.files.yaml_file import read_mapping

_CONFIG = ("--config", "-c")
_PIECE = (".yaml", ".yml", ".json")


@dataclass(frozen=True)
class Layer:
    """The options that one file, or one place on the command line, gives; a later layer counts over it.

    Attributes:
        values: by the options' whole names, as `model.optimizer.lr`; the name of a class stands under the
            option that takes it, and a file of `configs/` under the option that it fills.
        pieces: the options that it fills with a file.
        is_typed: whether it stands on the command line itself.
    """

    values: dict[str, Any]
    pieces: dict[str, Path]
    is_typed: bool


@dataclass
class Settings:
    """Of the class that an option takes, by their names below the option.

    Attributes:
        kind: the class that was named last; `None` if none was.
        own: said since then.
        fallen: said of another class before.
        replaced: said before a file took the place of the whole section.
    """

    kind: str | None = None
    own: dict[str, Any] = field(default_factory=dict)
    fallen: dict[str, Any] = field(default_factory=dict)
    replaced: dict[str, Any] = field(default_factory=dict)


class Said:
    """The layers of a command line: the file that every run starts from, `--config` files, options.

    Args:
        arguments: of the command line.
        defaults: the file that every run starts from.
    """

    def __init__(self, arguments: Sequence[str], defaults: Path | None = None) -> None:
        self.layers = [_of_file(defaults)] if defaults else []
        for name, value in _options(arguments):
            if name in _CONFIG:
                self.layers.append(_of_file(Path(value)) if "\n" not in value and value else _of_text(value))
            elif name.startswith("--"):
                self.layers.append(_of_text(value, name.removeprefix("--").rstrip("+")))

    def last(self, name: str) -> int:
        """Number of the last layer that gives the option a value; -1 where none does."""
        numbers = [number for number, layer in enumerate(self.layers) if layer.values.get(name) is not None]
        return numbers[-1] if numbers else -1

    def typed(self, name: str) -> dict[str, Any]:
        """What the command line itself says of an option and of those below it."""
        found = {}
        for layer in self.layers:
            if layer.is_typed:
                found |= {each: value for each, value in layer.values.items() if _is_of(each, name)}
        return found

    def piece(self, name: str) -> Path | None:
        """The file that the command line itself fills an option with."""
        found = [layer.pieces[name] for layer in self.layers if layer.is_typed and name in layer.pieces]
        return found[-1] if found else None

    def settings(self, option: str) -> "Settings":
        """What was said of the class that an option takes.

        A class that is named after another starts from its own defaults, as does one in a file that fills the
        option, or the section around it.
        """
        found = Settings()
        for layer in self.layers:
            if any(_is_of(option, piece) for piece in layer.pieces):
                found = Settings(replaced=found.replaced | found.own | found.fallen)
            named = layer.values.get(option)
            if isinstance(named, str):
                if found.kind is not None and _short(found.kind) != _short(named):
                    found = Settings(fallen=found.fallen | found.own, replaced=found.replaced)
                found.kind = named
            below = {name: value for name, value in layer.values.items() if name.startswith(f"{option}.")}
            found.own |= {name.removeprefix(f"{option}."): value for name, value in below.items()}
        return found


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Names and values, which stand behind `=` or as the next word."""
    for number, word in enumerate(arguments):
        following = arguments[number + 1] if number + 1 < len(arguments) else "--"
        name, is_joined, value = word.partition("=")
        if word.startswith("-") and not _is_number(word):
            yield name, value if is_joined else "" if following.startswith("--") else following


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _of_file(path: Path) -> Layer:
    if not path.is_file():  # the parser says so
        return Layer({}, {}, is_typed=False)
    return _layer("", read_mapping(path, "configuration"), path.parent, is_typed=False)


def _of_text(text: str, name: str = "") -> Layer:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    if not name and not isinstance(value, dict):
        return Layer({}, {}, is_typed=False)
    return _layer(name.replace(".init_args", ""), value, Path(), is_typed=bool(name))


def _layer(name: str, value: Any, folder: Path, is_typed: bool) -> Layer:
    layer = Layer({}, {}, is_typed)
    _add(layer, name, value, folder)
    return layer


def _add(layer: Layer, name: str, value: Any, folder: Path) -> None:
    if isinstance(value, dict):
        if "class_path" in value:
            layer.values[name] = value["class_path"]
            value = value.get("init_args") or {}
        for key, part in value.items():
            below = name if key == "init_args" else f"{name}.{key}" if name else str(key)
            _add(layer, below, part, folder)
    elif isinstance(value, str) and value.endswith(_PIECE) and (folder / value).is_file():
        layer.pieces[name] = path = folder / value
        try:
            _add(layer, name, read_mapping(path, "configuration"), path.parent)
        except InputError:  # the parser says what is wrong with it
            layer.values[name] = value
    else:
        layer.values[name] = value


def _is_of(name: str, option: str) -> bool:
    return f"{name}.".startswith(f"{option}.")


def _short(kind: str) -> str:
    return kind.rpartition(".")[2]
