"""Mistakes as jsonargparse itself finds them, so that another version of it fails here."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt2_lightning import __main__
from gpt2_lightning.commandline import cli
from tests.conftest import ROOT

TINY = f"--config={ROOT / 'configs' / 'experiment' / 'pretrain_tiny.yaml'}"
SOURCE = ["--data.corpus.source=TextFiles", "--data.corpus.source.paths=x"]
MAX_STEPS = "trainer.max_step: no such option; did you mean --trainer.max_steps?"
NO_OWNER = "no such option; --data.corpus.source names another class, or none before it"
NEEDS_DATA = "must be given; DATA= or an experiment's file under configs/ does so"


def said(command: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        command()
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([TINY, "--trainer.max_step=3"], MAX_STEPS),
        ([TINY, "--trainer.max_step", "3"], MAX_STEPS),
        ([TINY, "--data.rwos=stream"], "data.rwos: no such option; did you mean --data.rows?"),
        ([TINY, "--no_such=3"], "no_such: no such option; see docs/options.md"),
        ([TINY, "--model.optimizer.lrr=3"],
         "model.optimizer.lrr: no such option; did you mean --model.optimizer.lr?"),
        ([TINY, "--data.corpus.source.pats=x"], f"data.corpus.source.pats: {NO_OWNER}"),
        (["--data.corpus.source.paths=x"],
         "data.corpus.source: name its class before its options, as TextFiles"),
        (["--trainer.max_steps=1"], f"data.corpus.source {NEEDS_DATA}"),
        ([TINY, "--trainer.max_steps=abc"], "trainer.max_steps: abc is not of type int"),
        ([TINY, "--samples.every_n_steps=x"], "samples.every_n_steps: x is not of type int"),
        ([TINY, "--model.architecture.n_layer=x"], "model.architecture.n_layer: x is not of type int"),
        ([TINY, "--trainer.gradient_clip_val=x"], "trainer.gradient_clip_val: x is not of type int"),
        ([TINY, "--tags=a"], "tags: a is not of type list"),
        ([TINY, "--model.compile=maybe"], "model.compile: maybe is not of type bool"),
        ([TINY, *SOURCE, "--data.corpus.source.span=[0]"],
         "data.corpus.source.span: Expected a tuple with 2 elements. Got value: [0]"),
        ([TINY, "--patience=-1"], "patience: -1 is out of range: it must be >=0"),
        ([TINY, "--model.architecture.resid_pdrop=2"],
         "model.architecture.resid_pdrop: 2 is out of range: it must be >=0 and <=1"),
        ([TINY, "--data.corpus.tokenizer.vocab_size=2"],
         "data.corpus.tokenizer.vocab_size: 2 is out of range: it must be >=257 and <=16777216"),
        ([TINY, "--data.corpus.on_error=ignore"],
         "data.corpus.on_error: ignore is unknown; there are: 'stop', 'skip'"),
        ([TINY, "--data.rows=packed"],
         "data.rows: packed is unknown; there are: 'stream', 'isolated', 'documents', 'padded'"),
        ([TINY, "--trainer.precision=fp8"],
         "trainer.precision: fp8 is unknown; there are: 'transformer-engine', 'transformer-engine-float16', "
         "'16-true', '16-mixed', 'bf16-true', 'bf16-mixed', '32-true', '64-true', '64', '32', '16', 'bf16'"),
        ([TINY, "--data.corpus.source=Nowhere"], "data.corpus.source: Nowhere is no class and no file"),
        ([TINY, "--model.optimizer=Adamm"], "model.optimizer: Adamm is no class and no file"),
        ([TINY, "--model.optimizer=torch.optim.Adamm"],
         "model.optimizer: is no class and no file: module 'torch.optim' has no attribute 'Adamm'"),
        ([TINY, "--model.adapter=nowhere.yaml"],
         "model.adapter: is no class and no file: No module named 'nowhere'"),
        ([TINY, "--data.corpus.source=a b.c"], "data.corpus.source: a b.c is no class and no file"),
        ([TINY, "--data.corpus.source=Source"],
         "data.corpus.source: name its class before its options, as TextFiles"),
        ([TINY, "--data.corpus.source=JSONFiles"], "data.corpus.source.paths must be given"),
        ([TINY, "--data.corpus.validation_fraction=x"],
         "data.corpus.validation_fraction: x is not of type float"),
        ([TINY, "--model.adapter.r=8"],
         "model.adapter.r: no such option; --model.adapter names another class, or none before it"),
        ([TINY, "--model.adapter=LoraConfig", "--model.adapter.r=x"],
         "model.adapter.r: x is not of type int"),
        ([TINY, "--data.corpus=nowhere.yaml"], 'data.corpus: Unable to load config "nowhere.yaml"'),
    ],
)  # fmt: skip
def test_mistakes_in_the_options_of_a_run(
    options: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["train.py", "fit", *options])
    assert said(lambda: cli.main(), capsys) == f"error: --{message}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "trainer:\n  max_step: 3\n",
            f"--{MAX_STEPS}",
        ),
        ("trainer:\n  max_steps: abc\n", "--trainer.max_steps: abc is not of type int"),
        (
            "model: {optimizer: {class_path: torch.optim.AdamW, init_args: {lrr: 3}}}",
            "--model.optimizer.lrr: no such option; did you mean --model.optimizer.lr?",
        ),
        (
            "model: {adapter: {class_path: peft.LoraConfig, init_args: {r: x}}}",
            "--model.adapter.r: x is not of type int",
        ),
        ("trainer:\n  max_steps: 3\n bad: [1\n", "{file}:3: is no YAML: expected <block end>"),
        ("- 1\n", "{file}: is no configuration: options and their values are needed"),
        (b"\xff\xfe", "{file}: cannot be read: is not UTF-8"),
    ],
)
def test_mistakes_in_a_configuration_file(
    content: str | bytes,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    file = tmp_path / "own.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    monkeypatch.setattr(sys, "argv", ["train.py", "fit", f"--config={file}"])
    assert said(lambda: cli.main(), capsys).startswith(f"error: {message.format(file=file)}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "--temperatur=1"], "--temperatur: no such option; did you mean --temperature?"),
        (["generate", "--top_k=-1"], "--top_k: -1 is out of range: it must be >=0"),
        (
            ["evaluate"],
            f"models, --data.source {NEEDS_DATA}",
        ),
        (["sweep"], "file must be given"),
        (["compare"], "runs must be given"),
        (["evaluate", "x", "--data.source=TextFiles"], "--data.source.paths must be given"),
        (["sweep", "x", "--pruner=best"], "--pruner: best is unknown; there are: 'file', 'median', 'none'"),
        (["compare", "x", "--sample_steps=x"], "--sample_steps: x is not of type list"),
    ],
)
def test_mistakes_in_the_options_of_the_other_commands(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["-m", *arguments])
    assert said(lambda: __main__.main(), capsys) == f"error: {message}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("trainer: {max_step: 3}", f"--{MAX_STEPS}"),
        (
            "model: {optimizer: {class_path: torch.optim.AdamW, init_args: {lrr: 3}}}",
            "--model.optimizer.lrr: no such option; did you mean --model.optimizer.lr?",
        ),
    ],
)
def test_mistakes_in_the_file_that_every_run_starts_from(
    content: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    file = tmp_path / "default.yaml"
    file.write_text(content)
    monkeypatch.setattr(sys, "argv", ["train.py", "fit"])
    assert said(lambda: cli.main(file), capsys) == f"error: {message}"
