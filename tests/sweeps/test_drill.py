"""Workers on PostgreSQL that are killed again and again: no trial is lost, stuck or done twice."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from sqlalchemy.pool import NullPool

from gpt2_lightning.sweeps.study import SLOT, reason_of, trials_of

TRIALS, SECONDS_BETWEEN_KILLS = 30, 7


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(process.pid)], capture_output=True, text=True
    )
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if "sweeps.worker" in line]


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.2)


@pytest.mark.slow
def test_thirty_trials_three_workers_and_one_killed_every_few_seconds(
    sweep_file: Callable[..., Path], postgres: str, tmp_path: Path
):
    rates = [round(0.001 * 1.1**number, 6) for number in range(TRIALS)]
    path = sweep_file({"model.optimizer.init_args.lr": {"values": rates}})
    command = [sys.executable, "-m", "gpt2_lightning", "sweep", str(path), "--workers", "3"]
    command += ["--storage", postgres, "--heartbeat_seconds", "1", "--logs", str(tmp_path / "logs")]
    kills = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        newest = time.monotonic() + 8
        while process.poll() is None:
            time.sleep(0.2)
            if time.monotonic() - newest > SECONDS_BETWEEN_KILLS and (workers := workers_of(process)):
                os.kill(workers[kills % len(workers)], signal.SIGKILL)
                kills, newest = kills + 1, time.monotonic()
        assert process.stdout is not None
        said = process.stdout.read()
    assert process.returncode == 0, said
    assert kills > 5
    storage = optuna.storages.RDBStorage(postgres, engine_kwargs={"poolclass": NullPool})
    study = optuna.load_study(study_name="toy", storage=storage)
    states = Counter(trial.state.name for trial in trials_of(study))
    assert states["COMPLETE"] + states["FAIL"] == TRIALS, states
    assert states["COMPLETE"] >= TRIALS - 3, said
    finished = Counter(t.user_attrs[SLOT] for t in study.trials if t.state.name == "COMPLETE")
    assert set(finished.values()) == {1}, "done twice"
    assert not [t for t in study.trials if t.state.name in ("RUNNING", "WAITING")], "stuck"
    for trial in trials_of(study):
        run = tmp_path / "logs" / "sweeps" / "toy" / f"trial-{trial.user_attrs[SLOT]:04d}"
        if trial.state.name == "COMPLETE":
            assert json.loads((run / "summary.json").read_text())["status"] == "finished"
    storage.remove_session()
    print(f"{kills} workers killed; {dict(states)}; {len(study.trials) - TRIALS} tries again")
    print([reason_of(trial) for trial in trials_of(study) if trial.state.name == "FAIL"])


@pytest.mark.slow
def test_a_worker_that_stands_still_loses_its_trial_and_nothing_else(
    sweep_file: Callable[..., Path], tmp_path: Path
):
    """As in a machine that sleeps: the run goes on, another worker waits for it and takes its number."""
    rates = [0.001, 0.002, 0.003, 0.004]
    path = sweep_file({"model.optimizer.init_args.lr": {"values": rates}}, ("--trainer.max_steps=200",))
    command = [sys.executable, "-m", "gpt2_lightning", "sweep", str(path), "--workers", "2"]
    command += ["--heartbeat_seconds", "1", "--logs", str(tmp_path / "logs")]
    folder = tmp_path / "logs" / "sweeps" / "toy"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        wait_for(lambda: len(list(folder.glob("trial-*/metrics.csv"))) == 2)
        study = optuna.load_study(study_name="toy", storage=f"sqlite:///{folder / 'study.db'}")
        stopped = workers_of(process)[0]
        os.kill(stopped, signal.SIGSTOP)
        wait_for(lambda: len(study.trials) > len(rates))  # until the trial was given to another
        os.kill(stopped, signal.SIGCONT)
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert [trial.state.name for trial in trials_of(study)] == ["COMPLETE"] * len(rates), said
