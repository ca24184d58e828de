"""Text from a model, by the commands."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from gpt2_lightning.__main__ import main
from gpt2_lightning.data.templates import CHAT_TEMPLATES
from gpt2_lightning.data.tokenizer import Bytes
from gpt2_lightning.inference.generate import conversation
from gpt2_lightning.inference.loading import load_model
from gpt2_lightning.model.architecture import Architecture, build
from gpt2_lightning.model.generation import prompt_ids
from gpt2_lightning.model.sampling import Sampling
from tests.conftest import continue_text


def output(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["generate", *options]) == 0
    return capsys.readouterr().out


def test_streamed_text_is_what_the_model_writes(run: Path, capsys: pytest.CaptureFixture[str]):
    from transformers import AutoModelForCausalLM

    printed = output(
        capsys, "--run", str(run), "--prompt", "the cat", "--seed", "3", "--max_new_tokens", "30"
    )
    model = AutoModelForCausalLM.from_pretrained(run / "export")
    tokenizer = AutoTokenizer.from_pretrained(run / "export")
    text = continue_text(model, tokenizer, "the cat", Sampling(seed=3, max_new_tokens=30))
    assert printed == f"the cat{text}\n"


def test_newest_run_is_the_default_and_seeds_matter(run: Path, capsys: pytest.CaptureFixture[str]):
    logs = str(run.parent.parent)
    texts = [output(capsys, "--logs", logs, "--prompt", "the", "--seed", seed) for seed in ("1", "1", "2")]
    assert texts[0] == texts[1] != texts[2]


def lines(printed: str) -> list[dict]:
    return [json.loads(line) for line in printed.splitlines()]


def test_a_file_of_prompts_becomes_json_lines(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Each text is the one that its prompt and seed give alone."""
    prompts = ["the cat", "人工智能", "the"]
    (tmp_path / "prompts.txt").write_text("\n".join(prompts))
    (tmp_path / "prompts.jsonl").write_text("\n".join(json.dumps({"prompt": each}) for each in prompts))
    common = ["--run", str(run), "--max_new_tokens", "90", "--num_samples", "2", "--batch_size", "4"]
    found = lines(output(capsys, *common, "--prompts", str(tmp_path / "prompts.txt")))
    file = tmp_path / "texts.jsonl"
    output(capsys, *common, "--prompts", str(tmp_path / "prompts.jsonl"), "--output", str(file))
    assert lines(file.read_text()) == found
    assert [(each["prompt"], each["seed"]) for each in found] == [(p, n) for p in prompts for n in (0, 1)]
    for each in found:
        options = ["--prompt", each["prompt"], "--seed", str(each["seed"]), "--max_new_tokens", "90"]
        assert each["prompt"] + each["text"] in output(capsys, "--run", str(run), *options)


def test_a_wrong_line_of_a_file_of_prompts_is_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "prompts.jsonl"
    for line, message in (
        ("{", "broken JSON"),
        ('{"text": "a"}', "no field 'prompt'"),
        ('{"prompt": "a\\ud800"}', "half of a surrogate pair"),
    ):
        path.write_text('{"prompt": "a"}\n' + line)
        with pytest.raises(SystemExit) as stop:
            main(["generate", "--run", str(run), "--prompts", str(path)])
        assert stop.value.code == 2
        error = capsys.readouterr().err
        assert f"{path}:2: " in error
        assert message in error


