"""Runs side by side, from real folders."""

from pathlib import Path

import pytest

from gpt2_lightning.__main__ import main
from gpt2_lightning.runs.run import Run
from tests.conftest import ROOT
from tests.runs.conftest import RUNS


def test_the_page_holds_it_all(experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    page = tmp_path / "compare.html"
    assert main(["compare", str(experiment / "*"), "--output", str(page)]) == 0
    printed = capsys.readouterr().out
    body = page.read_text().split("</head>")[1]
    for name in RUNS:
        summary = Run(experiment / name).summary
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
