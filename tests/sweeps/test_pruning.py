"""A run as a trial: what it reports, and that it ends where the pruner gives it up."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from gpt2_lightning.sweeps.assignment import Assignment
from tests.test_configs import TEXT, TOY, main, options, run_folder

TRIAL = ["--trainer.max_steps=8", "--trainer.val_check_interval=2", "--samples.every_n_steps=0"]


@pytest.fixture
def study(tmp_path: Path) -> optuna.Study:
    """Ten trials that were all far better than any real run."""
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.create_study(study_name="toy", storage=storage)
    for _ in range(10):
        study.add_trial(optuna.create_trial(value=0.1, intermediate_values=dict.fromkeys(range(1, 5), 0.1)))
    return study


def assignment(
    tmp_path: Path, trial: optuna.Trial, process: int, pruning: str | None = None, metric: str = "val/nll"
) -> Assignment:
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    return Assignment(
        "toy.yaml", "toy", storage, metric, pruning, 0, 20, process=process, trial_id=trial._trial_id
    )


def assign(
    study: optuna.Study,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pruning: str | None,
    metric: str = "val/bits_per_byte",
) -> int:
    trial = study.ask()
    given = assignment(tmp_path, trial, os.getppid(), pruning, metric)
    for name, value in given.environment().items():
        monkeypatch.setenv(name, value)
    return trial.number


def test_every_validation_is_reported(study: optuna.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    number = assign(study, tmp_path, monkeypatch, None)
    assert main(*options(tmp_path), *TEXT, *TOY, *TRIAL) == 0
    folder = run_folder(tmp_path)
    reported = study.trials[number].intermediate_values
    assert list(reported) == [1, 2, 3, 4]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert summary["val_bits_per_byte"] == pytest.approx(min(reported.values()), rel=1e-6)
    assert (folder / "export").is_dir()


def test_a_metric_that_validations_do_not_give_is_not_reported(
    study: optuna.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    number = assign(study, tmp_path, monkeypatch, None, "train/nll")
    assert main(*options(tmp_path), *TEXT, *TOY, *TRIAL) == 0
    assert study.trials[number].intermediate_values == {}


def test_a_run_that_goes_on_counts_its_validations_on(
    study: optuna.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Also those of a run that goes on from before its last validation, whose report stands."""
    number = assign(study, tmp_path, monkeypatch, None)
    assert main(*options(tmp_path), *TEXT, *TOY, *TRIAL, "--trainer.max_steps=4") == 0
    folder = run_folder(tmp_path)
    first = study.trials[number].intermediate_values
    assert list(first) == [1, 2]
    resume = [f"--config={folder}/config.yaml", f"--ckpt_path={folder}/checkpoints/last.ckpt"]
    assert main("fit", *resume, "--trainer.max_steps=8") == 0
    assert list(study.trials[number].intermediate_values) == [1, 2, 3, 4]
    study._storage.set_trial_user_attr(study.trials[number]._trial_id, "validated_at", [2, 4, 6, 8, 10])
    assert main("fit", *resume, "--trainer.max_steps=10") == 0
    assert list(study.trials[number].intermediate_values) == [1, 2, 3, 4, 5]


def test_a_run_that_is_given_up_says_so_and_exports_nothing(
    study: optuna.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    number = assign(study, tmp_path, monkeypatch, "median")
    assert main(*options(tmp_path), *TEXT, *TOY, *TRIAL) == 0
    summary = json.loads((run_folder(tmp_path) / "summary.json").read_text())
    assert (summary["status"], summary["steps"]) == ("pruned", 2)
    assert list(study.trials[number].intermediate_values) == [1]
    assert not (run_folder(tmp_path) / "export").exists()
    assert "pruned by the sweep" in capsys.readouterr().out


def test_a_run_whose_worker_is_gone_saves_and_stops(study: optuna.Study, tmp_path: Path):
    trial = study.ask()
    gone = subprocess.Popen(["true"])
    gone.wait()
    given = assignment(tmp_path, trial, gone.pid)
    command = [sys.executable, "train.py", *options(tmp_path), *TEXT, *TOY, *TRIAL]
    ended = subprocess.run(command, env=os.environ | given.environment(), capture_output=True, text=True)
    assert ended.returncode == 128 + signal.SIGTERM, ended.stderr
    assert json.loads((run_folder(tmp_path) / "summary.json").read_text())["status"] == "interrupted"
    assert (run_folder(tmp_path) / "checkpoints" / "last.ckpt").exists()
