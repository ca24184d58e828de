from collections.abc import Callable

import pytest
from lightning.pytorch import Trainer

from gpt2_lightning.callbacks.progress import Progress, format_seconds
from gpt2_lightning.callbacks.throughput import Throughput


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
