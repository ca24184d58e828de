"""The end of a run that gets no better."""

import json
from pathlib import Path

import pytest

from tests.test_configs import TEXT, TOY, main, options, run_folder


def test_patience_ends_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    extra = [
        "--trainer.max_steps=100",
        "--trainer.val_check_interval=2",
        "--patience=2",
        "--trainer.logger=false",
    ]
    extra += ["--model.optimizer=SGD", "--model.optimizer.lr=0", "--samples.every_n_steps=0"]
    assert main(*options(tmp_path), *TEXT, *TOY, "--histograms.every_n_steps=0", *extra) == 0
    summary = json.loads((run_folder(tmp_path) / "summary.json").read_text())
    assert (summary["status"], summary["steps"], summary["best_step"]) == ("finished", 6, 2)
    assert "no lower val/nll in --patience 2 validations" in capsys.readouterr().out
    folder = run_folder(tmp_path)
    resume = [f"--config={folder}/config.yaml", f"--ckpt_path={folder}/checkpoints/last.ckpt"]
    assert main("fit", *resume, "--patience=4") == 0
    assert json.loads((folder / "summary.json").read_text())["steps"] == 10, "the new patience counts"
