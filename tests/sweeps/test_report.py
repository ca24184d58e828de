"""The page of a sweep: every trial under its own number, with the values themselves."""

import re
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from gpt2_lightning.sweeps.assignment import Assignment
from gpt2_lightning.sweeps.definition import Sweep
from gpt2_lightning.sweeps.report import _plots, write_report
from gpt2_lightning.sweeps.study import REASON, SLOT, enqueue_missing, give_back, open_study, suggested

PARAMETERS = {
    "model.width": {"distribution": "q_log_uniform_values", "min": 8, "max": 64, "q": 8},
    "data.every": {"values": [0, 2]},
    "samples.every": {"values": [["a"], ["a", "b"]]},
    "x": {"value": "same"},
}


@pytest.fixture
def sweep(quick_sweep: Callable[..., Sweep]) -> Sweep:
    return quick_sweep(PARAMETERS, method="random")


@pytest.fixture
def study(sweep: Sweep, job: Assignment) -> optuna.Study:
    """Twelve trials: the first was tried twice, the second failed, the third was given up."""
    study = open_study(sweep, job)
    enqueue_missing(study, sweep, job, 12)

    def objective(trial: optuna.Trial) -> float:
        values = sweep.values_of(suggested(trial, sweep))
        if trial.number == 0:
            raise KeyError
        if trial.number == 1:
            trial.set_user_attr(REASON, "error: <no>")
            raise KeyError
        if trial.number == 2:
            raise optuna.TrialPruned
        return values["model.width"] + values["data.every"]

    study.optimize(objective, n_trials=12, catch=(KeyError,))
    give_back(study, 0)
    study.optimize(objective, n_trials=1)
    study.add_trial(optuna.create_trial(state=TrialState.FAIL))  # without a slot
    return study


def test_plots_have_values_short_names_and_the_numbers_of_slots(study: optuna.Study, sweep: Sweep):
    figures = dict(_plots(study, sweep))
    assert [heading.split(":")[0] for heading in figures] == [
        "History", "Parallel coordinates", "Importance", "Slices",
    ]  # fmt: skip
    assert list(figures["History"].data[0].x) == [0, *range(3, 12)]
    slices = figures["Slices"]
    titles = [slices.layout[axis].title.text for axis in ("xaxis", "xaxis2", "xaxis3")]
    assert titles == ["data.every", "samples.every", "width"]
    assert {number % 8 for number in slices.data[2].x} == {0}
    assert set(slices.data[1].x) == {"'a'", "'a,b'"}
    assert slices.layout.xaxis3.type == "log"


def test_the_table_has_one_row_for_each_trial(
    study: optuna.Study, sweep: Sweep, job: Assignment, capsys: pytest.CaptureFixture[str]
):
    """And a best run that was removed since gives no `best.yaml`."""
    folder = Path(job.folder)
    (folder / "best.yaml").write_text("of an earlier report")
    write_report(study, sweep, folder)
    assert "there is no" in capsys.readouterr().out
    assert not (folder / "best.yaml").exists()
    page = (folder / "report.html").read_text().split("</head>")[1]
    assert "10 trials finished, 1 pruned, 1 failed; least val/nll, by random" in page
    table = page[page.index("<h2>Trials") :]
    assert sorted(re.findall(r"trial-\d+", table)) == [f"trial-{slot:04d}" for slot in range(12)]
    assert "error: &lt;no&gt;" in table
    assert "<th>width</th><th>data.every</th><th>samples.every</th><th>val/nll</th>" in table


def test_one_trial_has_a_page_without_plots(sweep: Sweep, job: Assignment):
    study = open_study(sweep, job)
    enqueue_missing(study, sweep, job, 2)
    study.optimize(lambda trial: len(suggested(trial, sweep)), n_trials=1)
    write_report(study, sweep, Path(job.folder))
    page = (Path(job.folder) / "report.html").read_text().split("</head>")[1]
    assert re.findall("<h2>(.*?)</h2>", page) == ["Best trial", "Trials"]
    assert study.trials[1].user_attrs[SLOT] == 1
