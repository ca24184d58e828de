"""A small corpus and a small real run, shared by the tests."""

import csv
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything

from gpt2_lightning.data.corpus import Corpus
from gpt2_lightning.data.datamodule import TextDataModule
from gpt2_lightning.data.sources import TextFiles
from gpt2_lightning.data.tokenizer import ByteLevelBPE
from gpt2_lightning.inference.export import export
from gpt2_lightning.model.architecture import Architecture
from gpt2_lightning.model.module import GPT2Module

ASSETS = Path(__file__).parent / "assets"
ROOT = Path(__file__).parent.parent


def pytest_configure() -> None:
    torch.set_num_threads(1)  # these models are too small to share: a second thread costs more than it brings


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for token stores, so that the tests' corpus is tokenized once."""
    return tmp_path_factory.mktemp("stores")


@pytest.fixture
def datamodule(stores: Path) -> Callable[..., TextDataModule]:
    """Makes data modules over the tests' corpus: 12 documents, 3 kB."""

    return partial(datamodule_for, stores)


def datamodule_for(folder: Path, **options: Any) -> TextDataModule:
    """A data module over the tests' corpus, with its stores in `folder`."""
    defaults = {
        "corpus": Corpus(TextFiles([str(ASSETS)]), ByteLevelBPE(300), validation_fraction=0.3),
        "block_size": 16,
        "micro_batch_size": 4,
        "folder": str(folder),
    }
    return TextDataModule(**(defaults | options))


@pytest.fixture(scope="session")
def gpt2_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `vocab.json` and `merges.txt` as OpenAI wrote GPT-2's, with a vocabulary of 600."""
    folder = tmp_path_factory.mktemp("gpt2")
    texts = [path.read_text() for path in sorted(ASSETS.glob("*.txt"))] * 2
    tokenizer = ByteLevelBPE(600).build(texts).backend_tokenizer
    tokenizer.model.save(str(folder))
    return folder


def tiny_module(dropout: float = 0.0, optimizer: Any = None, **architecture: Any) -> GPT2Module:
    """GPT-2 with 2 layers of width 16."""
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 16, "n_positions": 32} | architecture
    drops = {"resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": dropout}
    return GPT2Module(
        Architecture(**shape, **drops), optimizer or (lambda params: torch.optim.AdamW(params, lr=1e-2))
    )


def read_metrics(folder: Path) -> list[dict[str, str]]:
    """The rows of a run's `metrics.csv`."""
    return list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))


def run_trainer(
    folder: Path,
    callbacks: list[Callback],
    data: TextDataModule,
    module: GPT2Module | None = None,
    ckpt_path: Path | None = None,
    **options: Any,
) -> Trainer:
    """A real Trainer that writes into `folder`, after it has run; 4 steps if nothing else is said."""
    defaults = {
        "max_steps": 4,
        "accelerator": "cpu",
        "logger": False,
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": any("Checkpoint" in type(c).__name__ for c in callbacks),
        "num_sanity_val_steps": 0,
        "val_check_interval": 4,
        "check_val_every_n_epoch": None,
        "default_root_dir": folder,
        "use_distributed_sampler": False,
    }
    seed_everything(0)
    trainer = Trainer(callbacks=callbacks, **(defaults | options))
    trainer.fit(module or tiny_module(), datamodule=data, ckpt_path=ckpt_path)
    return trainer


@pytest.fixture
def train(tmp_path: Path, datamodule: Callable[..., TextDataModule]) -> Callable[..., Trainer]:
    """Runs a real Trainer on the tests' corpus, in the test's own folder, and returns it."""

    def run(
        callbacks: list[Callback],
        data: TextDataModule | None = None,
        module: GPT2Module | None = None,
        **options: Any,
    ) -> Trainer:
        return run_trainer(tmp_path, callbacks, data or datamodule(), module, **options)

    return run


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory, stores: Path) -> str:
    """The export of a model that has learned a little: 2 layers of width 16, 64 positions."""
    folder, module, data = (
        tmp_path_factory.mktemp("base"),
        tiny_module(n_positions=64),
        datamodule_for(stores),
    )
    run_trainer(folder, [], data, module, max_steps=30, limit_val_batches=0)
    export(module, data.tokenizer, folder / "export")
    return str(folder / "export")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 8 steps."""
    from tests.commandline.conftest import fit
    from tests.test_configs import run_folder

    tmp_path = tmp_path_factory.mktemp("finished")
    extra = ["--trainer.max_steps=8", "--trainer.val_check_interval=4", "--trainer.log_every_n_steps=2"]
    assert fit(tmp_path, *extra, "--trainer.precision=32-true") == 0
    return run_folder(tmp_path)


def continue_text(model: Any, tokenizer: Any, prompt: str, sampling: Any) -> str:
    """What the model writes after one prompt."""
    from gpt2_lightning.model.generation import continue_texts

    return continue_texts(model, tokenizer, [prompt], sampling)[0]
