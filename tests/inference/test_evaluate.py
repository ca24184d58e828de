"""Models measured on text, by the command."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from gpt2_lightning.__main__ import main
from gpt2_lightning.data.corpus import Corpus
from gpt2_lightning.data.sources import JSONFiles
from gpt2_lightning.data.token_store import SplitCounts
from gpt2_lightning.data.tokenizer import Bytes, end_of_text_id
from gpt2_lightning.inference.evaluate import figures
from gpt2_lightning.inference.held_out import HeldOut, documents_of
from gpt2_lightning.inference.loading import load_model
from gpt2_lightning.inference.trained_on import corpus_of, corpus_options
from gpt2_lightning.model.generation import prompt_ids
from tests.conftest import ASSETS
from tests.test_configs import TEXT, TOY, options, run_folder
from tests.test_configs import main as train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run, whose validation is known."""
    folder = tmp_path_factory.mktemp("run")
    quiet = ["--histograms.every_n_steps=0", "--samples.every_n_steps=0", "--trainer.precision=32-true"]
    assert train(*options(folder), *TEXT, *TOY, *quiet, "--trainer.max_steps=4") == 0
    return run_folder(folder)


@pytest.fixture
def other(base: str, tmp_path: Path) -> str:
    """A model that reads bytes."""
    folder = tmp_path / "bytes"
    shutil.copytree(base, folder)
    (folder / "SHA256SUMS").unlink()
    Bytes().build([]).save_pretrained(folder)
    return str(folder)


def evaluate(capsys: pytest.CaptureFixture[str], tmp_path: Path, *arguments: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["evaluate", *arguments, "--output", str(tmp_path / "out.json")]) == 0
    return json.loads((tmp_path / "out.json").read_text())


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", *arguments])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def data_file(tmp_path: Path, **fields: Any) -> str:
    source = {"class_path": "TextFiles", "init_args": {"paths": [str(ASSETS)]}}
    path = tmp_path / "data.yaml"
    path.write_text(yaml.safe_dump({"source": source, "validation_fraction": 0.3} | fields))
    return str(path)


