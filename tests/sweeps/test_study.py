"""The queue of a study: every point once, whoever fills it, and tries again."""

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from gpt2_lightning.errors import InputError
from gpt2_lightning.sweeps.assignment import Assignment
from gpt2_lightning.sweeps.definition import Sweep, read
from gpt2_lightning.sweeps.study import (
    REASON,
    SLOT,
    enqueue_missing,
    give_back,
    open_study,
    points,
    reason_of,
    suggested,
    trials_of,
)

GRID = {"a": {"values": [1, 2]}, "b": {"parameters": {"c": {"min": 5, "max": 7}}}, "d": {"value": None}}
RANGE = {"a": {"min": 0.0, "max": 1.0}}


@pytest.fixture
def sweep(sweep_file: Callable[..., Path]) -> Sweep:
    return read(sweep_file(GRID))


def all_values(study: optuna.Study, sweep: Sweep) -> list[tuple[Any, ...]]:
    found = []

    def objective(trial: optuna.Trial) -> float:
        found.append(tuple(sweep.values_of(suggested(trial, sweep)).values()))
        return 0.0

    waiting = len(study.get_trials(states=(TrialState.WAITING,)))
    study.optimize(objective, n_trials=waiting)
    return found


def test_a_grid_is_enqueued_once_and_holds_every_point(sweep: Sweep, job: Assignment):
    study = open_study(sweep, job)
    enqueue_missing(study, sweep, job, 4)
    assert [trial.user_attrs[SLOT] for trial in study.trials] == [0, 1, 2, 3]
    again = open_study(sweep, replace(job, worker=1))
    for slots, trials in ((2, 4), (6, 6), (20, 6)):
        enqueue_missing(again, sweep, job, slots)
        assert len(study.trials) == trials, "fewer than there are add none"
    assert sweep.size == 6
    assert all_values(again, sweep) == [(a, c, None) for a in (1, 2) for c in (5, 6, 7)]


