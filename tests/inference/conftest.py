"""A short run, which the tests of this folder use."""

from pathlib import Path

import pytest
import torch

from gpt2_lightning.data.tokenizer import ByteLevelBPE
from gpt2_lightning.model.architecture import Architecture, build
from tests.test_configs import TEXT, TOY, options, run_folder
from tests.test_configs import main as train


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose validation is known."""
    folder = tmp_path_factory.mktemp("run")
    quiet = ["--histograms.every_n_steps=0", "--samples.every_n_steps=0", "--trainer.precision=32-true"]
    assert train(*options(folder), *TEXT, *TOY, *quiet, "--trainer.max_steps=4") == 0
    return run_folder(folder)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with an export of a random model."""
    torch.manual_seed(0)
    tokenizer = ByteLevelBPE(300).build(["the cat sat on the mat"])
    model = build(Architecture(n_layer=1, n_head=1, n_embd=16, n_positions=64), len(tokenizer), 0)
    folder = tmp_path / "logs" / "try" / "2026-01-01_00-00-00"
    model.save_pretrained(folder / "export")
    tokenizer.save_pretrained(folder / "export")
    return folder
