import re
from collections.abc import Callable
from pathlib import Path

import pytest
from lightning.pytorch import Trainer

from gpt2_lightning.callbacks.progress import Progress, format_seconds
from gpt2_lightning.callbacks.throughput import Throughput
from gpt2_lightning.runs.loggers import MetricsCSV
from tests.conftest import read_metrics


def test_plain_lines_where_the_output_is_no_terminal(
    train: Callable[..., Trainer], capsys: pytest.CaptureFixture[str]
):
    throughput = Throughput()
    train([throughput, Progress(throughput)], max_steps=40, val_check_interval=20, enable_progress_bar=True)
    lines = capsys.readouterr().out.splitlines()
    steps = [line for line in lines if line.startswith("step") and "/40" in line]
    assert len(steps) == 21, "one after the first step, and twenty over the run"
    assert steps[0].startswith("step 1/40")
    assert all("nll " in line for line in steps)
    assert all(" left" in line for line in steps[1:])
    assert "tokens/s" in steps[-1]
    validations = [line for line in lines if "validation nll" in line]
    assert [line.split(":")[0] for line in validations] == ["step 20", "step 40"]
    assert all("perplexity" in line and "bits per byte" in line for line in validations)


def test_a_bar_in_a_terminal(
    train: Callable[..., Trainer], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    throughput = Throughput()
    train([throughput, Progress(throughput)], max_steps=5, limit_val_batches=0, enable_progress_bar=True)
    last = capsys.readouterr().out.split("\r")
    assert any("100% |" in piece and "step 5/5" in piece and "nll" in piece for piece in last)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (75, "1:15"), (3725, "1:02:05")])
def test_seconds_as_people_read_them(seconds: float, text: str):
    assert format_seconds(seconds) == text


def test_the_bar_fits_80_columns_with_the_time_left(
    train: Callable[..., Trainer], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    bar = Progress(Throughput())
    bar._numbers = lambda trainer, module: "nll 12.345, 1,234,567 tokens/s, 12:34:56 left"  # pyright: ignore
    train([bar._throughput, bar], max_steps=5, limit_val_batches=0, enable_progress_bar=True)
    pieces = [piece for piece in capsys.readouterr().out.split("\r") if "left" in piece]
    assert pieces
    assert all(len(piece.rstrip()) <= 80 for piece in pieces)


def test_the_nll_is_that_of_the_whole_step(
    train: Callable[..., Trainer], capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    bar = Progress(Throughput())
    logger = MetricsCSV(str(tmp_path))
    options = {"accumulate_grad_batches": 3, "limit_val_batches": 0, "logger": logger}
    train([bar._throughput, bar], max_steps=3, enable_progress_bar=True, **options)
    shown = re.findall(r"nll ([\d.]+)", capsys.readouterr().out)
    assert shown == [f"{float(row['train/nll']):.3f}" for row in read_metrics(tmp_path)]
