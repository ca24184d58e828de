import math
from pathlib import Path

import pytest
import torch

from gpt2_lightning.__main__ import main
from gpt2_lightning.runs.reproduce import _apart, _compared
from gpt2_lightning.runs.run import Run
from tests.conftest import ROOT
from tests.runs.conftest import SHORT, Write
from tests.test_configs import TEXT, TOY, options
from tests.test_configs import main as train


def test_a_run_is_reproduced(
    experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    assert main(["reproduce", str(experiment / "second"), "--name", "again"]) == 0
    assert "val/nll          3 of 3 records equal, the same to the last digit" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", str(experiment / "second"), "--name", "again"])
    assert stop.value.code == 2
    assert "again exists" in capsys.readouterr().err
    for given, said in (
        ([str(experiment / "*")], "runs; give the folder of one"),
        ([str(experiment / "first"), "--name", "a/b"], "--name 'a/b': use letters"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["reproduce", *given])
        assert stop.value.code == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        (2.0, 2.0, 0.0),
        (math.nan, math.nan, 0.0),
        (math.inf, math.inf, 0.0),
        (2.0, 2.002, 0.001),
        (math.nan, 2.0, math.inf),
        (2.0, math.inf, math.inf),
    ],
)
def test_how_far_apart_two_records_are(one: float, other: float, apart: float):
    assert _apart(one, other) == pytest.approx(apart)


def test_a_metric_that_one_run_alone_has_recorded_is_no_match(write_run: Write):
    first, second = Run(write_run("first")), Run(write_run("second"))
    assert _compared(first, second)[1]
    (second.folder / "metrics.csv").write_text("step,train/nll\n2,3.0\n4,2.0\n")
    lines, is_close = _compared(first, Run(second.folder))
    assert not is_close
    assert "1 are of one run alone" in lines[-1]


def test_a_run_that_was_resumed_with_another_rate_is_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    first = [*options(tmp_path), *TEXT, *TOY, *SHORT, "--run=first", "--trainer.max_steps=4"]
    assert train(*first) == 0
    folder = tmp_path / "logs" / "pretrain_tiny" / "first"
    resume = [f"--config={folder}/config.yaml", f"--ckpt_path={folder}/checkpoints/last.ckpt"]
    assert train("fit", *resume, "--trainer.max_steps=6", "--model.optimizer.lr=0.1") == 0
    assert main(["reproduce", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "train/nll        6 of 6 records equal, the same to the last digit" in said
    assert [start["step"] for start in Run(folder.with_name("first-again")).starts] == [0, 4]
