"""Runs side by side, from real folders."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gpt2_lightning.__main__ import main
from gpt2_lightning.runs.curves import curves, groups_of
from gpt2_lightning.runs.folder import lock
from gpt2_lightning.runs.history import differences, matching, read_history, short_names
from gpt2_lightning.runs.reproduce import _apart, _compared
from tests.conftest import ROOT
from tests.test_configs import TEXT, TOY, options
from tests.test_configs import main as train

SHORT = ["--trainer.max_steps=6", "--trainer.val_check_interval=2", "--histograms.every_n_steps=0"]
SHORT += ["--samples.every_n_steps=2", "--trainer.log_every_n_steps=1"]
RUNS = {"first": ("0", "0.01"), "second": ("1", "0.01"), "other": ("0", "0.02")}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of one configuration, and another learning rate."""
    folder = tmp_path_factory.mktemp("runs")
    for name, (seed, rate) in RUNS.items():
        own = [f"--run={name}", f"--seed_everything={seed}", f"--model.optimizer.lr={rate}"]
        assert train(*options(folder), *TEXT, *TOY, *SHORT, *own) == 0
    return folder / "logs" / "pretrain_tiny"


def test_only_settings_that_differ_are_told(experiment: Path):
    histories = [read_history(experiment / name) for name in RUNS]
    found = differences(histories)
    assert found == {"seed_everything": [0, 1, 0], "model.optimizer.lr": [0.01, 0.01, 0.02]}


def test_seeds_are_drawn_as_mean_and_band(experiment: Path):
    histories = [read_history(experiment / name) for name in RUNS]
    groups = groups_of(histories, list(RUNS))
    assert [(group.label, len(group.runs)) for group in groups] == [("first (2 seeds)", 2), ("other", 1)]
    figure = curves(groups, "val/nll")
    assert figure is not None
    least, most, mean, alone = ([float(y) for y in trace.y] for trace in figure.data)  # pyright: ignore
    values = np.stack([history.series("val/nll")["value"] for history in histories])
    assert values.shape == (3, 3)
    np.testing.assert_allclose(least, values[:2].min(axis=0))
    np.testing.assert_allclose(most, values[:2].max(axis=0))
    np.testing.assert_allclose(mean, values[:2].mean(axis=0))
    np.testing.assert_allclose(alone, values[2])
    assert curves(groups, "val/nothing") is None


def test_tokens_and_seconds_of_a_step(experiment: Path):
    history = read_history(experiment / "first")
    series = history.series("train/nll")
    assert series["step"].tolist() == [1, 2, 3, 4, 5, 6]
    assert series["tokens"].tolist() == [step * history.summary["tokens"] / 6 for step in range(1, 7)]
    assert (np.diff(series["tokens"]) > 0).all()
    assert (series["seconds"] > 0).all()


def test_a_run_whose_process_is_gone_was_killed(experiment: Path, tmp_path: Path):
    folder = tmp_path / "run"
    shutil.copytree(experiment / "first", folder)
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | {"status": "running"}))
    with lock(folder):
        assert read_history(folder).summary["status"] == "running"
    assert read_history(folder).summary["status"] == "killed"


def test_the_page_holds_it_all(experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    page = tmp_path / "compare.html"
    assert main(["compare", str(experiment / "*"), "--output", str(page)]) == 0
    printed = capsys.readouterr().out
    body = page.read_text().split("</head>")[1]
    for name in RUNS:
        summary = read_history(experiment / name).summary
        assert f"| pretrain_tiny/{name} | finished | {summary['val_nll']:.4f} |" in printed
        assert f"<td>{summary['val_nll']:.4f}</td>" in body
    for text in ("model.optimizer.lr", "val/nll", "train/grad_norm", "(end of text)", "2 configurations"):
        assert text in body
    assert "first" in (tmp_path / "compare.md").read_text()


def test_what_cannot_be_compared_is_said(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "config.yaml").write_text("a: 1")
    for given, said in (
        ([str(tmp_path / "nowhere")], "no run is there"),
        ([str(experiment / "first")], "is one run"),
        ([str(experiment / "first"), str(damaged)], "summary.json is missing"),
        ([str(experiment / "*"), "--output", "page.txt"], "must end in .html"),
        ([str(experiment / "*"), "--output", str(ROOT / "README.html")], "README.md, which is another text"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["compare", *given])
        assert stop.value.code == 2
        assert said in capsys.readouterr().err
    assert len(matching([str(experiment / "*"), str(experiment / "first")])) == 3, "each once"


def test_a_run_is_reproduced(
    experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    assert main(["reproduce", str(experiment / "second"), "--name", "again"]) == 0
    assert "val/nll          3 of 3 records equal, the same to the last digit" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", str(experiment / "second"), "--name", "again"])
    assert stop.value.code == 2
    assert "again exists" in capsys.readouterr().err
    for given, said in (
        ([str(experiment / "*")], "runs; give the folder of one"),
        ([str(experiment / "first"), "--name", "a/b"], "--name 'a/b': use letters"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["reproduce", *given])
        assert stop.value.code == 2
        assert said in capsys.readouterr().err
    twice = groups_of([read_history(experiment / name) for name in ("second", "again")], ["a", "b"])
    assert [group.label for group in twice] == ["a (2 runs of 1 seed)"]


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        (2.0, 2.0, 0.0),
        (math.nan, math.nan, 0.0),
        (math.inf, math.inf, 0.0),
        (2.0, 2.002, 0.001),
        (math.nan, 2.0, math.inf),
        (2.0, math.inf, math.inf),
    ],
)
def test_how_far_apart_two_records_are(one: float, other: float, apart: float):
    assert _apart(one, other) == pytest.approx(apart)


def test_a_metric_that_one_run_alone_has_recorded_is_no_match(experiment: Path):
    first = read_history(experiment / "first")
    kept = [{name: value for name, value in row.items() if name != "val/nll"} for row in first.rows]
    lines, is_close = _compared(first, replace(first, rows=kept))
    assert not is_close
    assert "3 are of one run alone" in lines[-1]


def test_short_names_tell_options_apart():
    names = ["model.optimizer.init_args.lr", "samples.every_n_steps", "histograms.every_n_steps", "lr"]
    assert list(short_names(names).values()) == [
        "init_args.lr", "samples.every_n_steps", "histograms.every_n_steps", "lr",
    ]  # fmt: skip


def test_a_folder_is_taken_as_it_is_named(experiment: Path, tmp_path: Path):
    folder = tmp_path / "run [1]"
    shutil.copytree(experiment / "first", folder)
    assert matching([str(folder)]) == [folder]
