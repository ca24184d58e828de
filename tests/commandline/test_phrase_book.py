"""Every option that the phrase book names is one."""

import re
import sys
from unittest import mock

import pytest

from gpt2_lightning import __main__
from gpt2_lightning.commandline import cli
from gpt2_lightning.commandline.phrase_book import VALUES, WORDS, option_for, table
from tests.conftest import ROOT
from tests.test_configs import CONFIGS

LORA = ["--model.pretrained=x", f"--model.adapter={CONFIGS / 'adapter' / 'lora.yaml'}"]
GIVEN = {  # a value of the right type, where 1 is none
    "model.optimizer": "torch.optim.SGD",
    "model.architecture": str(CONFIGS / "model" / "tiny.yaml"),
    "model.adapter": str(CONFIGS / "adapter" / "lora.yaml"),
    "model.optimizer.betas": "[0.9, 0.9]",
    "model.compile": "true",
    "warmup.schedule": "linear",
    "trainer.precision": "32-true",
    "trainer.logger": "false",
    "trainer.accelerator": "cpu",
    "data.corpus.tokenizer": "Bytes",
}
SOURCES = {
    "data.corpus.source.name": ["--data.corpus.source=HubDataset"],
    "data.corpus.source.config": ["--data.corpus.source=HubDataset", "--data.corpus.source.name=x"],
    "data.corpus.source.paths": ["--data.corpus.source=TextFiles"],
    "data.corpus.validation.paths": ["--data.corpus.validation=TextFiles"],
    "data.corpus.tokenizer.path": ["--data.corpus.tokenizer=Pretrained"],
    "data.corpus.tokenizer.vocab_size": ["--data.corpus.tokenizer=ByteLevelBPE"],
}
TRAINING = sorted({options[0] for options in WORDS.values() if "." in options[0]})
OTHERS = sorted({option.split(" ")[0] for options in WORDS.values() for option in options})


class ParsedError(Exception):
    """Raised after the parser took everything."""


def parse(*options: str) -> None:
    def stop(*_: object) -> None:
        raise ParsedError

    argv = ["train.py", "fit", f"--config={CONFIGS / 'experiment' / 'pretrain_tiny'}.yaml", *options]
    with mock.patch.object(sys, "argv", argv), mock.patch.object(cli, "settle", stop):
        cli.main(CONFIGS / "default.yaml")


@pytest.mark.parametrize("option", TRAINING)
def test_options_of_a_run_exist(option: str):
    name, _, value = option.partition(" ")
    before = SOURCES.get(name, []) + (LORA if name.startswith("model.adapter.") else [])
    value = value or GIVEN.get(
        name, "512" if name.endswith("vocab_size") else "0.5" if "fraction" in name else "1"
    )
    with pytest.raises(ParsedError):
        parse(*before, f"--{name}={value}")


def test_all_others_are_options_of_some_command():
    known = set()
    for command in ("generate", "evaluate"):
        parser = __main__._parser_of(command, __main__._command(command))
        known |= {name.lstrip("-") for name in parser._option_string_actions}
    known |= {"logs", "run", "validate_every_n_steps", "patience", "ckpt_path", "seed_everything"}
    sections = ("model", "trainer", "data", "warmup", "checkpoints")
    for option in OTHERS:
        assert option in known or option.split(".")[0] in sections


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--learning_rate=1", "here it is --model.optimizer.lr"),
        ("--lr=1", "here it is --model.optimizer.lr"),
        ("--model.lr=1", "here it is --model.optimizer.lr"),
        ("--epochs=3", "here it is --trainer.max_epochs"),
        ("--fp16", "here it is --trainer.precision 16-mixed"),
        ("--bf16", "here it is --trainer.precision bf16-mixed"),
        ("--trainer.fp16=true", "here it is --trainer.precision 16-mixed"),
        ("--gradient_accumulation_steps=2", "here it is --trainer.accumulate_grad_batches"),
        ("--max_seq_len=8", "here it is --data.block_size"),
        ("--max-length=8", "here it is --data.block_size"),
        ("--learnin_rate=1", "did you mean --model.optimizer.lr?"),
        ("--max_step=1", "did you mean --trainer.max_steps?"),
        ("--n_layer=1", "did you mean --model.architecture.n_layer?"),
        ("--model.optimizer.learning_rate=1", "here it is --model.optimizer.lr"),
        ("--trainer.precision=fp16", "fp16 is unknown; here it is 16-mixed"),
        ("--wombat=1", "see docs/options.md"),
    ],
)
def test_words_that_everybody_knows_are_answered(given: str, said: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        parse(given)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(said)


def test_a_word_is_answered_with_what_the_command_has():
    assert option_for("max_length", ["data.block_size"]) == "data.block_size"
    assert option_for("max_length", ["max_new_tokens", "run"]) == "max_new_tokens"
    assert option_for("max_length", ["block_size"]) == "block_size"
    assert option_for("wombat", ["run"]) is None


def test_the_table_in_the_docs_is_the_book():
    assert table() in (ROOT / "docs" / "options.md").read_text()
    assert all(re.fullmatch(r"[a-z_0-9]+", word) for word in WORDS)
    assert all("." in option for option in VALUES)
