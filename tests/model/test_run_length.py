"""How long a run is, by each of the options that can end it."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Timer

from gpt2_lightning.model.run_length import ends_step, expected_steps, time_share, total_steps


def trainer(accumulate: int = 1, **options: Any) -> Trainer:
    return Trainer(accelerator="cpu", logger=False, accumulate_grad_batches=accumulate, **options)


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"max_steps": 7}, 7),
        ({"max_epochs": 2}, 2 * 4),  # ten micro-batches by three: the last step has one
        ({"max_epochs": 2, "max_steps": 5}, 5),
        ({"max_epochs": 2, "max_steps": 50}, 8),
        ({"max_epochs": -1}, math.inf),
    ],
)
def test_the_shorter_of_steps_and_epochs_ends_it(options: dict[str, int], steps: float):
    assert total_steps(trainer(accumulate=3, **options), num_batches=10) == steps


def test_the_last_of_an_epoch_ends_its_step_too():
    found = [
        ends_step(SimpleNamespace(accumulate_grad_batches=3, is_last_batch=number == 4), number)  # pyright: ignore
        for number in range(5)
    ]
    assert found == [False, False, True, False, True]


def test_a_run_bounded_by_time_is_as_long_as_its_pace_says():
    run = trainer(max_steps=100)
    run.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total.completed = 9
    assert run.global_step == 9
    assert expected_steps(run, None) == 100
    assert expected_steps(run, 0.5) == 20, "ten steps with this one, in half of the time"
    assert expected_steps(run, 0.01) == 100


def test_the_share_of_the_time_that_is_over():
    timer = Timer(duration={"seconds": 40})
    run = trainer(max_steps=1)
    assert time_share(run) is None
    run.callbacks.append(timer)  # pyright: ignore[reportAttributeAccessIssue]
    timer._offset = 10.0  # of the run that this one goes on from
    assert time_share(run) == pytest.approx(0.25)
