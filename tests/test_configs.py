"""Every file below configs/ is loaded, and every experiment runs for one step."""

import sys
from pathlib import Path
from unittest import mock

import pytest

from gpt2_lightning import cli
from tests.conftest import ASSETS, ROOT

CONFIGS = ROOT / "configs"
PIECES = {"model": "--model.architecture", "data": "--data.corpus", "logger": "--trainer.logger"}


def main(*options: str) -> int:
    """`python train.py` with the given options, in this process."""
    with mock.patch.object(sys, "argv", ["train.py", *options]):
        return cli.main(CONFIGS / "default.yaml")


def names(kind: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / kind).glob("*.yaml"))


def options(tmp_path: Path, experiment: str = "pretrain_tiny") -> list[str]:
    """One step of an experiment on the tests' text, with the width and depth of a toy."""
    return [
        "fit",
        f"--config={CONFIGS / 'experiment' / experiment}.yaml",
        f"--logs={tmp_path / 'logs'}",
        f"--data.folder={tmp_path / 'data'}",
        "--trainer.max_steps=1",
        "--trainer.accelerator=cpu",
        "--samples.every_n_steps=1",
        "--samples.sampling.max_new_tokens=2",
        "--histograms.every_n_steps=1",
    ]


TEXT = [
    "--data.corpus.source=TextFiles",
    f"--data.corpus.source.paths=['{ASSETS}']",
    "--data.corpus.tokenizer=ByteLevelBPE",
    "--data.corpus.tokenizer.vocab_size=300",
    "--data.corpus.validation_fraction=0.3",
    "--data.block_size=16",
    "--data.micro_batch_size=2",
]
TOY = [f"--model.architecture.{field}" for field in ("n_layer=1", "n_head=1", "n_embd=8", "n_positions=16")]


def run_folder(tmp_path: Path) -> Path:
    (folder,) = (tmp_path / "logs").glob("*/*")
    return folder


@pytest.mark.parametrize("experiment", names("experiment"))
def test_experiment_runs_for_one_step(tmp_path: Path, experiment: str):
    assert main(*options(tmp_path, experiment), *TEXT, *TOY) == 0
    assert (run_folder(tmp_path) / "export" / "model.safetensors").exists()
    assert run_folder(tmp_path).parent.name == experiment


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in PIECES for name in names(kind)])
def test_piece_lies_over_an_experiment(tmp_path: Path, kind: str, name: str):
    """With the sizes of the toy, and the tests' text in the place of a corpus of one's own."""
    piece = f"{PIECES[kind]}={CONFIGS / kind / name}.yaml"
    own_text = [f"--data.corpus.source.paths=['{ASSETS}']"] if name == "text" else []
    text = [option for option in TEXT if kind != "data" or "corpus" not in option or "fraction" in option]
    assert main(*options(tmp_path), *text, piece, *own_text, *TOY) == 0


def test_each_file_says_what_it_is():
    for path in CONFIGS.rglob("*.yaml"):
        assert path.read_text().startswith("# "), path
