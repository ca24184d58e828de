"""Runs that the tests of this room read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.test_configs import TEXT, TOY, options
from tests.test_configs import main as train

SHORT = ["--trainer.max_steps=6", "--trainer.val_check_interval=2", "--histograms.every_n_steps=0"]
SHORT += ["--samples.every_n_steps=2", "--samples.prompts=['','we']", "--trainer.log_every_n_steps=1"]
RUNS = {"first": ("0", "0.01"), "second": ("1", "0.01"), "other": ("0", "0.02")}


@pytest.fixture(scope="session")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of one configuration, and another learning rate."""
    folder = tmp_path_factory.mktemp("runs")
    for name, (seed, rate) in RUNS.items():
        own = [f"--run={name}", f"--seed_everything={seed}", f"--model.optimizer.lr={rate}"]
        assert train(*options(folder), *TEXT, *TOY, *SHORT, *own) == 0
    return folder / "logs" / "pretrain_tiny"


Write = Callable[..., Path]


@pytest.fixture
def write_run(tmp_path: Path) -> Write:
    """Writes the folder of a run whose numbers can be checked by hand: 4 steps of 10 tokens."""

    def write(name: str = "first", seed: int = 0, lr: float = 0.01, **summary: Any) -> Path:
        folder = tmp_path / "logs" / "toy" / name
        folder.mkdir(parents=True)
        optimizer = {"class_path": "torch.optim.AdamW", "init_args": {"lr": lr}}
        config = {"seed_everything": seed, "run": name, "notes": name, "model": {"optimizer": optimizer}}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        own = {"experiment": "toy", "run": name, "status": "finished", "steps": 4, "tokens": 40}
        (folder / "summary.json").write_text(json.dumps(own | summary))
        rows = ["step,train/nll,val/nll,train/mean_tokens_per_second", "2,3.0,,5.0", f"4,2.0,{2.5 + lr},10.0"]
        (folder / "metrics.csv").write_text("\n".join(rows) + "\n")
        return folder

    return write
