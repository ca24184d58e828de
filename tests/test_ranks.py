"""Two processes train as one does at the same global batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

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
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    return run_folder(tmp_path)


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
