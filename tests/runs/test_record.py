"""What a run leaves in its folder, and what a resume changes there."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from gpt2_lightning.runs.run import Run
from tests.commandline.conftest import fit
from tests.conftest import read_metrics
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
        "starts.jsonl",
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


def test_what_is_given_on_resume_counts_and_every_start_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """14 steps, of which the last two with ten times the rate: the end of its cosine, not of the old one."""
    common = ["--warmup.warmup_steps=0", "--warmup.min_lr_ratio=0", "--trainer.log_every_n_steps=1"]
    adamw = ["--model.optimizer=torch.optim.AdamW", "--model.optimizer.lr=1e-3"]
    assert fit(tmp_path, "--trainer.max_steps=12", *common, *adamw) == 0
    folder = run_folder(tmp_path)
    resume = [f"--config={folder}/config.yaml", f"--ckpt_path={folder}/checkpoints/last.ckpt"]
    given = ["--trainer.max_steps=14", "--model.optimizer.lr=1e-2", "--model.optimizer.weight_decay=0.3"]
    assert main("fit", *resume, *given) == 0
    said = capsys.readouterr().out
    assert "resumed at step 12: trainer.max_steps 14, was 12; model.optimizer.lr 0.01, was 0.001;" in said
    rates = [float(row["train/learning_rate"]) for row in read_metrics(folder)]
    expected = [1e-3 * (1 + math.cos(math.pi * step / 12)) / 2 for step in range(12)]
    expected += [1e-2 * (1 + math.cos(math.pi * step / 14)) / 2 for step in (12, 13)]
    assert rates == pytest.approx(expected)
    groups = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["optimizer_states"][0]
    assert {group["weight_decay"] for group in groups["param_groups"]} == {0.3, 0.0}
    starts = Run(folder).starts
    assert [start["step"] for start in starts] == [0, 12]
    assert [start["config"]["model"]["optimizer"]["init_args"]["lr"] for start in starts] == [1e-3, 1e-2]
    with pytest.raises(SystemExit) as stop:
        main("fit", *resume, "--trainer.max_steps=16", "--model.optimizer=torch.optim.SGD")
    assert stop.value.code == 2
    assert "--model.optimizer SGD: the checkpoint has the state of AdamW" in capsys.readouterr().err
    assert len(Run(folder).starts) == 2, "what is refused changes nothing"


def test_other_rows_in_a_step_go_on_at_the_next_whole_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """3 steps of 2 rows, then steps of 4: 2 rows are skipped, and the epoch ends where it would."""
    common = ["--trainer.max_steps=-1", "--trainer.max_epochs=2", "--warmup.warmup_steps=0"]
    assert fit(tmp_path, *common, "--checkpoints.stop_after_step=3") == 0
    folder = run_folder(tmp_path)
    assert json.loads((folder / "summary.json").read_text())["status"] == "interrupted"
    rows = len(Run(folder).rows)
    resume = [f"--config={folder}/config.yaml", f"--ckpt_path={folder}/checkpoints/last.ckpt"]
    assert main("fit", *resume, "--checkpoints.stop_after_step=0", "--data.micro_batch_size=4") == 0
    said = capsys.readouterr().out
    assert "an optimizer step has 4 rows now, and had 2 before: 2 rows are skipped" in said
    assert "data.micro_batch_size 4, was 2" in said
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    (loader,) = checkpoint["loops"]["fit_loop"]["state_dict"]["combined_loader"]
    step = checkpoint["global_step"]
    assert loader["samples_consumed"] == 4 * (step + loader["steps_ahead"])
    assert loader["steps_ahead"] == 2 - 3
    assert checkpoint["epoch"] in (1, 2)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert summary["epochs"] == pytest.approx(2, abs=0.1)
    assert rows >= 0
