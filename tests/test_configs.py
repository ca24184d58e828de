"""Every file below configs/ is loaded, and every experiment runs for one step."""

import csv
import gzip
import json
import shutil
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import yaml

from gpt2_lightning.commandline import cli
from gpt2_lightning.locations import LATEST
from gpt2_lightning.runs.settings import leaves
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
        f"--experiment={experiment}",
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


OWN = {  # what an experiment needs besides, or instead
    "pretrain_gpt2_small": [
        "--model.compile=false",
        "--trainer.devices=1",
        "--trainer.accumulate_grad_batches=2",
    ],
    "shakespeare_char": ["--data.corpus.tokenizer=Characters"],
    "shakespeare_char_fast": ["--data.corpus.tokenizer=Characters"],
}
SHORT = ["--trainer.max_steps=1", "--trainer.val_check_interval=2", "--warmup.warmup_steps=0"]


def base_of(experiment: str) -> str:
    """What it starts from; empty for one from scratch."""
    content = yaml.safe_load((CONFIGS / "experiment" / f"{experiment}.yaml").read_text())
    return content.get("model", {}).get("pretrained") or ""


@pytest.mark.parametrize("experiment", [name for name in names("experiment") if not base_of(name)])
def test_experiment_runs_for_one_step(tmp_path: Path, experiment: str):
    text = [*TEXT, "--data.corpus.validation=TextFiles", f"--data.corpus.validation.paths={ASSETS}"]
    own = OWN.get(experiment, [])
    if "--data.corpus.tokenizer=Characters" in own:
        text = [option for option in text if "tokenizer" not in option and "validation" not in option]
        text += [f"--data.corpus.validation.paths={ASSETS}", "--data.corpus.validation.span=[0,1]"]
        text += ["--data.corpus.source.span=[0,1]"]
    assert main(*options(tmp_path, experiment), *text, *TOY, *own, *SHORT) == 0
    assert (run_folder(tmp_path) / "export" / "model.safetensors").exists()
    assert run_folder(tmp_path).parent.name == experiment


@pytest.mark.parametrize("experiment", [name for name in names("experiment") if base_of(name)])
def test_experiment_on_a_base_runs_for_one_step(
    tmp_path: Path, experiment: str, base: str, monkeypatch: pytest.MonkeyPatch
):
    """On the tests' base in the place of the one that the file names."""
    monkeypatch.chdir(tmp_path)
    named = Path(base_of(experiment))
    if named.name == LATEST:
        shutil.copytree(base, tmp_path / named.parent / "1" / "export")
        own, expected = [], f"{named.parent}/1/export"
    else:
        own, expected = [f"--model.pretrained={base}", f"--data.corpus.tokenizer.path={base}"], base
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "examples").symlink_to(ROOT / "data" / "examples")
    if "PythonSource" in (CONFIGS / "experiment" / f"{experiment}.yaml").read_text():
        text = ["--data.corpus.source=TextFiles", f"--data.corpus.source.paths={ASSETS}"]
        text.append("--data.corpus.validation_fraction=0.3")
    else:
        text = []
    block = 16
    if experiment == "finetune_instructions":
        block = 64  # holds a short prompt and its answer
        records = ({"instruction": f"Add {n}.", "input": "", "output": "So much."} for n in range(40))
        (tmp_path / "records.jsonl").write_text("\n".join(map(json.dumps, records)))
        text = [f"--data.corpus.source.paths={tmp_path / 'records.jsonl'}"]
    small = [f"--data.block_size={block}", "--data.micro_batch_size=2", "--trainer.limit_val_batches=2"]
    verb, config, name, _, _, *rest = options(tmp_path, experiment)
    prompts = ["--samples.prompts=['']"]
    assert main(verb, config, name, *rest, *text, *small, *own, *prompts, *SHORT) == 0
    (folder,) = (tmp_path / "logs" / experiment).glob("*")
    assert (folder / "export" / "tokenizer.json").exists()
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["model"]["pretrained"].endswith(expected)


