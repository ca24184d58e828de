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
from gpt2_lightning.data.tokenizer import ByteLevelBPE, Bytes, end_of_text_id
from gpt2_lightning.errors import InputError
from gpt2_lightning.inference.evaluate import Reading
from gpt2_lightning.inference.evaluate import evaluate as evaluated
from gpt2_lightning.inference.held_out import HeldOut, documents_of
from gpt2_lightning.inference.loading import load_model
from gpt2_lightning.model.architecture import Architecture, build
from gpt2_lightning.model.generation import prompt_ids
from gpt2_lightning.model.scoring import Window
from tests.conftest import ASSETS
from tests.data.sources.reading import jsonl


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
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    config = yaml.safe_load((trained / "config.yaml").read_text())
    block = str(config["data"]["block_size"])
    (found,) = evaluate(capsys, tmp_path, str(trained), "--block_size", block, "--stride", block)
    summary = json.loads((trained / "summary.json").read_text())
    for name in ("nll", "perplexity", "bits_per_byte", "bits_per_character"):
        assert found[name] == pytest.approx(summary[f"val_{name}"], rel=1e-5)


def test_several_models_give_a_table_each_in_its_own_tokens(
    trained: Path, other: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    data = data_file(tmp_path)
    output = str(tmp_path / "out.json")
    assert main(["evaluate", str(trained), other, "--data", data, "--output", output]) == 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [line.split(" | ")[0] for line in table[2:]] == [f"| {trained}", f"| {other}"]
    found = json.loads((tmp_path / "out.json").read_text())
    assert found[0]["targets"] != found[1]["targets"]
    for one in found:
        assert one["perplexity"] == pytest.approx(math.exp(one["nll"]))
        assert one["block_size"] == found[0]["block_size"]
    bits = [one["nll"] * one["targets"] / one["bits_per_byte"] for one in found]
    assert bits[0] == pytest.approx(bits[1]), "per byte of the same text"
    assert f"{found[0]['nll']:.4f}" in table[2]


def test_each_source_of_a_mixture_has_its_line_and_seen_text_is_counted(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    texts = tmp_path / "texts"
    shutil.copytree(ASSETS, texts)
    sources = [{"class_path": "TextFiles", "init_args": {"paths": [str(path)]}} for path in (ASSETS, texts)]
    mixture = {"class_path": "Mixture", "init_args": {"sources": sources}}
    data = data_file(tmp_path, source=mixture)
    found = evaluate(capsys, tmp_path, str(trained), "--data", data, "--split", "train", "--seen", "true")[0]
    assert list(found["sources"]) == ["sources[0] TextFiles", "sources[1] TextFiles"]
    one, other = found["sources"].values()
    assert found["targets"] == one["targets"] + other["targets"]
    assert one["nll"] == pytest.approx(other["nll"], rel=1e-5), "the same text twice"
    assert one["seen_documents"] == one["documents"], "the training split of the run"
    assert found["seen_documents"] == found["documents"]
    assert evaluate(capsys, tmp_path, str(trained), "--data", data)[0]["seen_documents"] is None


def test_prompts_do_not_count_and_documents_stand_apart(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    records = [{"prompt": f"What is {n}?", "response": f"It is {n}."} for n in range(40)]
    path = tmp_path / "records.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    source = {"class_path": "JSONFiles", "init_args": {"paths": [str(path)], "template": "prompt_response"}}
    data = data_file(tmp_path, source=source)
    found = evaluate(capsys, tmp_path, str(trained), "--data", data)[0]
    assert found["documents_apart"] is True
    model, tokenizer, _ = load_model(str(trained), "models")
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
    alone = evaluate(capsys, tmp_path, str(trained), "--data", data, "--documents_apart", "false")[0]
    assert alone["targets"] == found["targets"]
    assert alone["nll"] != found["nll"]


def test_half_precision_is_close_and_not_the_same(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    exact, half = (
        evaluate(capsys, tmp_path, str(trained), "--precision", p)[0]["nll"]
        for p in ("32-true", "bf16-mixed")
    )
    assert half != exact
    assert half == pytest.approx(exact, rel=1e-3)


def test_documents_end_at_end_of_text_where_token_files_have_no_index(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    _, tokenizer, _ = load_model(str(trained), "models")
    ids = [*prompt_ids(tokenizer, "One text."), end_of_text_id(tokenizer)] * 3
    np.array(ids, dtype="<u2").tofile(tmp_path / "val.bin")
    files = {"class_path": "TokenFiles", "init_args": {"paths": [str(tmp_path / "val.bin")]}}
    tokenizer = {"class_path": "Pretrained", "init_args": {"path": str(trained / "export")}}
    data = data_file(tmp_path, source=files, validation=files, tokenizer=tokenizer)
    common = ["--data", data, "--folder", str(tmp_path / "stores"), "--documents_apart", "true"]
    (found,) = evaluate(capsys, tmp_path, str(trained), *common)
    assert found["targets"] == len(ids)
    assert found["nll_95"] == pytest.approx(0, abs=1e-6), "three times the same"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((4096, None), "--block_size 4096: the context of a model is 64 tokens"),
        ((16, 17), "--stride 17: is more than --block_size 16"),
    ],
)
def test_windows_that_cannot_be_are_refused(options: tuple[Any, Any], said: str):
    with pytest.raises(InputError, match=said):
        Reading.of(64, *options, apart=False)
    assert Reading.of(64, None, None, apart=True) == Reading(64, 32, True)


def test_windows_over_documents_apart_are_in_the_order_of_their_length():
    counts = SplitCounts(2, tokens=5, targets=5, utf8_bytes=5, characters=5)
    part = HeldOut("a", np.arange(5), np.array([3, 5]), None, counts, words=None)
    assert Reading(4, 4, True).windows(part) == [Window(3, 5, 2), Window(0, 3, 3)]
    assert Reading(4, 4, False).windows(part) == [Window(0, 4, 4), Window(4, 5, 1)]
    with pytest.raises(InputError, match="these token files do not say where documents end"):
        Reading(4, 4, True).windows(HeldOut("a", np.arange(5), None, None, counts, words=None))


def test_what_is_refused(
    trained: Path, base: str, other: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert "--data: give the corpus" in refusal(capsys, base)
    assert "--output '/nowhere/x': cannot be written" in refusal(
        capsys, str(trained), "--output", "/nowhere/x"
    )
    assert "models './nowhere': no such folder" in refusal(capsys, "./nowhere", "--data", data_file(tmp_path))
    tokens = tmp_path / "val.bin"
    np.arange(50, dtype="<u2").tofile(tokens)
    files = {"class_path": "TokenFiles", "init_args": {"paths": [str(tokens)]}}
    tokenizer = {"class_path": "Pretrained", "init_args": {"path": base}}
    in_place = data_file(tmp_path, source=files, validation=files, tokenizer=tokenizer)
    folder = ["--folder", str(tmp_path / "stores")]
    evaluate(capsys, tmp_path, base, "--data", in_place, *folder)
    assert "these ids are of a tokenizer with" in refusal(capsys, other, "--data", in_place, *folder)
    assert "--last_words true: is of text" in refusal(
        capsys, base, "--data", in_place, "--last_words", "true"
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model to which " o" has probability 1/2, whatever comes before, and all else equal parts."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = ByteLevelBPE(258).build(["a o o o o o o"])
    (o,) = tokenizer.encode(" o")
    gpt2: Any = build(Architecture(n_layer=1, n_head=1, n_embd=16, n_positions=16), len(tokenizer), 0)
    with torch.no_grad():
        gpt2.transformer.wte.weight.zero_()
        gpt2.transformer.wte.weight[o, 0] = 1
        gpt2.transformer.ln_f.weight.zero_()
        gpt2.transformer.ln_f.bias[0] = math.log(len(tokenizer) - 1)
    gpt2.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def on_texts(tmp_path: Path, model: str, *texts: str) -> dict[str, Any]:
    """The figures of a model on the last words of some texts."""
    data = Corpus(JSONFiles(str(jsonl(tmp_path / "texts.jsonl", *({"text": text} for text in texts)))))
    (found,) = evaluated([model], data, split="all", last_words=True)
    return found


def test_last_words_are_right_where_each_of_their_tokens_is_the_likeliest(model: str, tmp_path: Path):
    texts = ["a o", "a text longer than the context is o\n", "a b", "a oo"]
    assert on_texts(tmp_path, model, *texts)["last_word_accuracy"] == 0.5


def test_the_perplexity_of_last_words_is_of_the_word_alone(model: str, tmp_path: Path):
    assert on_texts(tmp_path, model, "a o", "who o")["last_word_perplexity"] == pytest.approx(2, rel=1e-5)
    two_tokens = 2 * (2 * 257)
    assert on_texts(tmp_path, model, "a oo")["last_word_perplexity"] == pytest.approx(two_tokens, rel=1e-4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("alone", "texts.jsonl:1: a text of at least two words"),
        ("人工智能", "texts.jsonl:1: a text of at least two words"),
        ("a " + "b" * 17, "texts.jsonl:1: its last word has 18 tokens, and the context 16"),
    ],
)
def test_texts_without_a_last_word_are_named(model: str, tmp_path: Path, text: str, said: str):
    with pytest.raises(InputError, match=said):
        on_texts(tmp_path, model, text)
