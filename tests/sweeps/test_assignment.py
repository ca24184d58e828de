"""The pruner that was asked for, and a storage that gives a trial to one worker alone."""

import threading
from pathlib import Path

import optuna
import pytest

from gpt2_lightning.sweeps.assignment import Assignment, open_storage, pruner_of


def test_pruners_are_those_that_were_asked_for():
    assert isinstance(pruner_of(None), optuna.pruners.NopPruner)
    assert isinstance(pruner_of("median"), optuna.pruners.MedianPruner)
    for given, least in (({"min_iter": 3, "eta": 2}, 3), ({"max_iter": 27, "s": 2}, 3), ({"max_iter": 8}, 3)):
        pruner = pruner_of(given)
        assert isinstance(pruner, optuna.pruners.HyperbandPruner)
        assert pruner._min_resource == least


def test_an_assignment_passes_through_the_environment(monkeypatch: pytest.MonkeyPatch):
    assert Assignment.given() is None
    assignment = Assignment(
        "toy.yaml", "sweeps/toy", "sqlite:///study.db", "val/nll", {"min_iter": 1}, 0, 20, trial_id=3
    )
    assert assignment.study == "toy"
    for name, value in assignment.environment().items():
        monkeypatch.setenv(name, value)
    assert Assignment.given() == assignment


def test_every_trial_that_waits_is_taken_once(tmp_path: Path):
    """Several at once take them, each through a storage of its own, as processes do."""
    address = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.create_study(study_name="toy", storage=open_storage(address))
    for _ in range(40):
        study.enqueue_trial({}, {"waits": True})
    taken: list[int] = []

    def take() -> None:
        own = optuna.load_study(study_name="toy", storage=open_storage(address))
        while (trial := own.ask()).user_attrs:
            taken.append(trial.number)

    workers = [threading.Thread(target=take) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(taken) == list(range(40))
