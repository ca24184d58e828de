"""A run through the command line, of a toy model on the tests' text."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.test_configs import TEXT, TOY, main, options, run_folder


def fit(tmp_path: Path, *extra: str) -> int:
    return main(*options(tmp_path), *TEXT, *TOY, *extra)


def refusal(capsys: pytest.CaptureFixture[str], tmp_path: Path, *extra: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        fit(tmp_path, *extra)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def last(tmp_path: Path) -> dict:
    return torch.load(run_folder(tmp_path) / "checkpoints" / "last.ckpt", weights_only=True)


QUIET = ["--trainer.logger=false", "--histograms.every_n_steps=0", "--samples.every_n_steps=0"]


NAMED = ["--run=mine", "--auto_resume=true"]


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the run did not get that far"
        time.sleep(0.1)
