import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gpt2_lightning.callbacks.checkpoints import Checkpoints
from gpt2_lightning.callbacks.progress import Progress
from gpt2_lightning.callbacks.samples import SampleGenerator, _in_width, openings
from gpt2_lightning.callbacks.throughput import Throughput
from gpt2_lightning.data.corpus import Corpus
from gpt2_lightning.data.datamodule import TextDataModule
from gpt2_lightning.data.sources import JSONFiles, TextFiles
from gpt2_lightning.data.tokenizer import ByteLevelBPE, Bytes
from gpt2_lightning.files.lines import ignore
from gpt2_lightning.model.sampling import Sampling
from gpt2_lightning.runs.loggers import MetricsCSV, TensorBoard
from tests.callbacks.test_media import shown
from tests.conftest import ASSETS, read_metrics, tiny_module
from tests.data.test_datamodule import ready

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
    assert shown(text) == ("The " + lines(tmp_path)[0]["text"]).rstrip()


def test_figures_of_diversity_are_beside_the_texts_and_their_means_are_metrics(
    train: Callable[..., Trainer], tmp_path: Path
):
    callback = SampleGenerator(every_n_steps=4, prompts=("", "The "), sampling=SAMPLING)
    train([callback], logger=MetricsCSV(str(tmp_path)), limit_val_batches=0)
    row = read_metrics(tmp_path)[-1]
    for name in ("distinct_2", "repeated_4"):
        figures = [line[name] for line in lines(tmp_path)]
        assert all(0 <= figure <= 1 for figure in figures)
        assert float(row[f"samples/{name}"]) == pytest.approx(sum(figures) / 2)


def test_a_resumed_run_takes_back_the_samples_past_its_checkpoint(
    train: Callable[..., Trainer], tmp_path: Path
):
    for resumed, more in (
        (False, '{"step": 6, "text": "of a step that was lost"}\n{"step": 8, "te'),
        (True, ""),
    ):
        callback = SampleGenerator(every_n_steps=2, prompts=("",), sampling=SAMPLING)
        ckpt_path = tmp_path / "checkpoints" / "last.ckpt" if resumed else None
        steps = 6 if resumed else 4
        train([callback, Checkpoints()], max_steps=steps, limit_val_batches=0, ckpt_path=ckpt_path)
        with (tmp_path / "samples.jsonl").open("a") as file:
            file.write(more)
    assert [line["step"] for line in lines(tmp_path)] == [2, 4, 6]
    assert "lost" not in lines(tmp_path)[-1]["text"]


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


def test_prompts_are_the_first_words_of_held_out_documents(
    train: Callable[..., Trainer], tmp_path: Path, datamodule: Callable[..., TextDataModule]
):
    train([SampleGenerator(every_n_steps=2, sampling=SAMPLING)], max_steps=2, limit_val_batches=0)
    prompts = [line["prompt"] for line in lines(tmp_path)]
    assert len(prompts) == 2
    held_out = [d.text for split, d in datamodule().corpus.documents(ignore) if split == "validation"]
    for prompt, text in zip(prompts, held_out, strict=False):
        assert " ".join(text.split()).startswith(prompt)
        assert 3 <= len(prompt) <= 20
    assert prompts == list(openings(ready(datamodule(corpus=Corpus(TextFiles([str(ASSETS)]), Bytes(), 0.3)))))


def test_prompts_of_chinese_and_of_instruction_records(
    tmp_path: Path, datamodule: Callable[..., TextDataModule]
):
    story = "话说天下大势，分久必合，合久必分。周末七国分争，并入于秦。"
    (tmp_path / "a.txt").write_text("\n\n".join(f"{n}{story}" for n in range(30)))
    chinese = Corpus(TextFiles(str(tmp_path / "a.txt"), separator=""), ByteLevelBPE(300), 0.3)
    for prompt in openings(ready(datamodule(corpus=chinese))):
        assert len(prompt) == 20
        assert prompt.lstrip("0123456789") in story, "whole characters"
    records = [{"prompt": f"What is {n}?", "response": f"It is {n}."} for n in range(40)]
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, records)))
    source = JSONFiles(str(tmp_path / "b.jsonl"), template="prompt_response")
    for prompt in openings(ready(datamodule(corpus=Corpus(source, ByteLevelBPE(300), 0.3)))):
        assert "What is" in prompt
        assert "It is" not in prompt


def test_samples_are_shown_in_the_terminal_a_line_each(
    train: Callable[..., Trainer], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "40")
    for show in (True, False):
        callback = SampleGenerator(every_n_steps=4, prompts=["The "], sampling=SAMPLING, show=show)
        bar = Progress(Throughput())
        train([callback, bar._throughput, bar], limit_val_batches=0, enable_progress_bar=True)
        shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step 4: The | ")]
        assert len(shown) == show
        assert all(len(line) < 40 for line in shown)


def test_a_line_fits_its_columns():
    assert _in_width("short\n text", 20) == "short text"
    assert _in_width("a" * 30, 20) == "a" * 17 + "..."
    assert _in_width("人" * 30, 20) == "人" * 8 + "...", "two columns each"
