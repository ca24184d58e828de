"""What was logged to Weights & Biases, for the run that goes on from there."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from gpt2_lightning.files.lines import take_back


class Journal:
    """Everything that was logged, a JSON object a line: W&B's own file is behind when a run is killed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None

    def take_back(self, step: int) -> list[tuple[int, dict[str, Any]]]:
        """Forget what was logged after a step; returns what was until then."""
        return [(row["step"], _logged(row["values"])) for row in take_back(self._path, step)]

    def add(self, step: int | None, values: Mapping[str, Any]) -> None:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a", encoding="utf-8")
        self._file.write(json.dumps({"step": step, "values": _plain(values)}, ensure_ascii=False) + "\n")

    def flush(self) -> None:
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    import wandb

    plain: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, wandb.Histogram):
            plain[name] = {"counts": list(value.histogram), "edges": list(value.bins)}
        elif isinstance(value, wandb.Table):
            plain[name] = {"columns": value.columns, "data": value.data}
        elif isinstance(value, str | bool) or hasattr(value, "__float__"):
            plain[name] = value if isinstance(value, str | bool) else float(value)
    return plain  # without images and other media of a user's own


def _logged(plain: dict[str, Any]) -> dict[str, Any]:
    import wandb

    values = dict(plain)
    for name, value in plain.items():
        if isinstance(value, dict) and "counts" in value:
            values[name] = wandb.Histogram(np_histogram=(np.array(value["counts"]), np.array(value["edges"])))
        elif isinstance(value, dict):
            values[name] = wandb.Table(columns=value["columns"], data=value["data"])
    return values
