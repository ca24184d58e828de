"""What is said last decides, through the whole parser."""

import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from jsonargparse import Namespace

from gpt2_lightning.commandline import cli
from tests.commandline.conftest import refusal
from tests.test_configs import CONFIGS


class StopError(Exception):
    """Raised in place of the run."""


def settled(*options: str, experiment: str = "pretrain_tiny") -> Namespace:
    """The options of a run as they are before anything is made of them."""
    found: dict[str, Any] = {}

    def look(self: cli.GPT2CLI) -> None:
        found["config"] = self.config["fit"]
        raise StopError

    argv = ["train.py", "fit", f"--config={CONFIGS / 'experiment' / experiment}.yaml", *options]
    with (
        mock.patch.object(sys, "argv", argv),
        mock.patch.object(cli.GPT2CLI, "before_instantiate_classes", look),
        pytest.raises(StopError),
    ):
        cli.main(CONFIGS / "default.yaml")
    return found["config"]


@pytest.mark.parametrize(
    ("options", "steps", "epochs"),
    [
        ([], 560, None),
        (["--trainer.max_epochs=3"], -1, 3),
        (["--trainer.max_steps=null", "--trainer.max_epochs=3"], -1, 3),
        (["--trainer.max_epochs=3", "--trainer.max_steps=9"], 9, None),
        (["--trainer.max_steps=9"], 9, None),
    ],
)
def test_the_length_that_is_named_last_counts(options: list[str], steps: int, epochs: int | None):
    trainer = settled(*options).trainer
    assert (trainer.max_steps, trainer.max_epochs) == (steps, epochs)


def test_of_one_file_both_lengths_count(tmp_path: Path):
    own = tmp_path / "own.yaml"
    own.write_text("trainer: {max_steps: 7, max_epochs: 2}")
    trainer = settled(f"--config={own}").trainer
    assert (trainer.max_steps, trainer.max_epochs) == (7, 2)


@pytest.mark.parametrize(
    ("options", "steps", "interval", "every_epoch"),
    [
        ([], 140, 140, None),
        (["--trainer.accumulate_grad_batches=4"], 140, 560, None),
        (["--validate_every_n_steps=5", "--trainer.accumulate_grad_batches=3"], 5, 15, None),
        (["--trainer.val_check_interval=6", "--trainer.accumulate_grad_batches=3"], 2, 6, None),
        (["--trainer.val_check_interval=0.5"], None, 0.5, 1),
        (["--trainer.check_val_every_n_epoch=1"], None, 1.0, 1),
        (["--trainer.check_val_every_n_epoch=2", "--trainer.val_check_interval=10"], None, 10, 2),
    ],
)
def test_validations_are_counted_in_optimizer_steps(
    options: list[str], steps: int | None, interval: float, every_epoch: int | None
):
    config = settled(*options)
    trainer = config.trainer
    assert config.validate_every_n_steps == steps
    assert (trainer.val_check_interval, trainer.check_val_every_n_epoch) == (interval, every_epoch)


def test_the_advice_of_gpt2_small_for_eight_gpus_validates_as_often():
    config = settled("--trainer.accumulate_grad_batches=5", experiment="pretrain_gpt2_small")
    assert config.validate_every_n_steps == 1000
    assert config.trainer.val_check_interval == 5000


@pytest.mark.parametrize("interval", ["0", "-1", "7"])
def test_a_validation_inside_a_step_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], interval: str
):
    said = refusal(
        capsys, tmp_path, f"--trainer.val_check_interval={interval}", "--trainer.accumulate_grad_batches=3"
    )
    assert f"--trainer.val_check_interval {interval}: counts micro-batches" in said
    assert "--validate_every_n_steps" in said


def test_another_optimizer_starts_from_its_own_defaults(capsys: pytest.CaptureFixture[str]):
    optimizer = settled("--model.optimizer=torch.optim.AdamW", "--model.optimizer.eps=1e-6").model.optimizer
    assert optimizer.class_path == "torch.optim.AdamW"
    given = {name: optimizer.init_args[name] for name in ("lr", "betas", "weight_decay", "eps")}
    assert given == {"lr": 1e-3, "betas": (0.9, 0.999), "weight_decay": 0.01, "eps": 1e-6}
    assert "--model.optimizer AdamW starts from its own defaults, without lr 0.012" in capsys.readouterr().out
    muon = settled("--model.optimizer=MuonAdamW", experiment="finetune_full").model.optimizer.init_args
    assert (muon.lr, list(muon.betas)) == (3e-3, [0.9, 0.95])


def test_a_file_for_the_adapter_leaves_nothing_of_another():
    lora = settled(experiment="finetune_lora").model.adapter.init_args
    assert (lora.r, lora.lora_alpha, lora.lora_dropout) == (8, 32, 0.1)
    other = CONFIGS / "adapter" / "prefix.yaml"
    prefix = settled(f"--model.adapter={other}", experiment="finetune_lora").model.adapter
    assert prefix.class_path.endswith("PrefixTuningConfig")
    own = settled("--model.adapter={class_path: LoraConfig, init_args: {r: 3}}", experiment="finetune_lora")
    assert (own.model.adapter.init_args.r, own.model.adapter.init_args.lora_alpha) == (3, 32), (
        "the same class"
    )


def test_a_rate_over_an_experiment_s_moves_all_its_groups():
    optimizer = settled("--model.optimizer.lr=1e-3").model.optimizer.init_args
    assert (optimizer.lr, optimizer.muon_lr_ratio, optimizer.muon_lr) == (1e-3, 0.667, None)


def test_a_file_for_the_corpus_leaves_nothing_of_another():
    book = f"--data.corpus={CONFIGS / 'data' / 'book.yaml'}"
    corpus = settled(book, experiment="shakespeare_char").data.corpus
    assert corpus.validation is None
    assert corpus.source.init_args.span in ((0.0, 1.0), [0.0, 1.0])
    assert corpus.tokenizer.class_path.endswith("ByteLevelBPE")
    text = settled(book, f"--data.corpus={CONFIGS / 'data' / 'text.yaml'}").data.corpus.source.init_args
    assert (text.separator, text.min_chars) == (None, 0)


def test_a_corpus_of_which_the_source_alone_is_named(capsys: pytest.CaptureFixture[str]):
    argv = ["train.py", "fit", "--data.corpus.source=PythonDocs"]
    with mock.patch.object(sys, "argv", argv), pytest.raises(SystemExit) as stop:
        cli.main(CONFIGS / "default.yaml")
    assert stop.value.code == 2
    assert "give --trainer.max_steps or --trainer.max_epochs" in capsys.readouterr().err


def test_the_folder_of_a_run_is_not_the_trainer_s_to_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert "use --logs, --experiment and --run" in refusal(capsys, tmp_path, "--trainer.default_root_dir=x")
