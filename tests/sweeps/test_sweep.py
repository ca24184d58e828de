"""A sweep from its file to its report, with real runs."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
import yaml

from gpt2_lightning.__main__ import main
from gpt2_lightning.runs.run import Run
from gpt2_lightning.sweeps import sweep as sweep_module
from gpt2_lightning.sweeps.study import REASON, SLOT, run_of, trials_of
from gpt2_lightning.sweeps.sweep import _share
from tests.test_configs import main as train

TOY = {
    "model.optimizer.init_args.lr": {"values": [0.001, 0.01]},
    "model.architecture": {"parameters": {"n_embd": {"value": 8}, "n_head": {"values": [1, 3]}}},
}


def study_of(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name=folder.name, storage=f"sqlite:///{folder / 'study.db'}")


def test_a_grid_with_failures_gives_a_report_and_goes_on(
    sweep_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Three heads do not divide a width of eight: two of four trials fail, and say why."""
    options = ["--logs", str(tmp_path / "logs"), "--workers", "2"]
    file = str(sweep_file(TOY))
    assert main(["sweep", file, *options, "--trials", "2"]) == 0
    assert "2 of 2 trials · 1 failed · best val/nll" in capsys.readouterr().out
    assert main(["sweep", file, *options]) == 0
    printed = capsys.readouterr().out
    assert "2 trials are done already" in printed
    assert printed.count("error: --model.architecture.n_head 3 does not divide") == 1
    folder = tmp_path / "logs" / "sweeps" / "toy"
    trials = trials_of(study_of(folder))
    assert [trial.state.name for trial in trials] == ["COMPLETE", "FAIL", "COMPLETE", "FAIL"]
    for trial in (trials[1], trials[3]):
        assert trial.user_attrs[REASON].startswith("error: --model.architecture.n_head 3 does not divide")
    for trial in (trials[0], trials[2]):
        run = Run(folder / f"trial-{trial.user_attrs[SLOT]:04d}")
        assert run.summary["status"] == "finished"
        assert trial.value == min(run.series("val/nll")["value"])
        assert trial.value == pytest.approx(run.summary["val_nll"], rel=1e-6)  # there in float32
    started = (folder / "output" / "worker-0.txt").stat().st_mtime_ns
    assert main(["sweep", file, *options]) == 0
    assert "4 of 4 trials · 2 failed" in capsys.readouterr().out
    assert (folder / "output" / "worker-0.txt").stat().st_mtime_ns == started, "nothing was left to do"
    assert main(["sweep", file, *options, "--retry_failed=true"]) == 0
    assert capsys.readouterr().out.count("error: --model.architecture.n_head 3 does not divide") == 2
    assert [trial.state.name for trial in trials_of(study_of(folder))] == ["COMPLETE", "FAIL"] * 2
    assert len(study_of(folder).trials) == 6, "those that have failed were tried once more"
    best = min((trials[0], trials[2]), key=lambda trial: trial.value or 0.0)
    page = (folder / "report.html").read_text()
    assert "<script>" in page
    assert "https://cdn" not in page.split("</head>")[1]
    for text in ("Best trial", "History", "Slices", "n_head 3 does not divide"):
        assert text in page.split("</head>")[1]
    assert re.search(r"best, [02]: lr=0\.\d+ n_head=1", page), "in the legend of the curves"
    config = yaml.safe_load((folder / "best.yaml").read_text())
    assert config["model"]["optimizer"]["init_args"]["lr"] == best.params["lr"]
    assert train("fit", f"--config={folder / 'best.yaml'}", f"--logs={tmp_path / 'again'}") == 0
    (again,) = (tmp_path / "again" / "toy_best").iterdir()
    assert min(Run(again).series("val/nll")["value"]) == best.value


def test_a_stopped_sweep_goes_on_with_the_same_runs(sweep_file: Callable[..., Path], tmp_path: Path):
    """Ctrl-C: the run saves, and its trial waits for the same command, which continues it."""
    file = str(sweep_file({"seed_everything": {"values": [0, 1]}}, ("--trainer.max_steps=3000",)))
    command = [sys.executable, "-m", "gpt2_lightning", "sweep", file, "--logs", str(tmp_path / "logs")]
    folder = tmp_path / "logs" / "sweeps" / "toy"
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # unlike in the background
    ) as process:
        metrics = folder / "trial-0000" / "metrics.csv"
        until = time.monotonic() + 90
        while not (metrics.exists() and len(metrics.read_text().splitlines()) > 3):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on with them" in said
    (trial,) = [trial for trial in study_of(folder).trials if trial.state.name == "FAIL"]
    assert REASON not in trial.user_attrs
    before = json.loads((folder / "trial-0000" / "summary.json").read_text())
    assert before["status"] == "interrupted"
    assert 0 < before["steps"] < 3000
    waiting = [trial for trial in study_of(folder).trials if trial.state.name == "WAITING"]
    assert [again.user_attrs[SLOT] for again in waiting] == [1, 0]
    assert waiting[1].params == trial.params