def test_prompts_of_other_editors(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A byte-order mark and \\r\\n are no part of a prompt; an empty line is an empty prompt."""
    (tmp_path / "prompts.txt").write_bytes("\ufeffthe cat\r\n\r\nthe\r\n".encode())
    (tmp_path / "prompts.jsonl").write_bytes('\ufeff{"prompt": "the cat"}\r\n'.encode())
    for name, prompts in (("prompts.txt", ["the cat", "", "the"]), ("prompts.jsonl", ["the cat"])):
        given = ["--prompts", str(tmp_path / name), "--max_new_tokens", "2"]
        found = lines(output(capsys, "--run", str(run), *given))
        assert [each["prompt"] for each in found] == prompts


def test_a_reader_that_has_had_enough_is_no_mistake(run: Path):
    command = [sys.executable, "-m", "gpt2_lightning", "generate", "--run", str(run), "--num_samples", "9"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_a_prompt_longer_than_the_context_is_read_to_its_end(run: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["generate", "--run", str(run), "--prompt", "the cat " * 90]) == 0
    assert "tokens: its last 64 are read" in capsys.readouterr().err


@pytest.mark.parametrize("template", [None, "alpaca", "chat"])
def test_a_conversation_keeps_the_template(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, template: Any
):
    tokenizer = AutoTokenizer.from_pretrained(run / "export")
    tokenizer.chat_template = CHAT_TEMPLATES[template] if template else None
    tokenizer.save_pretrained(run / "export")
    monkeypatch.setattr("sys.stdin", io.StringIO("the cat\n\nthe mat\n/new\nthe cat\n"))
    assert main(["chat", "--run", str(run), "--max_new_tokens", "20"]) == 0
    first, *answers = capsys.readouterr().out.split("\n")
    assert ("in its template" if template else "as plain text") in first
    model, _, _ = load_model(str(run), "--run")
    sampling = Sampling(max_new_tokens=20, stop=("\n\n### ", "\n### "))
    asked = [{"role": "user", "content": "the cat"}]
    answer = continue_text(model, tokenizer, conversation(tokenizer, asked), sampling)
    asked += [{"role": "assistant", "content": answer}, {"role": "user", "content": "the mat"}]
    second = continue_text(model, tokenizer, conversation(tokenizer, asked), sampling)
    assert "\n".join(answers) == f"{answer}\n{second}\n{answer}\n"


@pytest.fixture
def reciting(tmp_path: Path) -> Callable[[str, str, str], str]:
    """Makes a model that writes a text after a prompt, whatever is in it; with a chat template."""

    def make(prompt: str, text: str, template: str) -> str:
        tokenizer = Bytes().build([])
        tokenizer.chat_template = template
        ids = prompt_ids(tokenizer, prompt + text)
        shape = Architecture(n_layer=1, n_head=1, n_embd=len(tokenizer), n_positions=len(ids) + 1)
        model: Any = build(shape, len(tokenizer), 0)
        with torch.no_grad():
            for parameter in model.transformer.h.parameters():
                parameter.zero_()
            torch.nn.init.eye_(model.transformer.wte.weight).mul_(0.1)
            model.transformer.wpe.weight.zero_()
            model.transformer.wpe.weight[torch.arange(len(ids) - 1), torch.tensor(ids[1:])] = 1
        model.save_pretrained(tmp_path / "reciting")
        tokenizer.save_pretrained(tmp_path / "reciting")
        return str(tmp_path / "reciting")

    return make


@pytest.mark.parametrize(("template", "answer"), [("chat", "b."), ("alpaca", "b."), ("other", "b.\n\n### c")])
def test_an_answer_ends_before_the_next_message_of_its_own_template(
    reciting: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    template: Any,
    answer: str,
):
    """A heading in the answer of a model with another template is part of it."""
    own = CHAT_TEMPLATES.get(template, "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}")
    tokenizer = Bytes().build([])
    tokenizer.chat_template = own
    prompt = conversation(tokenizer, [{"role": "user", "content": "a?"}])
    model = reciting(prompt, "b.\n\n### c", own)
    monkeypatch.setattr("sys.stdin", io.StringIO("a?\n"))
    assert main(["chat", "--run", model, "--temperature", "0", "--max_new_tokens", "9"]) == 0
    assert capsys.readouterr().out.split("\n", 1)[1] == f"{answer}\n"


def test_a_template_that_refuses_is_named(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    tokenizer = AutoTokenizer.from_pretrained(run / "export")
    tokenizer.chat_template = "{{ raise_exception('no users') }}"
    tokenizer.save_pretrained(run / "export")
    monkeypatch.setattr("sys.stdin", io.StringIO("the cat\n"))
    with pytest.raises(SystemExit) as stop:
        main(["chat", "--run", str(run)])
    assert stop.value.code == 2
    assert "refuses the conversation: no users" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--top_p", "0"], "--top_p: 0 is out of range"),
        (["--temperature", "-1"], "--temperature: -1 is out of range"),
        (["--temprature", "1"], "--temprature: no such option; did you mean --temperature?"),
        (["--run", "./nowhere"], "--run './nowhere': no such folder"),
        (["--logs", "nowhere"], "no run below 'nowhere' has an export yet"),
        (["--repetition_penalty", "0"], "--repetition_penalty: 0 is out of range"),
        (["--prompts", "nowhere.txt"], "--prompts 'nowhere.txt': no such file"),
        (["--prompt", "a\udcff"], "--prompt 'a\\udcff': is not UTF-8"),
        (["--seed", str(2**63)], f"--seed: {2**63} is out of range"),
        (["--prompt", "a", "--prompts", "pyproject.toml"], "--prompt and --prompts exclude each other"),
    ],
)
def test_wrong_options_give_one_message_and_exit_code_2(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as stop:
        main(["generate", *options])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert len(error.splitlines()) == 1
