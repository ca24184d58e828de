"""The queue of a study: every point once, whoever fills it, and tries again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from gpt2_lightning.errors import InputError
from gpt2_lightning.sweeps.definition import Sweep, read
from gpt2_lightning.sweeps.study import (
    SLOT,
    Settings,
    enqueue,
    open_study,
    points,
    retry,
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


def test_a_grid_is_filled_once_and_holds_every_point(sweep: Sweep, tmp_path: Path):
    study = open_study(sweep, settings(tmp_path))
    assert enqueue(study, sweep, 0, 4) == 4
    again = open_study(sweep, settings(tmp_path), worker=1)
    assert enqueue(again, sweep, 0, None) == 6
    assert enqueue(again, sweep, 0, None) == 6
    assert len(again.trials) == 6
    assert sorted(all_values(again, sweep)) == [(a, c, None) for a in (1, 2) for c in (5, 6, 7)]


def test_random_points_are_those_of_the_seed_and_come_once(sweep_file: Callable[..., Path]):
    sweep = read(sweep_file(GRID, method="random"))
    first, again, other = (list(points(sweep, seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert len(first) == 6, "all that there are, each once"
    assert len({str(point) for point in first}) == 6


def test_bayes_knows_no_points_before(sweep_file: Callable[..., Path], tmp_path: Path):
    sweep = read(sweep_file({"a": {"min": 0.0, "max": 1.0}}, method="bayes"))
    study = open_study(sweep, settings(tmp_path))
    assert enqueue(study, sweep, 0, 6) == 6
    values = all_values(study, sweep)
    assert len(set(values)) == 6
    assert all(0 <= value <= 1 for (value,) in values)


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")  # which ask and tell do without
def test_a_trial_again_has_its_values_reports_and_slot_and_is_the_one_that_counts(
    sweep: Sweep, tmp_path: Path
):
    study = open_study(sweep, settings(tmp_path))
    enqueue(study, sweep, 0, 1)
    trial = study.ask()
    values = suggested(trial, sweep)
    trial.report(3.5, 1)
    study.tell(trial, state=optuna.trial.TrialState.FAIL)
    for number in range(3):
        retry(study, study.trials[-1])
        again = study.ask()
        assert again.user_attrs[SLOT] == 0
        assert suggested(again, sweep) == values
        assert study.trials[-1].intermediate_values == {1: 3.5}
        study.tell(again, state=optuna.trial.TrialState.FAIL)
        assert len(trials_of(study)) == 1
        assert trials_of(study)[0].number == number + 1
    retry(study, study.trials[-1])
    assert len(study.trials) == 4, "no more than three times"


def test_another_sweep_is_not_mixed_into_a_study(
    sweep: Sweep, sweep_file: Callable[..., Path], tmp_path: Path
):
    open_study(sweep, settings(tmp_path))
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
