from pathlib import Path

import pytest
import torch

from gpt2_lightning.__main__ import main
from gpt2_lightning.data.tokenizer import ByteLevelBPE
from gpt2_lightning.model.architecture import Architecture, build
from gpt2_lightning.model.sampling import Sampling, continue_text


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


def output(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["sample", *options]) == 0
    return capsys.readouterr().out


def test_streamed_text_is_what_the_model_writes(run: Path, capsys: pytest.CaptureFixture[str]):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    printed = output(
        capsys, "--run", str(run), "--prompt", "the cat", "--seed", "3", "--max_new_tokens", "30"
    )
    model = AutoModelForCausalLM.from_pretrained(run / "export")
    tokenizer = AutoTokenizer.from_pretrained(run / "export")
    text = continue_text(model, tokenizer, "the cat", Sampling(seed=3, max_new_tokens=30))
    assert printed == f"[{run / 'export'}]\nthe cat{text}\n"


def test_newest_run_is_the_default_and_seeds_matter(run: Path, capsys: pytest.CaptureFixture[str]):
    logs = str(run.parent.parent)
    texts = [output(capsys, "--logs", logs, "--prompt", "the", "--seed", seed) for seed in ("1", "1", "2")]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--top_p", "0"], "--top_p: 0 is out of range"),
        (["--temperature", "-1"], "--temperature: -1 is out of range"),
        (["--temprature", "1"], "--temprature: no such option; did you mean --temperature?"),
        (["--run", "./nowhere"], "--run './nowhere': no such folder"),
        (["--logs", "nowhere"], "no run below 'nowhere' has an export yet"),
    ],
)
def test_wrong_options_give_one_message_and_exit_code_2(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as stop:
        main(["sample", *options])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert len(error.splitlines()) == 1