def test_blocks_side_by_side_give_the_numbers_of_the_run(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    config = yaml.safe_load((run / "config.yaml").read_text())
    block = str(config["data"]["block_size"])
    (found,) = evaluate(capsys, tmp_path, str(run), "--block_size", block, "--stride", block)
    summary = json.loads((run / "summary.json").read_text())
    for name in ("nll", "perplexity", "bits_per_byte", "bits_per_character"):
        assert found[name] == pytest.approx(summary[f"val_{name}"], rel=1e-5)


def test_several_models_give_a_table_each_in_its_own_tokens(
    run: Path, other: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    data = data_file(tmp_path)
    output = str(tmp_path / "out.json")
    assert main(["evaluate", str(run), other, "--data", data, "--output", output]) == 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [line.split(" | ")[0] for line in table[2:]] == [f"| {run}", f"| {other}"]
    found = json.loads((tmp_path / "out.json").read_text())
    assert found[0]["targets"] != found[1]["targets"]
    for one in found:
        assert one["perplexity"] == pytest.approx(math.exp(one["nll"]))
        assert one["block_size"] == found[0]["block_size"]
    bits = [one["nll"] * one["targets"] / one["bits_per_byte"] for one in found]
    assert bits[0] == pytest.approx(bits[1]), "per byte of the same text"
    assert f"{found[0]['nll']:.4f}" in table[2]


def test_each_source_of_a_mixture_has_its_line_and_seen_text_is_counted(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    texts = tmp_path / "texts"
    shutil.copytree(ASSETS, texts)
    sources = [{"class_path": "TextFiles", "init_args": {"paths": [str(path)]}} for path in (ASSETS, texts)]
    mixture = {"class_path": "Mixture", "init_args": {"sources": sources}}
    found = evaluate(capsys, tmp_path, str(run), "--data", data_file(tmp_path, source=mixture))[0]
    assert list(found["sources"]) == ["sources[0] TextFiles", "sources[1] TextFiles"]
    one, other = found["sources"].values()
    assert found["targets"] == one["targets"] + other["targets"]
    assert one["nll"] == pytest.approx(other["nll"], rel=1e-5), "the same text twice"
    corpus = corpus_of(str(run))
    assert corpus
    trained_on, validated_on = (next(documents_of(corpus, split)) for split in ("train", "validation"))
    new = tmp_path / "new.txt"
    new.write_text("Nobody has seen this.")
    for paths, seen in (([trained_on.origin], 1), ([validated_on.origin, str(new)], 0), ([str(new)], 0)):
        held_out = {"class_path": "TextFiles", "init_args": {"paths": paths}}
        data = data_file(tmp_path, validation=held_out)
        found = evaluate(capsys, tmp_path, str(run), "--data", data)[0]
        assert (found["documents"], found["seen_documents"]) == (len(paths), seen)
    assert found["nll_95"] is None, "nothing is known of how documents differ from one"
    assert (
        evaluate(capsys, tmp_path, str(run), "--data", data, "--seen", "false")[0]["seen_documents"] is None
    )
    mixture = data_file(tmp_path, validation=mixture)
    found = evaluate(capsys, tmp_path, str(run), "--data", mixture)[0]
    assert list(found["sources"]) == ["sources[0] TextFiles", "sources[1] TextFiles"]


def test_prompts_do_not_count_and_documents_stand_apart(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    records = [{"prompt": f"What is {n}?", "response": f"It is {n}."} for n in range(40)]
    path = tmp_path / "records.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    source = {"class_path": "JSONFiles", "init_args": {"paths": [str(path)], "template": "prompt_response"}}
    data = data_file(tmp_path, source=source)
    found = evaluate(capsys, tmp_path, str(run), "--data", data)[0]
    assert found["documents_apart"] is True
    model, tokenizer, _ = load_model(str(run), "models")
    corpus = Corpus(JSONFiles(str(path), template="prompt_response"), validation_fraction=0.3)
    total = targets = 0
    for document in documents_of(corpus, "validation"):
        before, answer = (prompt_ids(tokenizer, piece.text) for piece in document.pieces)
        ids = [end_of_text_id(tokenizer), *before, *answer, end_of_text_id(tokenizer)]
        with torch.no_grad():
            logits = model(torch.tensor([ids[:-1]])).logits[0, -len(answer) - 1 :]
        total += torch.nn.functional.cross_entropy(
            logits, torch.tensor(ids[-len(answer) - 1 :]), reduction="sum"
        )
        targets += len(answer) + 1
    assert found["targets"] == targets
    assert found["nll"] == pytest.approx(float(total) / targets, rel=1e-5)
    assert found["tokens_per_word"] == targets / (3 * found["documents"]), "It is n."
    alone = evaluate(capsys, tmp_path, str(run), "--data", data, "--documents_apart", "false")[0]
    assert alone["targets"] == found["targets"]
    assert alone["nll"] != found["nll"]


def test_half_precision_is_close_and_not_the_same(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    exact, half = (
        evaluate(capsys, tmp_path, str(run), "--precision", p)[0]["nll"] for p in ("32-true", "bf16-mixed")
    )
    assert half != exact
    assert half == pytest.approx(exact, rel=1e-3)


def test_the_perplexity_of_a_word_is_left_out_where_it_is_past_all_numbers():
    """Chinese has no white space: the whole text is one word."""
    counts = SplitCounts(documents=1, tokens=4, targets=4, utf8_bytes=8, characters=8)
    part = HeldOut("a", np.arange(4), np.array([4]), None, counts, words=1)
    assert figures([part], [np.full(4, 200.0, dtype=np.float32)])["word_perplexity"] is None


def test_documents_end_at_end_of_text_where_token_files_have_no_index(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    _, tokenizer, _ = load_model(str(run), "models")
    ids = [*prompt_ids(tokenizer, "One text."), end_of_text_id(tokenizer)] * 3
    np.array(ids, dtype="<u2").tofile(tmp_path / "val.bin")
    files = {"class_path": "TokenFiles", "init_args": {"paths": [str(tmp_path / "val.bin")]}}
    tokenizer = {"class_path": "Pretrained", "init_args": {"path": str(run / "export")}}
    data = data_file(tmp_path, source=files, validation=files, tokenizer=tokenizer)
    common = ["--data", data, "--folder", str(tmp_path / "stores"), "--documents_apart", "true"]
    (found,) = evaluate(capsys, tmp_path, str(run), *common)
    assert found["targets"] == len(ids)
    assert found["nll_95"] == pytest.approx(0, abs=1e-6), "three times the same"


def test_the_corpus_is_that_of_the_run_of_an_export_too(run: Path):
    options = corpus_options(str(run))
    assert options
    assert corpus_options(str(run / "export")) == corpus_options(str(run.parent / "latest")) == options


def test_the_confidence_interval_by_hand():
    """Two documents of two tokens, of a mean NLL of 1 and 3: the mean is 2, its standard error 1."""
    counts = SplitCounts(documents=2, tokens=4, targets=4, utf8_bytes=8, characters=8)
    part = HeldOut("a", np.arange(4), np.array([2, 4]), None, counts, words=2)
    found = figures([part], [np.array([0.5, 1.5, 2.0, 4.0], dtype=np.float32)])
    assert found["nll"] == 2.0
    assert found["nll_95"] == pytest.approx(1.96)
    assert found["bits_per_byte"] == pytest.approx(8 / math.log(2) / 8)
    assert found["tokens_per_word"] == 2.0
    assert found["word_perplexity"] == pytest.approx(math.exp(4.0))


def test_what_is_refused(
    run: Path, base: str, other: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    data = data_file(tmp_path)
    assert "--data: give the corpus" in refusal(capsys, base)
    assert "--output '/nowhere/x': cannot be written" in refusal(capsys, str(run), "--output", "/nowhere/x")
    unanswered = tmp_path / "unanswered.jsonl"
    unanswered.write_text('{"prompt": "What?", "response": ""}\n' * 2)
    prompts = {"class_path": "JSONFiles", "init_args": {"paths": str(unanswered), "field": "response"}}
    no_text = data_file(tmp_path, validation=prompts)
    assert "--split validation: no document is in it that counts" in refusal(
        capsys, str(run), "--data", no_text
    )
    assert "models './nowhere': no such folder" in refusal(capsys, "./nowhere", "--data", data)
    assert "--stride 17: is more than --block_size 16" in refusal(
        capsys, str(run), "--block_size", "16", "--stride", "17"
    )
    assert "--block_size 4096: the context of a model is" in refusal(capsys, str(run), "--block_size", "4096")
    assert "--split test: there is none" in refusal(capsys, str(run), "--split", "test")
    tokens = tmp_path / "val.bin"
    np.arange(50, dtype="<u2").tofile(tokens)
    files = {"class_path": "TokenFiles", "init_args": {"paths": [str(tokens)]}}
    tokenizer = {"class_path": "Pretrained", "init_args": {"path": base}}
    in_place = data_file(tmp_path, source=files, validation=files, tokenizer=tokenizer)
    folder = ["--folder", str(tmp_path / "stores")]
    evaluate(capsys, tmp_path, base, "--data", in_place, *folder)
    assert "these ids are of a tokenizer with" in refusal(capsys, other, "--data", in_place, *folder)


def test_the_export_has_a_card_of_its_run(run: Path):
    card = (run / "export" / "README.md").read_text()
    header, text = yaml.safe_load(card.split("---")[1]), card.split("---", 2)[2]
    assert (header["library_name"], header["pipeline_tag"]) == ("transformers", "text-generation")
    summary = json.loads((run / "summary.json").read_text())
    for fact in (
        run.name,
        f"{summary['val_nll']:.4f}",
        "TextFiles `assets`",
        "4 optimizer steps",
        "MuonAdamW",
    ):
        assert fact in text
    assert "base_model" not in header
    assert "README.md" in (run / "export" / "SHA256SUMS").read_text()
