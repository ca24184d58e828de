"""What a run's folder tells of its course: settings, records, samples, and how it ended."""

import csv
import glob
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from gpt2_lightning import metrics
from gpt2_lightning.errors import InputError
from gpt2_lightning.runs.folder import is_training

AXES = ("step", "tokens", "seconds")
_OF_THE_RUN_ITSELF = (
    "experiment",
    "run",
    "logs",
    "auto_resume",
    "tags",
    "notes",
    "ckpt_path",
    "weights_only",
)
_OF_THE_RUN_ITSELF += ("trainer.default_root_dir", "trainer.logger", "trainer.enable_progress_bar")
_SEED = "seed_everything"


@dataclass(frozen=True)
class History:
    """The course of a run.

    Attributes:
        folder: of the run.
        summary: content of `summary.json`; the status is `killed` where a process is gone without a word.
        settings: its options by their names with dots; those that say where it lies are left out.
        rows: of `metrics.csv`, numbers by column.
        samples: lines of `samples.jsonl`.
    """

    folder: Path
    summary: dict[str, Any]
    settings: dict[str, Any]
    rows: list[dict[str, float]]
    samples: list[dict[str, Any]]

    @property
    def name(self) -> str:
        """Experiment and run, or sweep and trial."""
        if self.folder.resolve().parent.parent.name == "sweeps":
            return f"sweeps/{self.folder.resolve().parent.name}/{self.summary['run']}"
        return f"{self.summary['experiment']}/{self.summary['run']}"

    @property
    def seed(self) -> Any:
        """The seed of everything."""
        return self.settings.get(_SEED)

    @property
    def configuration(self) -> str:
        """What runs that differ in their seed alone have in common."""
        others = {name: value for name, value in self.settings.items() if name != _SEED}
        return json.dumps(others, sort_keys=True, default=str)

    def series(self, metric: str) -> dict[str, np.ndarray]:
        """A metric over optimizer steps, tokens of training text, and seconds of training.

        The seconds are those of optimizer steps: validation, samples and checkpoints are left out.

        Args:
            metric: a column of `metrics.csv`.

        Returns:
            `value` and each of `AXES`, all `(N,)`.
        """
        found = [(row["step"], row[metric]) for row in self.rows if metric in row]
        steps, values = np.array(found, dtype=np.float64).reshape(-1, 2).T
        tokens = steps * (self.summary["tokens"] / max(1, self.summary["steps"]))
        speeds = [
            (row["step"], row[metrics.TRAIN_MEAN_TOKENS_PER_SECOND])
            for row in self.rows
            if metrics.TRAIN_MEAN_TOKENS_PER_SECOND in row
        ]
        seconds = np.full(len(steps), np.nan)
        if speeds:
            at, speed = np.array(speeds).T
            seconds = tokens / np.interp(steps, at, speed)
        return {"value": values, "step": steps, "tokens": tokens, "seconds": seconds}


def read_history(folder: Path) -> History:
    """The course of a run.

    Raises:
        InputError: if the folder is none of a run that has begun, or a file in it is damaged.
    """
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        if summary["status"] == "running" and not is_training(folder):
            summary["status"] = "killed"  # and had no time to say so
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        settings = dict(_flat("", config))
        records, samples = folder / "metrics.csv", folder / "samples.jsonl"  # there from the first one on
        table = records.read_text(encoding="utf-8").splitlines() if records.exists() else []
        rows = [_numbers(row) for row in csv.DictReader(table)]
        lines = samples.read_text(encoding="utf-8").splitlines() if samples.exists() else []
        return History(folder, summary, settings, rows, [json.loads(line) for line in lines])
    except FileNotFoundError as error:
        missing = Path(str(error.filename)).name
        raise InputError(f"{folder}: is no run that has begun ({missing} is missing)") from None
    except (OSError, ValueError, KeyError, yaml.YAMLError, AttributeError) as error:
        raise InputError(f"{folder}: a file of the run cannot be read: {error}") from None


def _numbers(row: dict[str, str]) -> dict[str, float]:
    return {name: float(text) for name, text in row.items() if name and text}


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Options by their names with dots; a class stands under the name of its option."""
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


def matching(patterns: Iterable[str]) -> list[Path]:
    """The runs that names and globs stand for, each once, in their order.

    A folder of runs stands for those in it that have begun, as a glob does.

    Raises:
        InputError: if one matches nothing.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        given = Path(pattern).expanduser()
        if (given / "config.yaml").is_file():
            found[given] = None
            continue
        below = f"{glob.escape(str(given))}/*" if given.is_dir() else str(given)
        paths = map(Path, sorted(glob.glob(below)))  # noqa: PTH207  (pathlib's takes no absolute one)
        folders = [
            path for path in paths if (path / "config.yaml").is_file() and (path / "summary.json").is_file()
        ]
        if not folders:
            raise InputError(f"{pattern}: no run is there; give folders of runs, or a glob as 'logs/lora/*'")
        found.update(dict.fromkeys(folders))
    return list(found)


def differences(histories: list[History]) -> dict[str, list[Any]]:
    """The settings that are not the same in all runs, with each run's value; `None` where it has none."""
    names = dict.fromkeys(name for history in histories for name in history.settings)
    values = {name: [history.settings.get(name) for history in histories] for name in names}
    return {name: each for name, each in values.items() if any(value != each[0] for value in each)}
