"""How a sweep stands, in lines and in a table."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from gpt2_lightning.sweeps.definition import Sweep, read
from gpt2_lightning.sweeps.progress import Table, best_trial
from gpt2_lightning.sweeps.study import REASON, SLOT

RATES = {"model.optimizer.muon_lr": {"values": [0.0001, 0.01]}}


@pytest.fixture
def sweep(sweep_file: Callable[..., Path]) -> Sweep:
    return read(sweep_file(RATES, metric={"name": "train/learning_rate", "goal": "maximize"}))


def trial(slot: int, state: TrialState, value: float | None = None, **attributes: Any) -> FrozenTrial:
    """Of ten seconds."""
    choice = optuna.distributions.CategoricalDistribution((0.0001, 0.01))
    made = optuna.create_trial(
        state=state,
        value=value,
        params={"muon_lr": 0.01},
        distributions={"muon_lr": choice},
        user_attrs={SLOT: slot} | attributes,
        intermediate_values={1: 2.5, 2: 2.25} if state == TrialState.PRUNED else None,
    )
    made.number = slot
    if state != TrialState.WAITING:
        made.datetime_start = datetime.now() - timedelta(seconds=10)
    return made


def test_one_line_tells_how_many_the_best_and_the_time_left(sweep: Sweep):
    trials = [trial(0, TrialState.COMPLETE, 0.0001), trial(1, TrialState.COMPLETE, 0.01)]
    trials += [trial(2, TrialState.FAIL), trial(3, TrialState.PRUNED), trial(4, TrialState.WAITING)]
    assert best_trial(trials, sweep) is trials[1]
    said = "4 of 8 trials · 1 pruned · 1 failed · best train/learning_rate 0.0100, trial 1 · about 20 s left"
    assert Table(sweep, 8, workers=2).summary(trials) == said
    assert Table(sweep, None, workers=2).summary(trials[:1]).startswith("1 trials · best")


def test_a_trial_that_is_over_gets_a_line_once(sweep: Sweep, capsys: pytest.CaptureFixture[str]):
    table = Table(sweep, 3, workers=1)
    trials = [trial(0, TrialState.COMPLETE, 0.01), trial(1, TrialState.RUNNING)]
    table.show(trials)
    assert capsys.readouterr().out == "1 trial is done already\n"
    trials[1:] = [trial(1, TrialState.FAIL, **{REASON: "error: no"}), trial(2, TrialState.PRUNED)]
    for _ in range(2):
        table.show(trials)
    assert capsys.readouterr().out.splitlines() == [
        "trial    1  failed        10 s  muon_lr=0.01  error: no",
        "trial    2  pruned 2.2500    10 s  muon_lr=0.01",
    ]


def test_the_table_of_a_terminal_has_the_best_and_the_newest(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "9")
    trials = [trial(slot, TrialState.COMPLETE, 0.01 - 0.001 * slot) for slot in range(5)]
    table = Table(sweep, 6, workers=1)
    assert table.live
    with table.live:
        table.show([*trials, trial(5, TrialState.WAITING)])
    shown = capsys.readouterr().out
    for text in ("muon_lr", "train/learning_rate", "0.0100", "0.0070", "0.0060", "5 of 6 trials"):
        assert text in shown
    assert "0.0090" not in shown, "there is no room for it"
