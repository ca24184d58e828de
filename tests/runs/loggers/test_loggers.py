"""What a run shows, the same in TensorBoard, W&B and metrics.csv, also after a kill."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import wandb
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import ROOT, read_metrics
from tests.test_configs import CONFIGS, TEXT, TOY, main, options, run_folder
from tests.wandb_file import history

CANARY = "canary-7b1f0c"


BOTH = f"--trainer.logger={CONFIGS / 'logger' / 'tensorboard,wandb.yaml'}"


SHORT = ["--trainer.val_check_interval=4", "--trainer.log_every_n_steps=2", "--samples.every_n_steps=2"]


CLOCK = {
    "train/tokens_per_second",
    "train/mean_tokens_per_second",
    "train/mfu",
    "train/data_wait_share",
    "train/peak_memory_bytes",
}


NO_ACCOUNT = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")} | {
    "NETRC": "/nowhere",
    "HF_TOKEN": CANARY,
    "OMP_NUM_THREADS": "1",
}


def train_py(tmp_path: Path, *extra: str, environment: dict[str, str] | None = None) -> list[Any]:
    """The command and the environment of a process that trains."""
    command = [sys.executable, str(ROOT / "train.py"), *options(tmp_path), *TEXT, *TOY, BOTH, *SHORT]
    return [[*command, "--histograms.every_n_steps=2", *extra], NO_ACCOUNT | (environment or {})]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 12 steps with both dashboards."""
    tmp_path = tmp_path_factory.mktemp("whole")
    command, environment = train_py(
        tmp_path,
        "--trainer.max_steps=12",
        "--tags=[one,two]",
        "--notes=a first try",
        "--trainer.precision=32-true",
    )
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert result.stderr == ""
    folder = run_folder(tmp_path)
    assert f"wandb sync {folder}/wandb/offline-run-" in result.stdout
    return folder


def tensorboard(folder: Path) -> EventAccumulator:
    every = {"scalars": 0, "histograms": 0, "tensors": 0}
    return EventAccumulator(str(folder), size_guidance=every).Reload()


def scalars_of_tensorboard(folder: Path) -> dict[tuple[str, int], float]:
    events = tensorboard(folder)
    found = [(tag, event) for tag in events.Tags()["scalars"] for event in events.Scalars(tag)]
    assert len({(tag, event.step) for tag, event in found}) == len(found), "none twice"
    return {(tag, event.step): event.value for tag, event in found}


def wandb_rows(folder: Path) -> dict[int, dict[str, Any]]:
    return history(sorted((folder / "wandb").glob("offline-run-*/run-*.wandb"))[-1])


def scalars_of_wandb(folder: Path) -> dict[tuple[str, int], float]:
    return {
        (name, step): float(value)
        for step, row in wandb_rows(folder).items()
        for name, value in row.items()
        if not isinstance(value, dict) and not name.startswith("_")
    }


def scalars_of_csv(folder: Path) -> dict[tuple[str, int], float]:
    rows = read_metrics(folder)
    return {(n, int(row["step"])): float(v) for row in rows for n, v in row.items() if v and n != "step"}


def test_the_same_numbers_at_the_same_steps_everywhere(whole: Path):
    csv, board, sync = (read(whole) for read in (scalars_of_csv, scalars_of_tensorboard, scalars_of_wandb))
    assert set(csv) == set(board) == set(sync)
    assert sync == pytest.approx(csv, rel=1e-9, nan_ok=True)
    assert board == pytest.approx(csv, rel=1e-6, nan_ok=True), "TensorBoard keeps float32"
    assert {step for name, step in csv if name == "train/nll"} == {2, 4, 6, 8, 10, 12}
    assert {step for name, step in csv if name == "val/nll"} == {4, 8, 12}
    assert {step for name, step in csv if name == "update_to_weight/h.0"} == {2, 4, 6, 8, 10, 12}
    assert ("samples/distinct_2", 12) in csv


