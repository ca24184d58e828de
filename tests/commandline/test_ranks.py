"""Two processes train as one does at the same global batch."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.commandline.conftest import refusal
from tests.conftest import ROOT, read_metrics
from tests.test_configs import TEXT, TOY, options, run_folder

COMMON = [
    "--trainer.max_steps=6",
    "--trainer.precision=32-true",
    "--trainer.log_every_n_steps=1",
    "--trainer.val_check_interval=3",
    "--trainer.accumulate_grad_batches=1",
    "--warmup.warmup_steps=2",
]


def train(tmp_path: Path, *extra: str) -> Path:
    command = [sys.executable, str(ROOT / "train.py"), *options(tmp_path), *TEXT, *TOY, *COMMON, *extra]
    # Muon in float32: in bf16 a gradient summed in another order is rounded to other numbers
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    return run_folder(tmp_path)


GRADIENTS = """
import sys
from pathlib import Path

import torch
from lightning.pytorch import Trainer

from gpt2_lightning.model.architecture import build
from gpt2_lightning.data.packing import IGNORED
from tests.conftest import datamodule_for, tiny_module
from tests.model.test_module import FixedBatches, KeepGradients, ragged_batches

torch.set_num_threads(1)
big = ragged_batches(8, vocab_size=300)
for accumulate in (1, 2, 4):
    trainer = Trainer(
        max_steps=1, accelerator="cpu", devices=2, strategy="ddp", accumulate_grad_batches=accumulate,
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        limit_val_batches=0, use_distributed_sampler=False, callbacks=[kept := KeepGradients()],
    )
    share = 8 // (2 * accumulate)  # of the eight small batches, in each micro-batch
    mine = range(trainer.global_rank * accumulate, (trainer.global_rank + 1) * accumulate)
    data = datamodule_for(Path(sys.argv[1]))
    data.__class__ = FixedBatches
    data.batches = [
        {key: torch.cat([batch[key] for batch in big[n * share : (n + 1) * share]]) for key in big[0]}
        for n in mine
    ]
    if trainer.global_rank:  # its rows are longer, filled up with what is no target
        fill = {"input_ids": 0, "targets": IGNORED}
        data.batches = [
            {key: torch.nn.functional.pad(rows, (0, 8), value=fill[key]) for key, rows in batch.items()}
            for batch in data.batches
        ]
    module = tiny_module(optimizer=lambda params: torch.optim.SGD(params, lr=0.0))
    torch.manual_seed(0)
    trainer.fit(module, datamodule=data)
    if trainer.is_global_zero:
        whole = {key: torch.cat([batch[key] for batch in big]) for key in big[0]}
        module.zero_grad()
        logits = module.gpt2(whole["input_ids"]).logits.flatten(0, 1)
        torch.nn.functional.cross_entropy(logits, whole["targets"].flatten()).backward()
        expected = torch.cat([p.grad.flatten() for p in module.parameters()])
        found = torch.cat([kept.steps[0][n].flatten() for n, _ in module.named_parameters()])
        print(accumulate, ((found - expected).norm() / expected.norm()).item())
torch.distributed.barrier()
torch.distributed.destroy_process_group()  # its threads abort a process that ends with them
"""


FULL = f"""
import errno, os, sys
from pathlib import Path
from gpt2_lightning.commandline import cli
from gpt2_lightning.callbacks.checkpoint_io import SafeCheckpointIO

def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device", "last.ckpt")

if "LOCAL_RANK" not in os.environ:
    SafeCheckpointIO.save_checkpoint = full
sys.exit(cli.main(Path({str(ROOT)!r}) / "configs" / "default.yaml"))
"""


def test_gradients_over_ranks_and_micro_batches_are_of_one_big_ragged_batch(tmp_path: Path):
    """Eight ragged batches, one of them without a target, in 1, 2 or 4 micro-batches on 2 ranks.

    The rows of one rank are longer than those of the other, as padded rows are.
    """
    (tmp_path / "script.py").write_text(GRADIENTS)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [*command, str(tmp_path / "script.py"), str(tmp_path / "stores")],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr[-3000:]
    errors = [
        float(line.split()[1])
        for line in result.stdout.splitlines()
        if line[:1] in "124" and line[1:2] == " "
    ]
    assert len(errors) == 3
    assert max(errors) < 1e-6


def test_two_ranks_give_the_losses_weights_and_files_of_one(tmp_path: Path):
    one = train(tmp_path / "one", "--data.micro_batch_size=4")
    ranks = ["--trainer.devices=2", "--trainer.strategy=ddp", "--data.micro_batch_size=2"]
    two = train(tmp_path / "two", *ranks)
    for name in ("train/nll", "val/nll", "train/grad_norm"):
        numbers = [[float(row[name]) for row in read_metrics(run) if row[name]] for run in (one, two)]
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-5)
    weights = [
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for run in (one, two)
    ]
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-5)
    summaries = [json.loads((run / "summary.json").read_text()) for run in (one, two)]
    for name in ("steps", "tokens", "epochs"):
        assert summaries[0][name] == summaries[1][name]


def test_where_one_rank_fails_the_others_end(tmp_path: Path):
    """Rank 0 has no room for its checkpoint; rank 1 waits for it."""
    script = tmp_path / "script.py"
    script.write_text(FULL)
    command = [sys.executable, str(script), *options(tmp_path), *TEXT, *TOY, *COMMON]
    command += ["--trainer.devices=2", "--trainer.strategy=ddp", "--data.micro_batch_size=2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert result.returncode == 2, result.stderr
    assert "cannot be written: the disk is full" in result.stderr


def test_a_run_of_one_rank_goes_on_on_two(tmp_path: Path):
    common = ["--run=mine", "--auto_resume=true", "--warmup.schedule=constant", "--warmup.warmup_steps=0"]
    one = ["--data.micro_batch_size=4", *common]
    two = ["--trainer.devices=2", "--trainer.strategy=ddp", "--data.micro_batch_size=2", *common]
    whole = train(tmp_path / "whole", *one)
    train(tmp_path / "other", *one, "--trainer.max_steps=3")
    other = train(tmp_path / "other", *two)
    numbers = [[float(row["train/nll"]) for row in read_metrics(run)] for run in (whole, other)]
    assert len(numbers[0]) == 6
    assert numbers[1] == pytest.approx(numbers[0], rel=1e-5)


def test_a_port_of_the_ranks_that_is_in_use_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("MASTER_PORT", port := str(server.getsockname()[1]))
        monkeypatch.setenv("WORLD_SIZE", "2")  # so that no other process is started, as under torchrun
        monkeypatch.setenv("RANK", "0")
        monkeypatch.setenv("LOCAL_RANK", "0")
        line = refusal(capsys, tmp_path, "--trainer.devices=2", "--trainer.strategy=ddp")
    assert line.startswith(f"error: MASTER_PORT {port}: the ranks cannot meet there: ")
    assert not list(tmp_path.glob("logs/*"))
