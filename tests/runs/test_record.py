"""What a run leaves in its folder, and what a resume changes there."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.commandline.conftest import fit
from tests.test_configs import main, run_folder


def test_a_run_leaves_the_whole_folder(finished: Path):
    names = {path.name for path in finished.iterdir()}
    events = {name for name in names if name.startswith("events.out.tfevents")}
    assert len(events) == 1
    assert names - events == {
        "config.yaml",
        "run.lock",
        "environment.json",
        "metrics.csv",
        "samples.jsonl",
        "checkpoints",
        "export",
        "summary.json",
    }
    checkpoints = {path.name for path in (finished / "checkpoints").iterdir()}
    assert checkpoints == {"last.ckpt", "last.ckpt.sha256", "best.ckpt", "best.ckpt.sha256"}


def test_a_finished_run_that_is_resumed_stays_as_it_is(finished: Path, capsys: pytest.CaptureFixture[str]):
    before = json.loads((finished / "summary.json").read_text())
    resume = [f"--config={finished}/config.yaml", f"--ckpt_path={finished}/checkpoints/last.ckpt"]
    assert main("fit", *resume) == 0
    after = json.loads((finished / "summary.json").read_text())
    for name in ("status", "steps", "tokens", "val_nll", "best_step", "export"):
        assert after[name] == before[name]
    assert after["train_seconds"] <= before["train_seconds"]


def test_a_resumed_runs_config_says_how_it_was_continued(tmp_path: Path):
    assert (
        fit(tmp_path, "--trainer.max_steps=2", "--trainer.logger=false", "--histograms.every_n_steps=0") == 0
    )
    folder = run_folder(tmp_path)
    resume = [f"--config={folder}/config.yaml", f"--ckpt_path={folder}/checkpoints/last.ckpt"]
    assert main("fit", *resume, "--trainer.max_steps=4") == 0
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["trainer"]["max_steps"] == 4
    assert config["ckpt_path"] is None


def test_a_refused_resume_changes_nothing(finished: Path, tmp_path: Path):
    folder = tmp_path / "logs" / "x" / "1"
    shutil.copytree(finished, folder)
    before = (folder / "config.yaml").read_bytes()
    resume = [f"--config={folder}/config.yaml", f"--ckpt_path={folder}/checkpoints/last.ckpt"]
    for extra in ("--data.block_size=8", "--model.architecture.n_layer=2"):
        with pytest.raises(SystemExit) as stop:
            main("fit", *resume, "--trainer.max_steps=12", extra)
        assert stop.value.code == 2
        assert (folder / "config.yaml").read_bytes() == before
        assert json.loads((folder / "summary.json").read_text())["status"] == "finished"
