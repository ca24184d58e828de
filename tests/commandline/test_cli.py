"""The whole command line: what a run leaves, what it refuses, and how it is continued."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gpt2_lightning.callbacks.checkpoint_io import SafeCheckpointIO
from gpt2_lightning.commandline import cli
from gpt2_lightning.machine.precision import best_precision
from tests.commandline.conftest import NAMED, QUIET, fit, last, quiet_fit, refusal, wait_for
from tests.conftest import ROOT, read_metrics
from tests.test_configs import TEXT, TOY, main, options, run_folder

BAD = ROOT / "tests" / "assets" / "bad.jsonl"


LACKING = """
import os, signal, sys
from pathlib import Path

import lightning.pytorch, psutil, transformers.models.gpt2.modeling_gpt2  # on Linux these need them

usr1 = vars(signal).pop("SIGUSR1", None)
vars(os).pop("sched_getaffinity", None)
sys.modules["resource"] = None

from gpt2_lightning.commandline.cli import main

if usr1:
    signal.SIGUSR1 = usr1  # which Lightning takes, except on Windows
sys.exit(main(Path("configs") / "default.yaml"))
"""


def test_metrics_are_by_optimizer_step_and_the_same_in_tensorboard(finished: Path):
    rows = [row for row in read_metrics(finished) if row["train/nll"]]
    assert [int(row["step"]) for row in rows] == [2, 4, 6, 8]
    assert [bool(row["val/nll"]) for row in rows] == [False, True, False, True]
    events = EventAccumulator(str(finished)).Reload()
    for name in ("train/nll", "train/grad_norm", "train/learning_rate", "val/nll", "val/bits_per_byte"):
        recorded = [(event.step, event.value) for event in events.Scalars(name)]
        assert recorded == [
            (int(r["step"]), pytest.approx(float(r[name]), rel=1e-6)) for r in rows if r[name]
        ]


def test_a_resumed_run_ends_as_the_whole_one(finished: Path, tmp_path: Path):
    """8 steps at once, against 4 steps and then 4 more in the same folder."""
    schedule = ["--warmup.schedule=constant", "--warmup.warmup_steps=0", "--trainer.val_check_interval=4"]
    common = [*schedule, "--trainer.log_every_n_steps=2", "--trainer.precision=32-true"]
    assert fit(tmp_path / "whole", "--trainer.max_steps=8", *common) == 0
    assert fit(tmp_path / "parts", "--trainer.max_steps=4", *common) == 0
    folder, whole = run_folder(tmp_path / "parts"), run_folder(tmp_path / "whole")
    resume = [f"--config={folder}/config.yaml", f"--ckpt_path={folder}/checkpoints/last.ckpt"]
    assert main("fit", *resume, "--trainer.max_steps=8") == 0
    assert run_folder(tmp_path / "parts") == folder
    numbers = [
        [(row["step"], row["train/nll"], row["val/nll"]) for row in read_metrics(run)]
        for run in (folder, whole)
    ]
    assert numbers[0] == numbers[1]
    states = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (folder, whole)]
    for name, value in states[0]["state_dict"].items():
        assert torch.equal(value, states[1]["state_dict"][name])
    summaries = [json.loads((run / "summary.json").read_text()) for run in (folder, whole)]
    assert summaries[0]["tokens"] == summaries[1]["tokens"]


def test_config_repeats_the_run(finished: Path, tmp_path: Path):
    logs = ["--logs", str(tmp_path / "logs"), "--experiment", "again"]
    assert main("fit", "--config", str(finished / "config.yaml"), *logs) == 0
    first, second = read_metrics(finished), read_metrics(run_folder(tmp_path))
    assert [row["train/nll"] for row in first] == [row["train/nll"] for row in second]
    config = yaml.safe_load((finished / "config.yaml").read_text())
    assert config["trainer"]["precision"] == "32-true"
    assert config["model"]["optimizer"]["class_path"].endswith("MuonAdamW")


def test_an_optimizer_has_its_own_defaults_and_no_other_s(tmp_path: Path):
    found = {}
    for run, named in (("none", []), ("muon", ["--model.optimizer=MuonAdamW"])):
        own = [f"--data.folder={tmp_path / 'data'}", f"--logs={tmp_path / 'logs'}", f"--run={run}"]
        own += [
            "--experiment=bare",
            "--trainer.accelerator=cpu",
            "--trainer.max_steps=1",
        ]
        assert main("fit", *own, *TEXT, *TOY, *named) == 0
        config = yaml.safe_load((tmp_path / "logs" / "bare" / run / "config.yaml").read_text())
        found[run] = config["model"]["optimizer"]
    assert found["none"]["class_path"] == "torch.optim.AdamW"
    assert found["muon"]["init_args"]["betas"] == [0.9, 0.95]
    assert found["muon"]["init_args"]["weight_decay"] == 0.1


def test_precision_left_open_is_what_the_machine_does_natively(tmp_path: Path):
    assert fit(tmp_path) == 0
    config = yaml.safe_load((run_folder(tmp_path) / "config.yaml").read_text())
    assert config["trainer"]["precision"] == best_precision("cpu")


def test_validate_repeats_the_summarys_numbers(finished: Path, capsys: pytest.CaptureFixture[str]):
    best = f"--ckpt_path={finished}/checkpoints/best.ckpt"
    assert main("validate", f"--config={finished}/config.yaml", best) == 0
    nll = json.loads((finished / "summary.json").read_text())["val_nll"]
    assert f"validation nll {nll:.4f}, perplexity {math.exp(nll):.2f}, bits" in capsys.readouterr().out


def test_a_test_split_is_drawn_and_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main("test", *options(tmp_path)[1:], *TEXT, *TOY, "--data.corpus.test_fraction=0.3") == 0
    assert re.search(r"test nll \d", capsys.readouterr().out)


def test_fast_dev_run_is_one_batch_of_everything(tmp_path: Path):
    assert fit(tmp_path, "--trainer.fast_dev_run=true") == 0


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--model.architecture.n_head=3"], "n_head 3 does not divide --model.architecture.n_embd 8"),
        (["--data.block_size=64"], "--data.block_size 64 is longer than --model.architecture.n_positions 16"),
        (["--trainer.enable_checkpointing=false"], "--trainer.enable_checkpointing false: is not supported"),
        (["--experiment=../up"], "--experiment '../up'"),
        (["--data.corpus.source.paths=['nowhere']"], "--data.corpus.source.paths 'nowhere'"),
        (["--data.corpus.validation_fraction=1e-9"], "validation split is empty"),
        (["--data.corpus.source=JSONFiles", f"--data.corpus.source.paths={BAD}"], "bad.jsonl:2: broken JSON"),
        (
            ["--data.corpus.tokenizer=Pretrained", f"--data.corpus.tokenizer.path={ROOT}"],
            "--data.corpus.tokenizer.path",
        ),
        (["--model.optimizer.lr=-1"], "--model.optimizer: Invalid learning rate: -1"),
        (["--trainer.devices=0"], "devices"),
        (["--config=nowhere.yaml"], "File does not exist"),
    ],
)
def test_mistakes_are_found_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str], message: str
):
    with pytest.raises(SystemExit) as stop:
        fit(tmp_path, *extra)
    assert stop.value.code == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not list(tmp_path.glob("logs/*/*"))


@pytest.mark.parametrize("option", ["--logs", "--data.folder"])
def test_folders_that_cannot_be_written_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        fit(tmp_path, f"{option}={tmp_path / 'file' / 'below'}")
    assert stop.value.code == 2
    assert f"error: {option} " in capsys.readouterr().err


def test_ctrl_c_keeps_the_last_step_and_says_how_to_continue(tmp_path: Path):
    command = [sys.executable, str(ROOT / "train.py"), *options(tmp_path), *TEXT, *TOY]
    command += ["--trainer.max_steps=1000000", "--trainer.val_check_interval=1000000"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        wait_for(lambda: any(tmp_path.glob("logs/*/*/samples.jsonl")) or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    folder = run_folder(tmp_path)
    summary = json.loads((folder / "summary.json").read_text())
    assert process.returncode == 130, err
    assert f"make resume RUN={folder}" in out
    assert err == "\nfinishing this optimizer step; Ctrl-C again stops at once\n"
    assert summary["status"] == "interrupted"
    assert (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == summary["steps"]
    )


def test_a_run_of_torchs_muon_is_not_resumed(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    last = folder / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    muon = checkpoint["optimizer_states"][0]["param_groups"][0]
    del muon["layouts"]
    muon["ns_steps"] = 5
    torch.save(checkpoint, last)
    last.with_name("last.ckpt.sha256").unlink()
    before = (folder / "config.yaml").read_bytes()
    with pytest.raises(SystemExit) as stop:
        main("fit", f"--config={folder}/config.yaml", f"--ckpt_path={last}", "--trainer.max_steps=12")
    assert stop.value.code == 2
    assert "queries, keys and values for one matrix" in capsys.readouterr().err
    assert (folder / "config.yaml").read_bytes() == before


def test_an_emulated_precision_is_allowed_and_warned_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    monkeypatch.setattr(
        "gpt2_lightning.machine.precision.matrix_rate", lambda dtype: 40 ** (dtype.itemsize / 2)
    )
    assert fit(tmp_path, "--trainer.precision=bf16-mixed") == 0
    said = capsys.readouterr()
    assert "--trainer.precision bf16-mixed: this CPU (AVX2) only emulates bf16" in said.err
    assert "at least 40 times as long" in said.err
    assert "bf16-mixed on cpu (AVX2, 1 threads on " in said.out


def test_fp16_on_a_cpu_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        fit(tmp_path, "--trainer.precision=16-mixed")
    assert stop.value.code == 2
    assert "--trainer.precision 16-mixed: is not supported on a CPU" in capsys.readouterr().err
    assert not (tmp_path / "logs").exists()


def test_a_run_without_what_windows_lacks(tmp_path: Path):
    """Our part of it: a signal, CPU affinity and the `resource` module."""
    command = [sys.executable, "-c", LACKING, *options(tmp_path), *TEXT, *TOY]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert json.loads((run_folder(tmp_path) / "summary.json").read_text())["peak_memory_bytes"] > 10**7


def test_fused_adamw_clips_in_bf16(tmp_path: Path):
    fused = [
        "--model.optimizer=torch.optim.AdamW",
        "--model.optimizer.fused=true",
        "--model.optimizer.lr=1e-3",
    ]
    options = ["--trainer.precision=bf16-mixed", "--trainer.log_every_n_steps=1", "--trainer.max_steps=2"]
    weights = []
    for name, clip in (("a", "0.001"), ("b", "0")):
        assert fit(tmp_path / name, *fused, *options, f"--trainer.gradient_clip_val={clip}") == 0
        kept = torch.load(run_folder(tmp_path / name) / "checkpoints" / "last.ckpt", weights_only=True)
        weights.append(kept["optimizer_states"][0]["state"][0]["exp_avg"].norm().item())
    assert weights[0] < 0.1 * weights[1]


def test_an_explicit_checkpoint_that_is_damaged_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert quiet_fit(tmp_path, *NAMED) == 0
    checkpoint = run_folder(tmp_path) / "checkpoints" / "last.ckpt"
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    assert "last.ckpt: is damaged" in refusal(capsys, tmp_path, f"--ckpt_path={checkpoint}")


def test_hyperparameters_of_a_checkpoint_make_nothing(tmp_path: Path):
    """LightningCLI by itself makes the class that they name."""
    assert quiet_fit(tmp_path, *NAMED) == 0
    checkpoint, canary = run_folder(tmp_path) / "checkpoints" / "last.ckpt", tmp_path / "canary"
    content = torch.load(checkpoint, weights_only=True)
    evil = {"_class_path": "pathlib.Path.touch", "self": str(canary), "_instantiator": "os.system"}
    SafeCheckpointIO().save_checkpoint(content | {"hyper_parameters": evil}, checkpoint)
    assert quiet_fit(tmp_path, *NAMED, "--trainer.max_steps=2") == 0
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
        assert quiet_fit(folder, *NAMED, *shape, *logger, *schedule) == 0
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


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    wild = ["--model.optimizer.init_args.lr=1e30", "--trainer.gradient_clip_val=0", "--warmup.warmup_steps=0"]
    assert fit(tmp_path, *QUIET, "--trainer.max_steps=50", "--checkpoints.every_n_steps=1", *wild) == 1
    said = capsys.readouterr().err
    assert re.fullmatch(r"error: optimizer step \d+ is not finite \(.*\n", said), said
    folder = run_folder(tmp_path)
    step = int(re.findall(r"step (\d+)", said)[0])
    assert json.loads((folder / "summary.json").read_text())["status"] == "failed"
    assert len((folder / "nonfinite" / f"step_{step}.jsonl").read_text().splitlines()) == 2
    assert (folder / "checkpoints" / "last.ckpt").exists() == (step > 1)


def test_a_model_that_is_not_finite_is_not_finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """One step is finite, and its weights are not; there is no second step that would tell."""
    wild = [
        "--model.optimizer=torch.optim.SGD",
        "--model.optimizer.lr=1e300",
        "--trainer.gradient_clip_val=0",
    ]
    for number, validates in enumerate(("--trainer.limit_val_batches=1", "--trainer.limit_val_batches=0")):
        own = [f"--run={number}", "--warmup.warmup_steps=0", "--trainer.precision=32-true"]
        assert fit(tmp_path, *QUIET, *wild, *own, validates) == 1
        assert re.match(r"error: optimizer step 1: .* not finite|.* loss is nan", capsys.readouterr().err)
        folder = tmp_path / "logs" / "pretrain_tiny" / str(number)
        assert json.loads((folder / "summary.json").read_text())["status"] == "failed"
        assert not (folder / "export").exists()
        assert not (folder / "checkpoints" / "last.ckpt").exists()


def test_a_validation_without_targets_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    records = [{"prompt": "why " * 60 + str(number), "response": "so"} for number in range(40)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    source = ["--data.corpus.source=JSONFiles", f"--data.corpus.source.paths={tmp_path / 'a.jsonl'}"]
    source += ["--data.corpus.source.template=prompt_response"]
    assert "only prompts; take a longer block" in refusal(capsys, tmp_path, *source)


def test_adalora_stands_before_the_callbacks_that_read_gradients(tmp_path: Path, base: str):
    adapter = [f"--model.pretrained={base}", f"--model.adapter={ROOT}/configs/adapter/adalora.yaml"]
    adapter += ["--model.adapter.tinit=0", "--model.adapter.tfinal=1"]
    tokenizer = ["--data.corpus.tokenizer=Pretrained", f"--data.corpus.tokenizer.path={base}"]
    short = ["--trainer.max_steps=4", "--data.block_size=16", *QUIET]
    order: list[str] = []

    def look(self: Any, trainer: Any, *_: Any) -> None:
        order.extend(type(callback).__name__ for callback in trainer.callbacks)

    with mock.patch.object(cli.Guards, "on_train_start", look):
        assert main(*options(tmp_path, "finetune_lora"), *TEXT, *adapter, *tokenizer, *short) == 0
    assert order.index("AdaLoRA") < min(order.index(name) for name in ("Guards", "Histograms"))
    assert "adalora" in last(tmp_path)