def test_the_same_histograms_everywhere(whole: Path):
    events, rows = tensorboard(whole), wandb_rows(whole)
    for name in ("gradients/h.0.attn", "weights/wte", "gradients/ln_f"):
        for event in events.Histograms(name):
            bins = rows[event.step][name]
            assert bins["_type"] == "histogram"
            assert sum(bins["values"]) == event.histogram_value.num
            assert (bins["bins"][0], bins["bins"][-1]) == pytest.approx(
                (event.histogram_value.min, event.histogram_value.max)
            )
    in_wandb = {name for row in rows.values() for name, value in row.items() if isinstance(value, dict)}
    assert in_wandb - {"samples"} == set(events.Tags()["histograms"])


def test_the_same_samples_everywhere(whole: Path):
    lines = [json.loads(line) for line in (whole / "samples.jsonl").read_text("utf-8").splitlines()]
    events, rows = tensorboard(whole), wandb_rows(whole)
    (sync,) = (whole / "wandb").glob("offline-run-*")
    for step in (2, 4, 6, 8, 10, 12):
        table = json.loads((sync / "files" / rows[step]["samples"]["path"]).read_text("utf-8"))
        expected = [line for line in lines if line["step"] == step]
        assert [dict(zip(table["columns"], row, strict=True)) for row in table["data"]] == expected
    assert [event.step for event in events.Tensors("samples/1/text_summary")] == [2, 4, 6, 8, 10, 12]


def test_settings_tags_and_notes_are_in_both(whole: Path):
    events = tensorboard(whole)
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"model.optimizer.init_args.muon_lr" in content
    assert b"one, two" in content
    assert b"__default_config__" not in content
    (start,) = (whole / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"muon_lr" in start.read_bytes()
    assert b"a first try" in start.read_bytes()


def test_no_secret_of_the_environment_is_in_any_file(whole: Path):
    for path in whole.rglob("*"):
        assert path.is_dir() or CANARY.encode() not in path.read_bytes(), path


def test_a_run_that_was_killed_goes_on_without_a_row_lost_or_doubled(whole: Path, tmp_path: Path):
    command, environment = train_py(tmp_path, "--trainer.max_steps=12", "--trainer.precision=32-true")
    code = f"""
import os, runpy, signal, sys
from lightning.pytorch import Callback
from gpt2_lightning.callbacks.throughput import Throughput
after = Throughput.on_train_batch_end
def die(self, trainer, *arguments):
    after(self, trainer, *arguments)
    if trainer.global_step == 7:
        os.kill(os.getpid(), signal.SIGKILL)
Throughput.on_train_batch_end = die
sys.argv = {command[1:]!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    killed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    folder = run_folder(tmp_path)
    assert max(step for _, step in scalars_of_csv(folder)) >= 4
    resume = [f"--config={folder}/config.yaml", f"--ckpt_path={folder}/checkpoints/last.ckpt"]
    subprocess.run([*command[:2], "fit", *resume], env=environment, capture_output=True, check=True)
    for read in (scalars_of_csv, scalars_of_tensorboard, scalars_of_wandb):
        expected = {key: value for key, value in read(whole).items() if key[0] not in CLOCK}
        found = read(folder)
        assert {key: value for key, value in found.items() if key[0] not in CLOCK} == expected, read.__name__
        assert set(found) == set(read(whole))
    assert (folder / "samples.jsonl").read_text() == (whole / "samples.jsonl").read_text()
    (name,) = {path.name for path in (folder / "wandb").glob("offline-run-*/run-*.wandb")}
    assert name == f"run-{(folder / 'wandb' / 'run_id').read_text().strip()}.wandb"


def test_a_key_of_weights_and_biases_that_cannot_be_one_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WANDB_API_KEY", "short")
    wandb.teardown()
    with pytest.raises(SystemExit) as stop:
        main(*options(tmp_path), *TEXT, *TOY, f"--trainer.logger={ROOT}/configs/logger/wandb.yaml")
    assert stop.value.code == 2
    assert "error: WANDB_API_KEY: API key must have" in capsys.readouterr().err
    wandb.teardown()
