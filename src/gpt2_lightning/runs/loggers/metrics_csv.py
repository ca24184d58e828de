"""The logger of `metrics.csv`."""

import csv
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from gpt2_lightning import metrics
from gpt2_lightning.files.whole import replacing
from gpt2_lightning.runs.loggers.description import Description


class MetricsCSV(Logger):
    """`metrics.csv` in the run's folder: a row per recorded optimizer step, a column per metric.

    A resumed run continues the same file; rows past the step that it resumes from are removed.

    Args:
        save_dir: the run's folder, set by the command line.
    """

    def __init__(self, save_dir: str = "") -> None:
        super().__init__()
        self._path = Path(save_dir) / "metrics.csv"
        self._columns = ["step", *metrics.NAMES]
        self._row: dict[str, Any] = {}  # of the newest step, to which more may come
        self._row_start: int | None = None  # where in the file it is, once it is written
        self._is_written = True

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self._path.parent)

    @rank_zero_only
    def begin(self, step: int, description: Description) -> None:
        if self._path.exists():
            newest, start = self._rewrite([], step)
            if newest.get("step") == str(step):  # a validation that is still due completes it
                self._row, self._row_start = {**newest, "step": step}, start

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: they are in `config.yaml`."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if self._row and self._row["step"] != step:
            self.save()
            self._row, self._row_start = {}, None
        self._row |= {"step": step, **metrics}
        self._is_written = False

    @rank_zero_only
    def save(self) -> None:
        """Write the newest row too; what comes to it later is written over it."""
        if self._is_written:
            return
        new_columns = [name for name in self._row if name not in self._columns]
        if new_columns or not self._path.exists():
            self._rewrite(new_columns, self._row["step"] - 1)
        with self._path.open("r+", newline="") as file:
            self._row_start = file.seek(0, 2) if self._row_start is None else file.seek(self._row_start)
            csv.DictWriter(file, self._columns).writerow(self._row)
            file.truncate()  # afterwards: a kill between the two loses nothing
        self._is_written = True

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()

    def _rewrite(self, new_columns: list[str], last_step: int) -> tuple[dict[str, str], int]:
        """The file with its new columns, and its rows up to a step; gives the last, and where it starts."""
        rows = []
        if self._path.exists():
            with self._path.open(newline="") as file:
                reader = csv.DictReader(file)
                rows = [row for row in reader if int(row["step"]) <= last_step]
                self._columns += [c for c in reader.fieldnames or () if c not in self._columns]
        self._columns += [c for c in new_columns if c not in self._columns]
        with replacing(self._path) as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(rows[:-1])
            start = file.tell()
            writer.writerows(rows[-1:])
        self._row_start = None
        return rows[-1] if rows else {}, start
