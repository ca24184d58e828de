import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gpt2_lightning.callbacks.samples import SampleGenerator
from gpt2_lightning.model.sampling import Sampling
from gpt2_lightning.runs.loggers import TensorBoard
from tests.conftest import tiny_module

SAMPLING = Sampling(max_new_tokens=8)


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_line_per_prompt_every_n_optimizer_steps(
    train: Callable[..., Trainer], tmp_path: Path, accumulate: int
):
    callback = SampleGenerator(every_n_steps=2, prompts=["", "人工智能的未来是"], sampling=SAMPLING)
    train([callback], max_steps=5, accumulate_grad_batches=accumulate, limit_val_batches=0)
    found = lines(tmp_path)
    assert [(line["step"], line["prompt"]) for line in found] == [
        (step, prompt) for step in (2, 4) for prompt in ("", "人工智能的未来是")
    ]
    assert all(isinstance(line["text"], str) for line in found)


def test_texts_are_in_tensorboard(train: Callable[..., Trainer], tmp_path: Path):
    callback = SampleGenerator(every_n_steps=2, prompts=["The "], sampling=SAMPLING)
    train([callback], logger=TensorBoard(str(tmp_path)), limit_val_batches=0)
    events = EventAccumulator(str(tmp_path)).Reload()
    recorded = events.Tensors("samples/0/text_summary")
    assert [event.step for event in recorded] == [2, 4]
    text = recorded[0].tensor_proto.string_val[0].decode()
    assert "".join(text.split()) == "".join(("The " + lines(tmp_path)[0]["text"]).split())


def test_training_is_bit_for_bit_the_same_without_it(train: Callable[..., Trainer]):
    weights = []
    for every_n_steps in (0, 1):
        module = tiny_module(dropout=0.2)
        train([SampleGenerator(every_n_steps, sampling=SAMPLING)], module=module, limit_val_batches=0)
        weights.append([parameter.detach().clone() for parameter in module.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_zero_turns_it_off(train: Callable[..., Trainer], tmp_path: Path):
    train([SampleGenerator(every_n_steps=0)], limit_val_batches=0)
    assert not (tmp_path / "samples.jsonl").exists()
