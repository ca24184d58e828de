"""The loggers of a run's folder."""

import csv
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from gpt2_lightning import metrics


class TensorBoard(TensorBoardLogger):
    """TensorBoard's event files, in the run's folder.

    Args:
        save_dir: the run's folder, set by the command line.
    """

    def __init__(self, save_dir: str = "") -> None:
        super().__init__(save_dir, name="", version="", default_hp_metric=False)

    def save(self) -> None:
        """Write out what was recorded; the hyperparameters are in `config.yaml` already."""
        self.experiment.flush()


class MetricsCSV(Logger):
    """`metrics.csv` in the run's folder: a row per recorded optimizer step, a column per metric.

    A resumed run goes on in the same file: rows from its first step on are replaced.

    Args:
        save_dir: the run's folder, set by the command line.
    """

    def __init__(self, save_dir: str = "") -> None:
        super().__init__()
        self._path = Path(save_dir) / "metrics.csv"
        self._columns = ["step", *metrics.NAMES]
        self._row: dict[str, Any] = {}
        self._is_open = False

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
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: they are in `config.yaml`."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if self._row and self._row["step"] != step:
            self._write_row()
        self._row |= {"step": step, **metrics}

    @rank_zero_only
    def finalize(self, status: str) -> None:
        if self._row:
            self._write_row()

    def _write_row(self) -> None:
        new_columns = [name for name in self._row if name not in self._columns]
        if new_columns or not self._is_open:
            self._rewrite(new_columns)
        with self._path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(self._row)
        self._row = {}

    def _rewrite(self, new_columns: list[str]) -> None:
        """The file with its new columns, and without rows from the waiting one's step on."""
        rows = []
        if self._path.exists():
            with self._path.open(newline="") as file:
                reader = csv.DictReader(file)
                rows = [row for row in reader if int(row["step"]) < self._row["step"]]
                self._columns += [c for c in reader.fieldnames or () if c not in self._columns]
        self._columns += [c for c in new_columns if c not in self._columns]
        part = self._path.with_suffix(".part")
        with part.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(rows)
        part.replace(self._path)
        self._is_open = True