def test_random_points_are_those_of_the_seed_and_come_once(sweep_file: Callable[..., Path]):
    sweep = read(sweep_file(GRID, method="random"))
    first, again, other = (list(points(sweep, seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert len(first) == 6, "all that there are, each once"
    assert len({str(point) for point in first}) == 6
    endless = read(sweep_file(GRID | {"e": RANGE["a"]}, method="random"))
    assert endless.size == float("inf")
    drawn = [str(point) for point in islice(points(endless, 1), 20)]
    assert len(set(drawn)) == 20
    assert drawn == [str(point) for point in islice(points(endless, 1), 20)]


def test_of_a_large_space_too_no_point_comes_twice(sweep_file: Callable[..., Path]):
    """Multiples of eight whose ends are far apart: 2,000 can be counted, and few of them are likely."""
    eights = {"distribution": "q_log_uniform_values", "min": 8, "max": 80000, "q": 8}
    sweep = read(sweep_file({"a": eights}, method="random"))
    drawn = [sweep.values_of(point)["a"] for point in islice(points(sweep, 1), 100)]
    assert len(set(drawn)) == 100


def test_steps_of_a_log_range_are_drawn_along_its_logarithm(sweep_file: Callable[..., Path]):
    """Of 1 to 512, 32 is past the half."""
    steps = {"distribution": "q_log_uniform_values", "min": 1, "max": 512, "q": 1}
    sweep = read(sweep_file({"a": steps}, method="random"))
    drawn = [sweep.values_of(point)["a"] for point in islice(points(sweep, 1), 40)]
    assert sum(value <= 32 for value in drawn) > 10, "of equally likely ones, two or three"


@pytest.mark.parametrize(("method", "most"), [("random", 8), ("bayes", 20)])
def test_a_log_range_of_few_steps_ends_when_it_is_used_up(
    sweep_file: Callable[..., Path], method: str, most: int
):
    eights = {"distribution": "q_log_uniform_values", "min": 8, "max": 64, "q": 8}
    sweep = read(sweep_file({"a": eights}, method=method))
    drawn = list(islice(points(sweep, 0), 20))
    assert len(drawn) == most
    assert {sweep.values_of(point)["a"] for point in drawn if point} == set(range(8, 65, 8))


def test_bayes_begins_at_random_points_and_knows_no_others(sweep_file: Callable[..., Path], job: Assignment):
    sweep = read(sweep_file(RANGE, method="bayes"))
    known = list(islice(points(sweep, 0), 12))
    assert all(known[:10])
    assert not any(known[10:])
    study = open_study(sweep, job)
    enqueue_missing(study, sweep, job, 12)
    values = all_values(study, sweep)
    assert values[:10] == [(point["a"],) for point in known[:10]]
    assert len(set(values)) == 12
    few = read(sweep_file(GRID, method="bayes"))
    assert len(list(points(few, 0))) == 6, "no more than there are"


def test_a_worker_that_begins_again_draws_other_points(sweep_file: Callable[..., Path], job: Assignment):
    sweep = read(sweep_file(RANGE, method="bayes"))
    drawn = []
    for worker in (0, 0, 1):
        study = open_study(sweep, replace(job, worker=worker))
        study.enqueue_trial({})
        drawn += all_values(study, sweep)
    assert len(set(drawn)) == 3


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")  # which ask and tell do without
def test_a_trial_again_has_its_values_reports_and_slot_and_is_the_one_that_counts(
    sweep: Sweep, job: Assignment
):
    study = open_study(sweep, job)
    enqueue_missing(study, sweep, job, 1)
    trial = study.ask()
    values = suggested(trial, sweep)
    trial.report(3.5, 1)
    trial.set_user_attr(REASON, "of the first try")
    study.tell(trial, state=TrialState.FAIL)
    assert reason_of(study.trials[0]) == "of the first try"
    killed = study._storage.get_heartbeat_stale_trial_callback()  # pyright: ignore[reportAttributeAccessIssue]
    give_back(study, 0)
    for tries in range(1, 4):
        again = study.ask()
        assert again.user_attrs == {SLOT: 0}
        assert suggested(again, sweep) == values
        assert study.trials[-1].intermediate_values == {1: 3.5}
        study.tell(again, state=TrialState.FAIL)
        assert [trial.number for trial in trials_of(study)] == [tries]
        killed(study, study.trials[-1])
    assert len(study.trials) == 4, "no more than three times"
    assert reason_of(study.trials[3]) == "its worker was killed 4 times"
    give_back(study, 3)
    assert len(study.trials) == 5
    assert reason_of(study.trials[4]) == ""


def test_a_finished_trial_counts_before_one_that_came_too_late(sweep: Sweep, job: Assignment):
    study = open_study(sweep, job)
    study.add_trial(optuna.create_trial(value=1.0, user_attrs={SLOT: 0}))
    study.add_trial(optuna.create_trial(state=TrialState.FAIL, user_attrs={SLOT: 0}))
    study.add_trial(optuna.create_trial(state=TrialState.FAIL))  # no slot: another worker was faster
    (trial,) = trials_of(study)
    assert trial.value == 1.0


def test_another_sweep_is_not_mixed_into_a_study(
    sweep: Sweep, sweep_file: Callable[..., Path], job: Assignment, tmp_path: Path
):
    study = open_study(sweep, job)
    enqueue_missing(study, sweep, job, 1)
    changed = read(sweep_file(GRID | {"a": {"values": [1, 2, 3]}}))
    with pytest.raises(InputError, match="was changed since toy was begun"):
        open_study(changed, job)
    open_study(changed, replace(job, folder=str(tmp_path / "other")))


@pytest.mark.parametrize(
    "storage",
    [
        "sqlite:////nowhere/study.db",
        "postgresql+psycopg://someone@127.0.0.1:1/none",
        "nonsense",
        "mysql://a/b",
    ],
)
def test_a_storage_that_cannot_be_used_is_named(sweep: Sweep, job: Assignment, storage: str):
    with pytest.raises(InputError) as error:
        open_study(sweep, replace(job, storage=storage))
    assert str(error.value).startswith(f"--storage {storage}: cannot be used: ")
