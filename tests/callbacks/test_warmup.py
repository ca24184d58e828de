from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import Callback, Trainer

from gpt2_lightning.callbacks.warmup import WarmupSchedule, lr_multiplier
from gpt2_lightning.model.optimizers import MuonAdamW
from gpt2_lightning.runs.loggers import MetricsCSV
from tests.conftest import read_metrics, tiny_module

SCHEDULES = st.sampled_from(["cosine", "linear", "constant", "inverse_sqrt", "wsd"])


def test_warm_up_and_line_by_hand():
    rates = [lr_multiplier(step, total_steps=8, warmup_steps=4, schedule="linear") for step in range(9)]
    assert rates == [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]


def test_cosine_by_hand():
    rates = [lr_multiplier(step, 104, 4, "cosine", min_lr_ratio=0.1) for step in (4, 54, 104)]
    assert rates == pytest.approx([1.0, 0.55, 0.1])


def test_constant_stays():
    assert {lr_multiplier(step, 10, 2, "constant") for step in range(2, 10)} == {1.0}


def test_inverse_square_root_by_hand():
    rates = [lr_multiplier(step, 10_000, 4, "inverse_sqrt", min_lr_ratio=0.1) for step in (4, 16, 64, 9999)]
    assert rates == [1.0, 0.5, 0.25, 0.1]


def test_stable_then_decay_by_hand():
    rates = [lr_multiplier(step, 100, 4, "wsd", decay_fraction=0.2) for step in (4, 50, 80, 90, 100)]
    assert rates == pytest.approx([1.0, 1.0, 1.0, 0.5, 0.0])


@given(st.integers(1, 500), st.integers(0, 500), st.floats(0, 1), SCHEDULES)
def test_bounded_and_continuous(total_steps: int, warmup_steps: int, min_lr_ratio: float, schedule):
    warmup_steps = min(warmup_steps, total_steps - 1)
    rates = [lr_multiplier(s, total_steps, warmup_steps, schedule, min_lr_ratio) for s in range(total_steps)]
    assert all(0 < rate <= 1 for rate in rates[: warmup_steps + 1])
    assert all(min_lr_ratio - 1e-9 <= rate <= 1 for rate in rates[warmup_steps:])
    fall = (
        total_steps - warmup_steps if schedule != "wsd" else min(total_steps - warmup_steps, total_steps / 5)
    )
    largest = max(1 / max(1, warmup_steps), 2 / max(1, fall))
    assert all(abs(a - b) <= largest + 1e-9 for a, b in pairwise(rates))


class Rates(Callback):
    """The learning rates that the optimizer used, by step."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.seen.append(optimizer.param_groups[0]["lr"])


def test_optimizer_follows_the_schedule_under_accumulation(train: Callable[..., Trainer]):
    rates = Rates()
    module = tiny_module(optimizer=lambda params: torch.optim.SGD(params, lr=2.0))
    schedule = WarmupSchedule(warmup_steps=2, schedule="linear", min_lr_ratio=0.0)
    train([schedule, rates], module=module, max_steps=6, accumulate_grad_batches=3, limit_val_batches=0)
    assert rates.seen == pytest.approx([1.0, 2.0, 2.0, 1.5, 1.0, 0.5])


def test_fraction_of_a_run_bounded_by_epochs(train: Callable[..., Trainer]):
    rates = Rates()
    trainer = train(
        [WarmupSchedule(warmup_fraction=0.5), rates], max_steps=-1, max_epochs=2, limit_val_batches=0
    )
    steps = trainer.global_step
    assert rates.seen.index(max(rates.seen)) == round(steps / 2) - 1
    assert rates.seen[0] == pytest.approx(1e-2 / round(steps / 2))


def test_a_run_bounded_by_time_ends_its_curve_with_it(train: Callable[..., Trainer]):
    rates = Rates()
    schedule = WarmupSchedule(warmup_fraction=0.2, schedule="linear", min_lr_ratio=0.0)
    train([schedule, rates], max_steps=-1, max_time={"seconds": 3}, limit_val_batches=0)
    assert len(rates.seen) > 50
    assert 0 < rates.seen[0] < 0.2e-2
    assert max(rates.seen) > 0.9e-2
    assert rates.seen[-1] < 0.1e-2
    peak = rates.seen.index(max(rates.seen)) / len(rates.seen)
    assert 0.05 < peak < 0.5


def test_rate_is_recorded(train: Callable[..., Trainer], tmp_path: Path):
    train([WarmupSchedule(warmup_steps=2)], max_steps=3, logger=MetricsCSV(str(tmp_path)))
    rows = read_metrics(tmp_path)
    assert [float(row["train/learning_rate"]) for row in rows] == pytest.approx([0.005, 0.01, 0.01])


def test_a_curve_begins_at_its_step(train: Callable[..., Trainer]):
    rates = Rates()
    module = tiny_module(optimizer=lambda params: torch.optim.SGD(params, lr=2.0))
    schedule = WarmupSchedule(start_step=2, warmup_steps=2, schedule="linear", min_lr_ratio=0.0)
    train([schedule, rates], module=module, max_steps=8, limit_val_batches=0)
    assert rates.seen == pytest.approx([1.0, 1.0, 1.0, 2.0, 2.0, 1.5, 1.0, 0.5])


def test_the_rate_of_each_group_is_recorded_where_they_differ(train: Callable[..., Trainer], tmp_path: Path):
    module = tiny_module(optimizer=lambda params: MuonAdamW(params, lr=0.02, muon_lr_ratio=0.5))
    train([WarmupSchedule(warmup_steps=2)], module=module, max_steps=3, logger=MetricsCSV(str(tmp_path)))
    names = ("train/learning_rate", "learning_rate/embeddings", "learning_rate/hidden_matrices")
    rows = read_metrics(tmp_path)
    assert [[float(row[name]) for name in names] for row in rows] == [
        [0.01, 0.01, 0.005],
        [0.02, 0.02, 0.01],
        [0.02, 0.02, 0.01],
    ]
