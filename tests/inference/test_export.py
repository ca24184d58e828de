"""Exports in the hands of the tools that people serve models with."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gpt2_lightning.inference.generate import conversation
from gpt2_lightning.inference.loading import load_model
from gpt2_lightning.model.sampling import Sampling
from tests.conftest import ROOT, continue_text
from tests.test_configs import TOY, options, run_folder
from tests.test_configs import main as train

_INSTRUCTIONS = ["--data.corpus", str(ROOT / "configs/data/examples_instructions.yaml")]
_INSTRUCTIONS += ["--data.corpus.tokenizer=ByteLevelBPE", "--data.corpus.tokenizer.vocab_size=300"]
_ROOM = ["--model.architecture.n_positions=64", "--data.block_size=64"]
_GREEDY = Sampling(temperature=0, max_new_tokens=12, stop=())


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run that was tuned through a template."""
    folder = tmp_path_factory.mktemp("run")
    assert train(*options(folder), *_INSTRUCTIONS, *TOY, *_ROOM, "--trainer.max_steps=4") == 0
    return run_folder(folder) / "export"


def test_settings_are_those_that_other_tools_read(export: Path):
    config, generation, tokenizer = (
        json.loads((export / name).read_text())
        for name in ("config.json", "generation_config.json", "tokenizer_config.json")
    )
    assert config["n_ctx"] == config["n_positions"]  # what llama.cpp's converter asks for
    assert config["use_cache"] is generation["use_cache"] is True
    assert (
        tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"
    )  # transformers 4 has no TokenizersBackend
    assert tokenizer["model_input_names"] == ["input_ids", "attention_mask"]
    assert AutoTokenizer.from_pretrained(export).chat_template


@pytest.fixture
def server(export: Path, tmp_path: Path) -> Iterator[str]:
    """The address of `transformers serve` on loopback."""
    for name in ("fastapi", "uvicorn", "openai"):
        pytest.importorskip(name, reason='needs pip install "transformers[serving]"')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).with_name("transformers"), "serve", str(export)]
    with (tmp_path / "log").open("w") as log, subprocess.Popen(
        [*map(str, command), "--host", "127.0.0.1", "--port", str(port)],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        stdout=log, stderr=log,
    ) as process:  # fmt: skip
        address = f"http://127.0.0.1:{port}"
        try:
            for _ in range(240):
                assert process.poll() is None, (tmp_path / "log").read_text()
                try:
                    urlopen(f"{address}/health").close()
                    break
                except OSError:
                    time.sleep(0.5)
            yield address
        finally:
            process.terminate()


def ask(address: str, **request: Any) -> dict[str, Any]:
    body = json.dumps({"max_tokens": _GREEDY.max_new_tokens, "temperature": 0} | request).encode()
    with urlopen(Request(address, body, {"Content-Type": "application/json"})) as answer:
        return json.load(answer)["choices"][0]


@pytest.mark.slow
def test_transformers_serve_answers_as_the_command_does(export: Path, server: str):
    model, tokenizer, _ = load_model(str(export), "--run")
    completed = ask(f"{server}/v1/completions", model=str(export), prompt="What is")
    assert completed["text"] == continue_text(model, tokenizer, "What is", _GREEDY)
    messages = [{"role": "user", "content": "What is a tuple?"}]
    answered = ask(f"{server}/v1/chat/completions", model=str(export), messages=messages)
    expected = continue_text(model, tokenizer, conversation(tokenizer, messages), _GREEDY)
    assert answered["message"]["content"] == expected


def test_generate_samples_as_the_course_does_and_its_caller_gives_the_length(base: str):
    model = AutoModelForCausalLM.from_pretrained(base)
    generation = model.generation_config
    chosen = (generation.do_sample, generation.temperature, generation.top_k, generation.top_p)
    assert chosen == (True, 0.7, 50, 0.9)
    ids = torch.tensor([[5, 6, 7]])
    free = {"eos_token_id": None, "pad_token_id": 0}
    assert model.generate(ids, max_length=20, **free).shape[1] == 20
    assert model.generate(ids, max_new_tokens=5, **free).shape[1] == 8
    assert model.generate(ids, **free).shape[1] == 64, "to the end of the context, not past it"
