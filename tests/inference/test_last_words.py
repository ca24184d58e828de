"""The last word of texts, by the command."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt2_lightning.__main__ import main
from gpt2_lightning.data.tokenizer import ByteLevelBPE
from gpt2_lightning.model.architecture import Architecture, build


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


def texts_in(tmp_path: Path, *texts: str) -> list[str]:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return ["--texts", "JSONFiles", "--texts.paths", str(path)]


def figures(tmp_path: Path, model: str, *texts: str) -> dict[str, Any]:
    output = tmp_path / "out.json"
    assert main(["last_words", model, *texts_in(tmp_path, *texts), "--output", str(output)]) == 0
    (found,) = json.loads(output.read_text())
    return found


def test_accuracy_and_its_interval_by_hand(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Two right of four, Wilson's interval 15 to 85 %; a word with only its first token right is not."""
    found = figures(tmp_path, model, "a o", "a text longer than the context is o\n", "a b", "a oo")
    assert (found["texts"], found["accuracy"]) == (4, 0.5)
    assert found["accuracy_95"] == pytest.approx([0.1500, 0.8500], abs=1e-4)
    assert f"| {model} | 50.00% (15.0% to 85.0%) |" in capsys.readouterr().out


def test_perplexity_is_of_the_word_alone(model: str, tmp_path: Path):
    assert figures(tmp_path, model, "a o", "who o")["word_perplexity"] == pytest.approx(2, rel=1e-5)
    two_tokens = 2 * (2 * 257)
    assert figures(tmp_path, model, "a oo")["word_perplexity"] == pytest.approx(two_tokens, rel=1e-4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("alone", "texts.jsonl:1: a text of at least two words"),
        ("人工智能", "texts.jsonl:1: a text of at least two words"),
        ("a " + "b" * 17, "texts.jsonl:1: its last word has 18 tokens, and the context 16"),
    ],
)
def test_texts_without_a_last_word_are_named(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
):
    with pytest.raises(SystemExit) as stop:
        main(["last_words", model, *texts_in(tmp_path, text)])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.parametrize("name", ["texts.jsonl", "nowhere.jsonl"])
def test_a_file_that_is_empty_or_not_there_is_named(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
):
    options = texts_in(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["last_words", model, *options[:-1], str(tmp_path / name)])
    assert stop.value.code == 2
    assert "error: --texts" in capsys.readouterr().err
