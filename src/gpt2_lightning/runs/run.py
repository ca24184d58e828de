"""A run's folder `logs/<experiment>/<run>/`, as everything reads it."""

import csv
import glob
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from filelock import FileLock, Timeout

from gpt2_lightning import metrics
from gpt2_lightning.errors import InputError
from gpt2_lightning.files.whole import remove_parts
from gpt2_lightning.runs.settings import SEED, settings_of

AXES = ("step", "tokens", "seconds")


class Run:
    """A run by its folder, read as it stands: while it trains, after its end, or after it was killed.

    Raises:
        InputError: from whatever is read, if it is no run that has begun, or a file of it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of_model(cls, folder: Path) -> "Run | None":
        """The run whose folder or export a model's folder is; `None` if it is of none."""
        return next((cls(place) for place in (folder, folder.parent) if cls(place).is_run), None)

    @classmethod
    def of_checkpoint(cls, path: Path) -> "Run | None":
        """The run that keeps a checkpoint in `checkpoints/`; `None` if it is of none."""
        run = cls(path.parent.parent)
        return run if run.is_run else None

    @property
    def is_run(self) -> bool:
        """Whether a run was trained here."""
        return (self.folder / "config.yaml").is_file()

    @property
    def has_begun(self) -> bool:
        """Whether it has a summary too, which is written at its first step."""
        return self.is_run and (self.folder / "summary.json").is_file()

    @property
    def checkpoints(self) -> Path:
        """The folder of `last.ckpt` and `best.ckpt`."""
        return self.folder / "checkpoints"

    @property
    def export(self) -> Path:
        """The folder of the best model, for Hugging Face's libraries."""
        return self.folder / "export"

    @property
    def merged_export(self) -> Path:
        """The same with its adapter worked into the model."""
        return self.folder / "export-merged"

    @property
    def trained_at(self) -> float:
        """When it last trained, in seconds since the epoch; exporting it again makes it no newer."""
        return (self.folder / "summary.json" if self.has_begun else self.export).stat().st_mtime

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep every other process from training this run; the lock of a process that is gone is free.

        Raises:
            InputError: if another process has it.
        """
        held = FileLock(self.folder / "run.lock", timeout=0)
        try:
            held.acquire()
        except Timeout:
            raise InputError(f"{self.folder}: another process is training this run") from None
        try:
            for folder in (self.folder, self.checkpoints):
                remove_parts(folder)  # of a process that was killed
            yield
        finally:
            held.release()

    @property
    def is_training(self) -> bool:
        """Whether a process holds the lock."""
        path = self.folder / "run.lock"
        try:
            with FileLock(path, timeout=0) if path.exists() else nullcontext():
                return False
        except Timeout:
            return True
        except OSError:  # of a folder that is another's
            return False

    @cached_property
    def config(self) -> dict[str, Any]:
        """Every option, as `config.yaml` has it."""
        return self._read("config.yaml", lambda text: dict(yaml.safe_load(text)))

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The options by their names with dots; those that say where the run lies are left out."""
        return self._read("config.yaml", lambda text: settings_of(dict(yaml.safe_load(text))))

    @cached_property
    def summary(self) -> dict[str, Any]:
        """`summary.json`; its status is `killed` where the process is gone without a word."""
        return self._read("summary.json", lambda text: self._with_status(json.loads(text)))

    def _with_status(self, summary: dict[str, Any]) -> dict[str, Any]:
        is_killed = summary["status"] == "running" and not self.is_training
        return summary | ({"status": "killed"} if is_killed else {})

    @property
    def starts_path(self) -> Path:
        """The file of `starts`."""
        return self.folder / "starts.jsonl"

    @cached_property
    def starts(self) -> list[dict[str, Any]]:
        """Each start of the run that led to where it stands: its `step` and its `config`."""
        return self._read("starts.jsonl", _lines, or_empty=True) or [{"step": 0, "config": self.config}]

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Versions, code and hardware; empty where they are not known."""
        try:
            return self._read("environment.json", json.loads)
        except InputError:
            return {}

    @cached_property
    def rows(self) -> list[dict[str, float]]:
        """The rows of `metrics.csv`: numbers by column, those that are there."""
        return self._read("metrics.csv", _numbers, or_empty=True)

    @cached_property
    def samples(self) -> list[dict[str, Any]]:
        """The lines of `samples.jsonl`; half a line, which a kill leaves, is none."""
        return self._read("samples.jsonl", _lines, or_empty=True)

    def _read(self, name: str, parse: Callable[[str], Any], or_empty: bool = False) -> Any:
        """What `parse` makes of a file's text; of a missing one, if `or_empty`, of an empty text."""
        path = self.folder / name
        try:
            return parse("" if or_empty and not path.exists() else path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"{self.folder}: is no run that has begun ({name} is missing)") from None
        except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
            raise InputError(f"{path}: cannot be read: {error}") from None

    @property
    def is_readable(self) -> bool:
        """Whether it has begun, and no file that tells its course is damaged."""
        try:
            return bool(self.summary) and self.rows is not None
        except InputError:
            return False

    @property
    def name(self) -> str:
        """Experiment and run, or sweep and trial."""
        if self.folder.resolve().parent.parent.name == "sweeps":
            return f"sweeps/{self.folder.resolve().parent.name}/{self.summary['run']}"
        return f"{self.summary['experiment']}/{self.summary['run']}"

    @property
    def seed(self) -> Any:
        """The seed of everything."""
        return self.settings.get(SEED)

    @property
    def configuration(self) -> str:
        """What runs that differ in their seed alone have in common."""
        others = {name: value for name, value in self.settings.items() if name != SEED}
        return json.dumps(others, sort_keys=True, default=str)

    def series(self, metric: str) -> dict[str, np.ndarray]:
        """A metric over optimizer steps, tokens of training text, and seconds of training.

        The seconds are those of optimizer steps: validation, samples and checkpoints are left out.

        Args:
            metric: a column of `metrics.csv`.

        Returns:
            `value` and each of `AXES`, all `(N,)`.
        """
        steps, values = self._records(metric)
        tokens = steps * (self.summary["tokens"] / max(1, self.summary["steps"]))
        at, speed = self._records(metrics.TRAIN_MEAN_TOKENS_PER_SECOND)
        seconds = tokens / np.interp(steps, at, speed) if len(at) else np.full(len(steps), np.nan)
        return {"value": values, "step": steps, "tokens": tokens, "seconds": seconds}

    def _records(self, metric: str) -> np.ndarray:
        """The steps at which a metric was recorded, and its values, `(2, N)`."""
        found = [(row["step"], row[metric]) for row in self.rows if metric in row]
        return np.array(found, dtype=np.float64).reshape(-1, 2).T


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.split("\n")[:-1]]


def _numbers(table: str) -> list[dict[str, float]]:
    rows = csv.DictReader(table.splitlines())
    return [{name: float(text) for name, text in row.items() if name and text} for row in rows]


def runs_of(patterns: Iterable[str]) -> list[Run]:
    """The runs that names and globs stand for, each once, in their order.

    A folder of runs stands for those in it that have begun, as a glob does.

    Raises:
        InputError: if one matches nothing.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        given = Path(pattern).expanduser()
        if Run(given).is_run:
            found[given] = None
            continue
        below = f"{glob.escape(str(given))}/*" if given.is_dir() else str(given)
        paths = map(Path, sorted(glob.glob(below)))  # noqa: PTH207  (pathlib's takes no absolute one)
        folders = [path for path in paths if Run(path).has_begun]
        if not folders:
            raise InputError(f"{pattern}: no run is there; give folders of runs, or a glob as 'logs/lora/*'")
        found.update(dict.fromkeys(folders))
    return [Run(folder) for folder in found]