@pytest.mark.parametrize(
    "experiment", [name for name in names("experiment") if Path(base_of(name)).name == LATEST]
)
def test_experiment_without_its_base_says_what_to_run_first(
    tmp_path: Path, experiment: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main("fit", f"--config={CONFIGS / 'experiment' / experiment}.yaml")
    assert stop.value.code == 2
    assert f"make train EXPERIMENT={Path(base_of(experiment)).parent.name}" in capsys.readouterr().err
    assert not list(tmp_path.glob("logs/*"))


@pytest.mark.parametrize("kind", ["model", "logger"])
def test_piece_lies_over_an_experiment(tmp_path: Path, kind: str):
    """With the sizes of the toy, and the tests' text."""
    for name in names(kind):
        piece = f"{PIECES[kind]}={CONFIGS / kind / name}.yaml"
        assert main(*options(tmp_path / name), *TEXT, piece, *TOY) == 0


def corpus_of(name: str) -> dict[str, Any]:
    return yaml.safe_load((CONFIGS / "data" / f"{name}.yaml").read_text())


def source_of(name: str) -> str:
    """The class of a corpus' source, which may be all that is said of it."""
    source = corpus_of(name)["source"]
    return source["class_path"] if isinstance(source, dict) else source


def is_here(name: str) -> bool:
    """Whether a corpus is there as it is: in the project, or in Python."""
    paths = [value for key, value in leaves(corpus_of(name)) if key.endswith(".paths")]
    return all((ROOT / path).exists() for path in paths)


def write_corpus(name: str, folder: Path) -> list[str]:
    """Small files of the shape that a file of configs/data expects, and the options that name them."""
    texts = [path.read_text() for path in sorted(ASSETS.glob("*.txt"))]
    corpus, kind = corpus_of(name), source_of(name)
    options = corpus["source"]["init_args"]
    field = options.get("field", "text")
    folder.mkdir()
    if kind == "CSVFiles":
        with (folder / "a.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, [field])
            writer.writeheader()
            writer.writerows({field: text} for text in texts)
    elif kind == "JSONFiles":
        records = [
            {"instruction": text[:40], "input": "", "output": text[40:80], field: text} for text in texts
        ]
        with gzip.open(folder / "a.jsonl.gz", "wt") as file:
            file.writelines(json.dumps(record) + "\n" for record in records * 2)
    elif kind == "ParquetFiles":
        pyarrow.parquet.write_table(pyarrow.table({field: texts}), folder / "a.parquet")
    elif kind == "TokenFiles":
        for split in ("source", "validation"):
            np.arange(600, dtype=np.uint16).tofile(folder / f"{split}.bin")
        return [f"--data.corpus.{split}.paths={folder / split}.bin" for split in ("source", "validation")]
    else:
        for number, text in enumerate(texts * 2):
            (folder / f"{number}.txt").write_text(f"{number}\n\n{text}")
    own = [f"--data.corpus.{role}.paths={folder}" for role in ("source", "validation") if role in corpus]
    return own + (["--data.corpus.source.min_chars=100"] if options.get("min_chars") else [])


HUB = [name for name in names("data") if source_of(name) == "HubDataset"]


@pytest.mark.parametrize("name", HUB)
def test_hub_corpus_of_configs_is_read(tmp_path: Path, name: str, gpt2_tokenizer: Path):
    """Against a local folder of the data set's shape, in place of the hub."""
    columns = {"text": "some text ", "instruction": "do ", "input": "", "output": "done "}
    for split in ("train", "validation", "test"):
        lines = (
            json.dumps({field: f" = {split} {number} {text}" for field, text in columns.items()}) + "\n"
            for number in range(60)
        )
        (tmp_path / "set").mkdir(exist_ok=True)
        (tmp_path / "set" / f"{split}.jsonl").write_text("".join(lines))
    piece = corpus_of(name)
    here = [
        option
        for role in ("source", "validation", "test")
        if role in piece
        for option in (f"--data.corpus.{role}.name={tmp_path / 'set'}", f"--data.corpus.{role}.config=null")
    ]
    if piece["tokenizer"]["class_path"] == "Pretrained":
        here.append(f"--data.corpus.tokenizer.path={gpt2_tokenizer}")
    else:
        here.append("--data.corpus.tokenizer.vocab_size=300")
    corpus = f"--data.corpus={CONFIGS / 'data' / name}.yaml"
    _, config, _, _, store, *_ = options(tmp_path)
    small = ["--data.block_size=16", "--data.corpus.validation_fraction=0.3", *TOY]
    assert main("preflight", config, store, corpus, *here, *small, "--measure=false") == 0


@pytest.mark.parametrize("name", [name for name in names("data") if name not in HUB])
def test_corpus_of_configs_trains(tmp_path: Path, name: str, gpt2_tokenizer: Path):
    """From the command line, with no code, on files of the shape it expects."""
    corpus = f"--data.corpus={CONFIGS / 'data' / name}.yaml"
    own = [] if is_here(name) else write_corpus(name, tmp_path / "corpus")
    tokenizer = corpus_of(name)["tokenizer"]
    vocabulary = ["--data.corpus.tokenizer=Bytes"]
    if not is_here(name):
        vocabulary = {
            "Pretrained": [f"--data.corpus.tokenizer.path={gpt2_tokenizer}"],
            "ByteLevelBPE": ["--data.corpus.tokenizer.vocab_size=300"],
        }.get(tokenizer if isinstance(tokenizer, str) else tokenizer["class_path"], [])
    block = 512 if "template" in str(corpus_of(name)) else 16  # a prompt and something of its answer
    fraction = [
        "--data.corpus.validation_fraction=0.4",
        f"--data.block_size={block}",
        "--data.micro_batch_size=1",
        "--trainer.log_every_n_steps=1",
        "--samples.prompts=['']",
        "--trainer.limit_val_batches=2",
    ]
    positions = f"--model.architecture.n_positions={block}"
    assert main(*options(tmp_path), corpus, *own, *vocabulary, *fraction, *TOY, positions) == 0


def test_each_file_says_what_it_is():
    for path in CONFIGS.rglob("*.yaml"):
        assert path.read_text().startswith("# "), path
