import re
import time
from collections.abc import Callable

import pytest
from lightning.pytorch import Callback, Trainer

from gpt2_lightning.callbacks import pace as pace_module
from gpt2_lightning.callbacks.pace import Pace, StepTime, run_seconds
from gpt2_lightning.callbacks.progress import Progress
from gpt2_lightning.callbacks.throughput import Throughput


class SlowBackward(Callback):
    """A tenth of a second of each backward pass."""

    def on_before_backward(self, trainer, pl_module, loss):
        time.sleep(0.1)


def test_the_time_of_a_step_by_part(train: Callable[..., Trainer]):
    throughput = Throughput()
    pace = Pace(throughput)
    train([throughput, pace, SlowBackward()], accumulate_grad_batches=2, limit_val_batches=0)
    assert pace.step is not None
    assert 2 * 0.1 < pace.step.backward < 2 * 0.1 + 1
    assert pace.step.forward > 0
    assert pace.step.optimizer > 0
    assert pace.step.data > 0
    assert pace.step.products is not None
    assert sum(pace.step.parts.values()) == pytest.approx(1)


def test_it_says_how_long_the_rest_takes_and_what_takes_it(
    train: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(pace_module, "_WARM_SECONDS", 0.0)
    throughput = Throughput()
    callbacks = [throughput, Progress(throughput), Pace(throughput), SlowBackward()]
    train(callbacks, max_steps=13, limit_val_batches=0, enable_progress_bar=True)
    lines = [line for line in capsys.readouterr().out.splitlines() if "steps left" in line]
    assert len(lines) == 1
    assert lines[0].startswith("the 10 steps left take about 0:0")
    assert re.search(r"\(data \d%, forward \d+%, backward [5-9]\d%, optimizer \d+%\)$", lines[0])


def test_it_measures_whole_steps_of_many_micro_batches(
    train: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
):
    """The two seconds may be over in the midst of a step."""
    monkeypatch.setattr(pace_module, "_WARM_SECONDS", 0.45)
    pace = Pace(throughput := Throughput())
    train([throughput, pace, SlowBackward()], max_steps=4, accumulate_grad_batches=3, limit_val_batches=0)
    assert pace.step is not None
    assert 3 * 0.1 < pace.step.backward < 4 * 0.1


def test_a_validation_by_the_clock_is_left_out():
    trainer = Trainer(
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        val_check_interval="00:00:30:00",
        check_val_every_n_epoch=None,
    )
    assert run_seconds(trainer, StepTime(forward=2.0), steps=10, num_batches=5, num_val_batches=9) == 20


def test_where_a_step_takes_far_longer_than_its_products_the_part_is_named():
    step = StepTime(data=0.0, forward=0.1, backward=0.2, optimizer=1.7, products=0.1)
    assert step.slow_part() == (
        "a step takes 20.0 times as long as its matrix products at this machine's rate; 85% of it is the "
        "optimizer"
    )
    assert "waiting for data" in str(StepTime(data=1.0, forward=0.1, products=0.1).slow_part())
    assert StepTime(forward=0.1, backward=0.2, optimizer=0.1, products=0.2).slow_part() is None
    assert StepTime(forward=0.01, products=0.0001).slow_part() is None, (
        "nobody waits for a hundredth of a second"
    )
    assert StepTime(forward=100.0).slow_part() is None, "the rate is not known"


def test_steps_under_other_conditions_by_hand():
    step = StepTime(data=1.0, forward=2.0, backward=3.0, optimizer=4.0, products=3.0)
    assert step.accumulated(2) == StepTime(2.0, 4.0, 6.0, 4.0, 6.0)
    assert step.times(0.5) == StepTime(1.0, 1.0, 1.5, 2.0, 1.5)
    assert step.with_products(2.0) == StepTime(1.0, 3.0, 5.0, 4.0, 6.0)
    assert str(step) == "10.00 s a step (data 10%, forward 20%, backward 30%, optimizer 40%)"


@pytest.mark.parametrize(
    ("settings", "validations"),
    [
        ({"val_check_interval": 40, "check_val_every_n_epoch": None}, 5),
        ({"val_check_interval": 40, "check_val_every_n_epoch": None, "accumulate_grad_batches": 4}, 20),
        ({"val_check_interval": 1.0, "check_val_every_n_epoch": 1}, 2),
        ({"val_check_interval": 0.25, "check_val_every_n_epoch": 2}, 4),
    ],
)
def test_validations_count_too(settings: dict, validations: int):
    """200 steps, 100 micro-batches an epoch, 10 batches a validation, each of a second."""
    trainer = Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, **settings)
    step = StepTime(forward=1.0 * trainer.accumulate_grad_batches)
    seconds = run_seconds(trainer, step, steps=200, num_batches=100, num_val_batches=10)
    assert seconds == pytest.approx(200 * step.total + validations * 10)


def test_it_can_end_the_training_when_it_knows(
    train: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(pace_module, "_WARM_SECONDS", 0.0)
    pace = Pace(throughput := Throughput(), ends=True)
    trainer = train([throughput, pace], max_steps=100, accumulate_grad_batches=2, limit_val_batches=0)
    assert pace.step is not None
    assert trainer.global_step == 3, "one to warm up, two measured"
    assert "steps left" not in capsys.readouterr().out
