"""Where a model lies: a folder, an earlier run, or the Hugging Face hub."""

from pathlib import Path

from gpt2_lightning.errors import InputError
from gpt2_lightning.runs.run import Run

LATEST = "latest"


def locate(name: str, option: str, needs_model: bool = True) -> str:
    """The folder that holds a model, or the hub id as it is.

    Args:
        name: a folder with `config.json`; the folder of a run, whose export is taken;
            `<folder>/latest` for the newest run below a folder that has an export; or a hub id.
        option: whose value `name` is, for messages.
        needs_model: whether a folder without a model is a mistake; a tokenizer's needs none.

    Raises:
        InputError: if a folder is named that is not there or holds no model.
    """
    path = Path(name).expanduser()
    if path.name == LATEST and not path.exists():
        export = newest_export(path.parent)
        if export is None:
            raise InputError(
                f"{option} {name!r}: no run below {str(path.parent)!r} has an export yet; train one first "
                f"(make train EXPERIMENT={path.parent.name}), or name another model: a folder, or a hub id "
                "such as openai-community/gpt2"
            )
        return str(export)
    for folder in (Run(path).export, path):
        if is_model(folder):
            return str(folder)
    if path.is_dir() and not needs_model:
        return str(path)
    if path.is_dir():
        raise InputError(f"{option} {name!r}: the folder holds no model (no config.json), nor a run's export")
    if not is_hub_id(name):
        raise InputError(f"{option} {name!r}: no such folder")
    return name


def is_hub_id(name: str) -> bool:
    """Whether a name that is no file or folder here can be one of the hub's."""
    return (
        not Path(name).expanduser().exists()
        and name.count("/") <= 1
        and not name.startswith((".", "~", "/", "logs/"))
    )


def newest_export(folder: Path, holding: str = "") -> Path | None:
    """The export of the run that trained last, of those in a folder of `logs` or in all of `logs`.

    Args:
        folder: to look in.
        holding: name of a file that the export must have.
    """
    exports = [
        path
        for pattern in ("*/export", "*/*/export")
        for path in folder.glob(pattern)
        if is_model(path) and (path / holding).exists()
    ]
    return max(exports, key=lambda export: Run(export.parent).trained_at, default=None)


def is_model(folder: Path) -> bool:
    """Whether it holds a model that `transformers` loads, or an adapter that `peft` loads."""
    return (folder / "config.json").is_file() or is_adapter(folder)


def is_adapter(folder: Path) -> bool:
    """Whether it holds an adapter, without the model that it adapts."""
    return (folder / "adapter_config.json").is_file()
