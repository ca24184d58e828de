"""A worker: it takes what waits, waits for what others train, and ends."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from gpt2_lightning.sweeps.assignment import Assignment
from gpt2_lightning.sweeps.definition import Sweep
from gpt2_lightning.sweeps.study import SLOT, enqueue_missing, open_study, reason_of, trials_of
from gpt2_lightning.sweeps.trial import TrialRunner
from gpt2_lightning.sweeps.worker import _take_one, work

FOUR = {"x": {"values": [1, -2, 3, 0.5]}}


def begun(sweep: Sweep, job: Assignment, slots: int) -> optuna.Study:
    study = open_study(sweep, job)
    enqueue_missing(study, sweep, job, slots)
    return study


def times(job: Assignment, slot: int) -> int:
    return len((Path(job.folder) / f"trial-{slot:04d}" / "times").read_text().split())


def test_every_trial_is_trained_once(quick_sweep: Callable[..., Sweep], job: Assignment):
    sweep = quick_sweep(FOUR)
    study = begun(sweep, job, 4)
    work(study, TrialRunner(sweep, job, os.getppid()))
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert [trial.value for trial in study.trials] == [1, None, 3, 0.5]
    assert reason_of(study.trials[1]) == "error: below zero"
    assert [times(job, slot) for slot in range(4)] == [1, 1, 1, 1]


def test_where_time_alone_ends_a_sweep_points_follow_until_there_are_none(
    quick_sweep: Callable[..., Sweep], job: Assignment
):
    sweep = quick_sweep({"x": {"min": 1.0, "max": 2.0}}, method="random")
    job = replace(job, is_endless=True, until=time.time() + 3)
    study = begun(sweep, job, 0)
    work(study, TrialRunner(sweep, job, os.getppid()))
    assert len(trials_of(study)) > 2
    assert [trial.user_attrs[SLOT] for trial in study.trials] == list(range(len(study.trials)))
    assert {trial.state.name for trial in study.trials} == {"COMPLETE"}
    grid = replace(job, until=time.time() + 60, folder=f"{job.folder}-grid")
    Path(grid.folder).mkdir()
    study = begun(sweep := quick_sweep(FOUR), grid, 0)
    work(study, TrialRunner(sweep, grid, os.getppid()))
    assert len(study.trials) == 4


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_a_trial_whose_worker_died_before_its_first_sign_of_life_is_trained(
    quick_sweep: Callable[..., Sweep], job: Assignment
):
    sweep = quick_sweep(FOUR)
    study = begun(sweep, job, 1)
    study.ask()  # without a heartbeat, ever
    work(study, TrialRunner(sweep, job, os.getppid()))
    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE"]
    assert [trial.user_attrs[SLOT] for trial in study.trials] == [0, 0]


def test_a_trial_that_was_given_to_another_is_let_go(quick_sweep: Callable[..., Sweep], job: Assignment):
    sweep = quick_sweep(FOUR)
    study = begun(sweep, job, 2)

    class Slow(TrialRunner):
        def __call__(self, trial: optuna.Trial) -> float:
            value = super().__call__(trial)
            if trial.number == 0:
                trial.study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
            return value

    work(study, Slow(sweep, job, os.getppid()))
    assert times(job, 0) == times(job, 1) == 1
    assert [trial.state.name for trial in study.trials] == ["FAIL", "FAIL"]


def test_a_trial_that_optuna_made_is_not_trained(quick_sweep: Callable[..., Sweep], job: Assignment):
    """Another worker took the last that waited."""
    sweep = quick_sweep(FOUR)
    study = begun(sweep, job, 0)
    _take_one(study, TrialRunner(sweep, job, os.getppid()))
    assert [trial.state.name for trial in study.trials] == ["FAIL"]
    assert trials_of(study) == []
    assert not list(Path(job.folder).glob("trial-*"))


def test_without_its_parent_a_worker_ends(quick_sweep: Callable[..., Sweep], job: Assignment):
    sweep = quick_sweep(FOUR)
    study = begun(sweep, job, 1)
    work(study, TrialRunner(sweep, job, parent=0))
    assert [trial.state.name for trial in study.trials] == ["WAITING"]
    with pytest.raises(KeyboardInterrupt):
        study.optimize(TrialRunner(sweep, job, parent=0), n_trials=1)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "WAITING"]
    assert trials_of(study)[0].user_attrs[SLOT] == 0
