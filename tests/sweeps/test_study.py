"""The queue of a study: every point once, whoever fills it, and tries again."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import optuna
import pytest

from gpt2_lightning.errors import InputError
from gpt2_lightning.sweeps.definition import Sweep, read
from gpt2_lightning.sweeps.study import (
    SLOT,
    VALUES,
    Settings,
    enqueue_next,
    enqueue_other,
    open_study,
    points,
    put_back,
    put_back_unbegun,
    reason_of,
    suggested,
    trials_of,
)

GRID = {"a": {"values": [1, 2]}, "b": {"parameters": {"c": {"min": 5, "max": 7}}}, "d": {"value": None}}


@pytest.fixture
def sweep(sweep_file: Callable[..., Path]) -> Sweep:
    return read(sweep_file(GRID))


def settings(tmp_path: Path, **changed: Any) -> Settings:
    given = {"name": "toy", "storage": f"sqlite:///{tmp_path / 'study.db'}", "seed": 0, "pruning": None}
    return Settings(**given | {"heartbeat_seconds": 5} | changed)


def all_values(study: optuna.Study, sweep: Sweep) -> list[tuple[Any, ...]]:
    found = []
    study.optimize(lambda trial: found.append(tuple(suggested(trial, sweep).values())) or 0.0, n_trials=6)
    return found


def fill(study: optuna.Study, sweep: Sweep, given: Settings) -> int:
    while enqueue_next(study, sweep, given):
        pass
    return len(study.trials)


def test_a_grid_is_filled_once_and_holds_every_point(sweep: Sweep, tmp_path: Path):
    study = open_study(sweep, settings(tmp_path))
    assert fill(study, sweep, settings(tmp_path, slots=4)) == 4
    again = open_study(sweep, settings(tmp_path), worker=1)
    assert fill(again, sweep, settings(tmp_path, slots=2)) == 4, "fewer than there are add none"
    assert fill(again, sweep, settings(tmp_path)) == 6
    assert fill(again, sweep, settings(tmp_path, slots=20)) == 6
    assert sweep.size == 6
    assert sorted(all_values(again, sweep)) == [(a, c, None) for a in (1, 2) for c in (5, 6, 7)]


def test_random_points_are_those_of_the_seed_and_come_once(sweep_file: Callable[..., Path]):
    sweep = read(sweep_file(GRID, method="random"))
    first, again, other = (list(points(sweep, seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert len(first) == 6, "all that there are, each once"
    assert len({str(point) for point in first}) == 6
    endless = read(sweep_file(GRID | {"e": {"min": 0.0, "max": 1.0}}, method="random"))
    assert endless.size == float("inf")
    drawn = [str(point) for point in islice(points(endless, 1), 20)]
    assert len(set(drawn)) == 20
    assert drawn == [str(point) for point in islice(points(endless, 1), 20)]


def test_bayes_begins_at_random_points_and_knows_no_others(sweep_file: Callable[..., Path], tmp_path: Path):
    sweep = read(sweep_file({"a": {"min": 0.0, "max": 1.0}}, method="bayes"))
    known = list(islice(points(sweep, 0), 12))
    assert all(known[:10])
    assert not any(known[10:])
    study = open_study(sweep, settings(tmp_path))
    assert fill(study, sweep, settings(tmp_path, slots=6)) == 6
    values = all_values(study, sweep)
    assert values == [(point["a"],) for point in known[:6]]
    few = read(sweep_file(GRID, method="bayes"))
    assert len(list(points(few, 0))) == 6, "no more than there are"


def test_a_worker_that_begins_again_draws_other_points(sweep_file: Callable[..., Path], tmp_path: Path):
    sweep = read(sweep_file({"a": {"min": 0.0, "max": 1.0}}, method="bayes"))
    drawn = []
    for worker in (0, 0, 1):
        study = open_study(sweep, settings(tmp_path), worker)
        study.enqueue_trial({})
        study.optimize(lambda trial: drawn.append(suggested(trial, sweep)["a"]) or 0.0, n_trials=1)
    assert len(set(drawn)) == 3


def test_a_point_that_came_twice_gives_way_to_one_that_nobody_has_tried(sweep: Sweep, tmp_path: Path):
    study = open_study(sweep, settings(tmp_path))
    tried = [{"a": a, "b.c": c, "d": None} for a in (1, 2) for c in (5, 6, 7)]
    for values in tried[:5]:
        study.add_trial(optuna.create_trial(value=1.0, user_attrs={SLOT: 0, VALUES: values}))
    assert enqueue_other(study, sweep, 0, 7)
    study.enqueue_trial({}, user_attrs={SLOT: 8})
    assert all_values(study, sweep)[0] == (2, 7, None)
    study.add_trial(optuna.create_trial(value=1.0, user_attrs={SLOT: 7, VALUES: tried[5]}))
    assert not enqueue_other(study, sweep, 0, 9), "every one has been tried"


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")  # which ask and tell do without
def test_a_trial_again_has_its_values_reports_and_slot_and_is_the_one_that_counts(
    sweep: Sweep, tmp_path: Path
):
    study = open_study(sweep, settings(tmp_path))
    enqueue_next(study, sweep, settings(tmp_path))
    trial = study.ask()
    values = suggested(trial, sweep)
    trial.report(3.5, 1)
    study.tell(trial, state=optuna.trial.TrialState.FAIL)
    killed = study._storage.get_heartbeat_stale_trial_callback()  # pyright: ignore[reportAttributeAccessIssue]
    for number in range(6):
        if number < 3:
            killed(study, study.trials[-1])
        else:
            put_back(study, study.trials[-1])  # who is interrupted was not killed
        again = study.ask()
        assert again.user_attrs[SLOT] == 0
        assert suggested(again, sweep) == values
        assert study.trials[-1].intermediate_values == {1: 3.5}
        study.tell(again, state=optuna.trial.TrialState.FAIL)
        assert len(trials_of(study)) == 1
        assert trials_of(study)[0].number == number + 1
    assert reason_of(study.trials[3]) == "its worker was killed 4 times"
    killed(study, study.trials[3])
    assert len(study.trials) == 7, "no more than three times"


def test_a_finished_trial_counts_before_one_that_came_too_late(sweep: Sweep, tmp_path: Path):
    study = open_study(sweep, settings(tmp_path))
    study.add_trial(optuna.create_trial(value=1.0, user_attrs={SLOT: 0}))
    study.add_trial(optuna.create_trial(state=optuna.trial.TrialState.FAIL, user_attrs={SLOT: 0}))
    (trial,) = trials_of(study)
    assert trial.value == 1.0


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_a_trial_whose_worker_died_before_it_began_goes_back(sweep: Sweep, tmp_path: Path):
    study = open_study(sweep, settings(tmp_path))
    enqueue_next(study, sweep, settings(tmp_path))
    study.ask()
    put_back_unbegun(study, 60)
    assert [trial.state.name for trial in study.trials] == ["RUNNING"], "it may be about to begin"
    put_back_unbegun(study, 0)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "WAITING"]
    assert trials_of(study)[0].user_attrs[SLOT] == 0
    again = study.ask()
    again.set_user_attr(VALUES, {"a": 1})
    put_back_unbegun(study, 0)
    assert len(study.trials) == 2, "a trial with values gives signs of life, or Optuna finds it"
    study.tell(again, state=optuna.trial.TrialState.FAIL)
    put_back(study, study.trials[-1])
    study.ask()
    put_back_unbegun(study, 0)
    assert len(study.trials) == 4, "also a try after one that had begun"


def test_another_sweep_is_not_mixed_into_a_study(
    sweep: Sweep, sweep_file: Callable[..., Path], tmp_path: Path
):
    study = open_study(sweep, settings(tmp_path))
    enqueue_next(study, sweep, settings(tmp_path))
    changed = read(sweep_file(GRID | {"a": {"values": [1, 2, 3]}}))
    with pytest.raises(InputError, match="was changed since toy was begun"):
        open_study(changed, settings(tmp_path))
    open_study(changed, settings(tmp_path, name="other"))


@pytest.mark.parametrize(
    "storage",
    [
        "sqlite:////nowhere/study.db",
        "postgresql+psycopg://someone@127.0.0.1:1/none",
        "nonsense",
        "mysql://a/b",
    ],
)
def test_a_storage_that_cannot_be_used_is_named(sweep: Sweep, tmp_path: Path, storage: str):
    with pytest.raises(InputError) as error:
        open_study(sweep, settings(tmp_path, storage=storage))
    assert str(error.value).startswith(f"--storage {storage}: cannot be used: ")