def test_trials_that_are_given_up_are_over(
    sweep_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Hyperband that looks at the first validation keeps some of nine learning rates, and prunes others."""
    rates = {"model.optimizer.lr": {"values": [0.01, *(10.0**-power for power in range(3, 11))]}}
    halving = {"type": "hyperband", "min_iter": 1, "max_iter": 2, "eta": 2}
    file = sweep_file(rates, ("--trainer.max_steps=8",), early_terminate=halving)
    assert main(["sweep", str(file), "--logs", str(tmp_path / "logs"), "--workers=2"]) == 0
    folder = tmp_path / "logs" / "sweeps" / "toy"
    trials = trials_of(study_of(folder))
    states = [trial.state.name for trial in trials]
    assert set(states) == {"COMPLETE", "PRUNED"}
    assert f"9 of 9 trials · {states.count('PRUNED')} pruned" in capsys.readouterr().out
    for trial in trials:
        status = Run(folder / run_of(trial)).summary["status"]
        assert status == {"COMPLETE": "finished", "PRUNED": "pruned"}[trial.state.name]


def test_a_sweep_without_a_success_is_none(
    sweep_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    program = tmp_path / "fails.py"
    program.write_text("import sys\nsys.exit(3 if sys.argv[1] == 'fit' else 0)\n")
    file = sweep_file({"x": {"values": [1, 2]}}, program=str(program))
    assert refusal(capsys, str(file), "--logs", str(tmp_path / "logs")) == (
        "error: every trial has failed, the first one: exit code 3"
    )
    assert (tmp_path / "logs" / "sweeps" / "toy" / "report.html").is_file()


def test_workers_share_the_cores_below_what_the_user_has_set(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sweep_module.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    shares = [_share(number, 2) for number in range(3)]
    assert [share["CUDA_VISIBLE_DEVICES"] for share in shares] == ["2", "5", "2"]
    assert (shares[0]["OMP_NUM_THREADS"], shares[0]["MKL_NUM_THREADS"]) == ("3", "4")


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["sweep", *arguments])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_an_option_that_does_not_exist_is_named_before_any_trial(
    sweep_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = str(sweep_file({"model.optimizer.init_args.learning_rate": {"values": [1, 2]}}))
    line = refusal(capsys, file, "--logs", str(tmp_path / "logs"))
    assert line.startswith(f"error: {file}: --model.optimizer")
    assert "learning_rate" in line
    assert not (tmp_path / "logs").exists()


def test_what_is_refused(sweep_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = str(sweep_file(TOY))
    assert "--trials: 0 is out of range" in refusal(capsys, file, "--trials", "0")
    assert "--storage: holds a password" in refusal(
        capsys, file, "--storage", "postgresql://me:secret@host/db"
    )
    assert "--name 'a/b': use letters" in refusal(capsys, file, "--name", "a/b")
    assert "nowhere.yaml: cannot be read" in refusal(capsys, "nowhere.yaml")
    for address in (
        "postgresql+psycopg://u@host/db?user=me&password=secret",
        "postgresql+psycopg://u:pa/ss@host/db",
        "postgresql+psycopg://u@host/db?passwd=secret",
    ):
        line = refusal(capsys, file, "--storage", address)
        assert "--storage: " in line
        assert "secret" not in line
        assert "pa/ss" not in line
    assert "--storage: is no address" in refusal(
        capsys, file, "--storage", "postgresql+psycopg://u@host:abc/db"
    )
    unreachable = "postgresql+psycopg://u@127.0.0.1:1/db"
    line = refusal(capsys, file, "--storage", unreachable, "--logs", str(tmp_path / "logs"))
    assert f"--storage {unreachable}: cannot be used" in line
    assert not (tmp_path / "logs" / "sweeps" / "toy").exists(), "nothing is left behind"
    endless = str(sweep_file({"data.seed": {"min": 0.0, "max": 1.0}}, method="bayes"))
    assert "--trials: give how many" in refusal(capsys, endless)
