"""What a run came to, and why it failed."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt2_lightning.sweeps.definition import Sweep, read
from gpt2_lightning.sweeps.trial import TrialFailedError, _reason, best_of

RATES = {"model.optimizer.muon_lr": {"values": [0.0001, 0.01]}}


@pytest.fixture
def sweep_of(sweep_file: Callable[..., Path]) -> Callable[[str, str], Sweep]:
    return lambda name, goal: read(sweep_file(RATES, metric={"name": name, "goal": goal}))


def test_the_best_record_counts(sweep_of: Callable[[str, str], Sweep], tmp_path: Path):
    """Rows of other metrics, and numbers that are not finite, do not."""
    rows = "step,val/nll,train/learning_rate\n1,,0.1\n2,3.5,\n2,,0.3\n4,3.25,\n6,nan,inf\n"
    (tmp_path / "metrics.csv").write_text(rows)
    assert best_of(tmp_path, sweep_of("val/nll", "minimize")) == 3.25
    assert best_of(tmp_path, sweep_of("val/nll", "maximize")) == 3.5
    assert best_of(tmp_path, sweep_of("train/learning_rate", "maximize")) == 0.3
    with pytest.raises(TrialFailedError, match="it has recorded no number as train/nll"):
        best_of(tmp_path, sweep_of("train/nll", "minimize"))


@pytest.mark.parametrize(
    ("code", "printed", "said"),
    [
        (2, b"usage\nerror: first\nerror: --x 3 is too much\n", "error: --x 3 is too much"),
        (1, b"1\n2\n\n3\n4\nValueError: \xff\n", "2 3 4 ValueError: \ufffd"),
        (3, b"", "exit code 3"),
        (-9, b"anything", "ended by SIGKILL (by the system, if memory was over)"),
        (-15, b"", "ended by SIGTERM"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_why_a_run_failed(code: int, printed: bytes, said: str):
    assert _reason(code, printed) == said
