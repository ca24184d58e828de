"""Ctrl-C and a scheduler's signals; whole runs are stopped in tests/commandline/test_cli.py."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpt2_lightning.callbacks.stop_signals import StopSignals


@pytest.fixture
def signals() -> Iterator[StopSignals]:
    signals = StopSignals()
    signals.install(is_talking=True)
    yield signals
    signals.restore()


def test_a_signal_is_kept_until_it_is_asked_for_and_said(
    signals: StopSignals, capfd: pytest.CaptureFixture[str]
):
    assert signals.received is None
    os.kill(os.getpid(), signal.SIGTERM)
    assert signals.received == signal.SIGTERM
    assert capfd.readouterr().err == "\nfinishing this optimizer step; SIGTERM again stops at once\n"
    assert signals.interruption().exit_code == 143


def test_a_second_ctrl_c_is_pythons_own(signals: StopSignals):
    os.kill(os.getpid(), signal.SIGINT)
    assert signals.interruption().exit_code == 130
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_terminal_that_is_closed_stops_the_run_unless_nohup_ignores_it():
    before = signal.getsignal(signal.SIGHUP)
    try:
        for handler, code in ((signal.SIG_DFL, 129), (signal.SIG_IGN, None)):
            signal.signal(signal.SIGHUP, handler)
            signals = StopSignals()
            signals.install(is_talking=False)
            os.kill(os.getpid(), signal.SIGHUP)
            signals.restore()
            assert (signals.received and signals.interruption().exit_code) == code
            assert signal.getsignal(signal.SIGHUP) == handler
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_handlers_before_come_back():
    before = signal.getsignal(signal.SIGTERM)
    signals = StopSignals()
    signals.install(is_talking=False)
    assert signal.getsignal(signal.SIGTERM) != before
    signals.restore()
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("environment", "job"),
    [
        ({"SLURM_JOB_ID": "7"}, "7"),
        ({"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}, "7_2"),
        ({}, None),
    ],
)
def test_a_job_whose_time_is_over_is_put_back_into_the_queue(
    signals: StopSignals,
    environment: dict[str, str],
    job: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    scontrol, asked = tmp_path / "scontrol", tmp_path / "asked"
    scontrol.write_text(f'#!/bin/sh\necho "$@" > {asked}\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    os.kill(os.getpid(), signal.SIGUSR1)
    assert signals.interruption().exit_code == 143
    assert (asked.read_text() if asked.exists() else None) == (job and f"requeue {job}\n")


def test_a_queue_that_does_not_take_it_back_is_named(
    signals: StopSignals, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    os.kill(os.getpid(), signal.SIGUSR1)
    assert signals.interruption().exit_code == 143
    assert "the job cannot be put back into the queue: " in capsys.readouterr().out
