"""Going on with a run: by name, after signals, on other micro-batches; what is refused."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
from filelock import FileLock

from gpt2_lightning.callbacks.checkpoint_io import SafeCheckpointIO
from tests.commandline.test_cli import wait_for
from tests.conftest import ROOT, read_metrics
from tests.test_configs import TEXT, TOY, main, options, run_folder

QUIET = ["--trainer.logger=false", "--histograms.every_n_steps=0", "--samples.every_n_steps=0"]
NAMED = ["--run=mine", "--auto_resume=true"]


def fit(tmp_path: Path, *extra: str) -> int:
    return main(*options(tmp_path), *TEXT, *TOY, *QUIET, *extra)


def last(tmp_path: Path) -> dict:
    return torch.load(run_folder(tmp_path) / "checkpoints" / "last.ckpt", weights_only=True)


def refusal(capsys: pytest.CaptureFixture[str], tmp_path: Path, *extra: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        fit(tmp_path, *extra)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_the_same_command_goes_on_where_it_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert fit(tmp_path, *NAMED, "--trainer.max_steps=2") == 0
    assert fit(tmp_path, *NAMED, "--trainer.max_steps=4") == 0
    assert run_folder(tmp_path).name == "mine"
    assert last(tmp_path)["global_step"] == 4
    checkpoint = run_folder(tmp_path) / "checkpoints" / "last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
    assert fit(tmp_path, *NAMED, "--trainer.max_steps=6") == 0
    assert "goes on from best.ckpt" in capsys.readouterr().out
    assert last(tmp_path)["global_step"] == 6


def test_a_run_that_was_stopped_before_its_first_checkpoint_begins_again(tmp_path: Path):
    folder = tmp_path / "logs" / "pretrain_tiny" / "mine"
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text("step,train/nll\n1,9.0\n")
    extra = [option for option in NAMED if "logger" not in option]
    logger = "--trainer.logger=gpt2_lightning.runs.loggers.MetricsCSV"
    assert fit(tmp_path, *extra, logger, "--trainer.log_every_n_steps=1") == 0
    assert [row["train/nll"] == "9.0" for row in read_metrics(folder)] == [False]


def test_a_slurm_job_is_found_again_by_its_number(tmp_path: Path):
    with mock.patch.dict(os.environ, {"SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": "3"}):
        assert fit(tmp_path, "--auto_resume=true") == 0
    assert run_folder(tmp_path).name == "slurm-77-3"


def test_names_that_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert "name the run with --run" in refusal(capsys, tmp_path, "--auto_resume=true")
    for name in ("../../x", "a" * 300, "a\nb", ""):
        assert "--run" in refusal(capsys, tmp_path, f"--run={name}")
    assert not (tmp_path / "logs").exists()
    assert fit(tmp_path, "--run=mine") == 0
    assert "exists; continue it with make resume RUN=" in refusal(capsys, tmp_path, "--run=mine")


def test_a_run_is_trained_by_one_process_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert fit(tmp_path, *NAMED) == 0
    with FileLock(run_folder(tmp_path) / "run.lock"):
        assert "another process is training this run" in refusal(capsys, tmp_path, *NAMED)
    assert fit(tmp_path, *NAMED, "--trainer.max_steps=2") == 0, "a lock that nobody holds is free"


def test_a_refused_start_leaves_the_folder_of_the_run_that_is_starting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path / "logs" / "pretrain_tiny" / "mine"
    folder.mkdir(parents=True)
    with FileLock(folder / "run.lock"):
        assert "another process is training this run" in refusal(capsys, tmp_path, *NAMED)
        assert folder.is_dir()


def test_an_explicit_checkpoint_that_is_damaged_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert fit(tmp_path, *NAMED) == 0
    checkpoint = run_folder(tmp_path) / "checkpoints" / "last.ckpt"
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    assert "last.ckpt: is damaged" in refusal(capsys, tmp_path, f"--ckpt_path={checkpoint}")


def test_hyperparameters_of_a_checkpoint_make_nothing(tmp_path: Path):
    """LightningCLI by itself makes the class that they name."""
    assert fit(tmp_path, *NAMED) == 0
    checkpoint, canary = run_folder(tmp_path) / "checkpoints" / "last.ckpt", tmp_path / "canary"
    content = torch.load(checkpoint, weights_only=True)
    evil = {"_class_path": "pathlib.Path.touch", "self": str(canary), "_instantiator": "os.system"}
    SafeCheckpointIO().save_checkpoint(content | {"hyper_parameters": evil}, checkpoint)
    assert fit(tmp_path, *NAMED, "--trainer.max_steps=2") == 0
    assert not canary.exists()


@pytest.mark.parametrize(("before", "after"), [((4, 1), (2, 2)), ((2, 2), (4, 1)), ((2, 2), (1, 4))])
def test_a_step_of_other_micro_batches_sees_the_same_rows(
    tmp_path: Path, before: tuple[int, int], after: tuple[int, int]
):
    """As many rows a step, in more or fewer micro-batches; inside an epoch and across its end."""

    def run(folder: Path, steps: int, rows: int, accumulate: int) -> list[float]:
        shape = [f"--data.micro_batch_size={rows}", f"--trainer.accumulate_grad_batches={accumulate}"]
        shape += [f"--trainer.val_check_interval={3 * accumulate}", f"--trainer.max_steps={steps}"]
        logger = ["--trainer.logger=gpt2_lightning.runs.loggers.MetricsCSV", "--trainer.log_every_n_steps=1"]
        schedule = ["--warmup.schedule=constant", "--warmup.warmup_steps=0", "--trainer.precision=32-true"]
        assert fit(folder, *NAMED, *shape, *logger, *schedule) == 0
        found = read_metrics(run_folder(folder))
        assert [int(row["step"]) for row in found] == list(range(1, steps + 1))
        return [float(row["train/nll"]) for row in found]

    whole = run(tmp_path / "whole", 60, *before)
    run(tmp_path / "other", 7, *before)
    other = run(tmp_path / "other", 60, *after)
    assert other[:16] == pytest.approx(whole[:16], rel=1e-5)
    assert other == pytest.approx(whole, rel=2e-4), "rounding grows; other rows would differ by far more"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_of_a_scheduler_saves_the_step_and_ends_the_run(tmp_path: Path, number: int):
    command = [sys.executable, str(ROOT / "train.py"), *options(tmp_path), *TEXT, *TOY, *QUIET]
    command += [
        "--trainer.max_steps=1000000",
        "--trainer.val_check_interval=1000000",
        "--warmup.warmup_steps=0",
    ]
    command += ["--trainer.accumulate_grad_batches=2", "--checkpoints.every_n_steps=10"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        wait_for(lambda: any(tmp_path.glob("logs/*/*/checkpoints/last.ckpt")) or process.poll() is not None)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 143, err
    assert err == f"\nfinishing this optimizer step; {signal.Signals(number).name} again stops at once\n"
    folder = run_folder(tmp_path)
    assert f"make resume RUN={folder}" in out
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    assert last(tmp_path)["global_step"] == summary["steps"]


def test_when_memory_is_over_the_remedy_keeps_the_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def over(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory")

    with mock.patch("gpt2_lightning.model.module.GPT2Module.training_step", over):
        line = refusal(capsys, tmp_path, "--data.micro_batch_size=6", "--trainer.val_check_interval=4")
    same = "--data.micro_batch_size 3 --trainer.accumulate_grad_batches 2 --trainer.val_check_interval 8"
    assert same in line


def test_a_full_disk_is_said_and_the_run_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Whatever was being written, by whichever library."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    assert fit(tmp_path, *NAMED, "--trainer.max_steps=2") == 0
    folder = run_folder(tmp_path)
    with mock.patch("gpt2_lightning.model.module.GPT2Module.training_step", full):
        line = refusal(capsys, tmp_path, *NAMED, "--trainer.max_steps=4")
    assert line == (
        f"error: {folder}: cannot be written: the disk is full; make room, and go on with "
        f"make resume RUN={folder}"
    )
    assert fit(tmp_path, *NAMED, "--trainer.max_steps=4") == 0


def test_a_port_of_the_ranks_that_is_in_use_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("MASTER_PORT", port := str(server.getsockname()[1]))
        monkeypatch.setenv("WORLD_SIZE", "2")  # so that no other process is started, as under torchrun
        monkeypatch.setenv("RANK", "0")
        monkeypatch.setenv("LOCAL_RANK", "0")
        line = refusal(capsys, tmp_path, "--trainer.devices=2", "--trainer.strategy=ddp")
    assert line.startswith("error: the ranks cannot reach each other: ")
    assert port in line
    assert not list(tmp_path.glob("logs/*"))
