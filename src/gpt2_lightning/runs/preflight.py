"""What a run would do, short of training."""

import math
from itertools import groupby

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from gpt2_lightning.data.datamodule import TextDataModule
from gpt2_lightning.data.packing import IGNORED, DocumentRows
from gpt2_lightning.data.tokenizer import end_of_text_id
from gpt2_lightning.model.adaptation import freeze
from gpt2_lightning.model.architecture import build, count_parameters
from gpt2_lightning.model.module import GPT2Module
from gpt2_lightning.run_length import total_steps

_SHOWN_CHARS = 300


def report(trainer: Trainer, model: GPT2Module, data: TextDataModule) -> str:
    """Counts of the corpus, the arithmetic of the run, and the first row as the model gets it."""
    total, trainable = _parameters(model, data)
    rows = data.rows_of("train")
    loader = data.train_dataloader()
    batch = next(iter(loader))
    rows_per_step = data.micro_batch_size * trainer.accumulate_grad_batches * trainer.world_size
    steps = total_steps(trainer, len(loader))
    length = (
        f"{steps:,} steps, {steps * rows_per_step:,} rows, {steps * rows_per_step / len(rows):.2f} epochs"
    )
    lines = [
        *counts(data),
        "",
        f"model    {total:,} parameters, {trainable:,} train; context {model.config(data).n_positions}",
        f"rows     {len(rows):,} of at most {data.block_size} tokens ({data.rows})" + _cut(rows),
        f"step     {data.micro_batch_size} rows x {trainer.accumulate_grad_batches} micro-batches x "
        f"{trainer.world_size} devices = {rows_per_step} rows",
        f"run      {length if math.isfinite(steps) else 'until --trainer.max_time is over'}",
        "",
        f"first batch: {', '.join(f'{name} {tuple(value.shape)}' for name, value in batch.items())}",
        "its first row:",
        *_show({name: value[0] for name, value in batch.items()}, data.tokenizer),
    ]
    return "\n".join(lines)


def _parameters(model: GPT2Module, data: TextDataModule) -> tuple[int, int]:
    """Number in all and of those that train; weights from scratch take no memory for it."""
    if model.recipe.pretrained is not None:
        model.configure_model()
        return count_parameters(model.model)
    with torch.device("meta"):
        gpt2 = build(model.recipe.architecture, len(data.tokenizer), end_of_text_id(data.tokenizer))
    freeze(gpt2, model.recipe.trainable)
    return count_parameters(gpt2)


def counts(data: TextDataModule) -> list[str]:
    """A table of the splits."""
    header = f"{'split':<12}{'documents':>12}{'tokens':>16}{'learned':>16}{'bytes':>16}{'characters':>16}"
    lines = [f"corpus   {data.corpus.name}, {len(data.tokenizer):,} entries in the vocabulary", header]
    for split, split_counts in data.store.splits.items():
        numbers = [
            split_counts.tokens,
            split_counts.targets,
            split_counts.utf8_bytes,
            split_counts.characters,
        ]
        cells = "".join(f"{'?' if number is None else format(number, ','):>16}" for number in numbers)
        documents = "?" if split_counts.documents is None else format(split_counts.documents, ",")
        lines.append(f"{split:<12}{documents:>12}{cells}")
    if rejected := data.store.rejected:
        lines.append(f"{rejected:,} records were left out; they are in the store's quarantine.jsonl")
    return lines


def _cut(rows: object) -> str:
    if isinstance(rows, DocumentRows) and rows.truncated:
        return f"; {rows.truncated:,} documents are cut after {rows.block_size} tokens"
    return ""


def _show(row: dict[str, Tensor], tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """The row's stretches: which document, whether it is learned, and its text."""
    inputs, targets = row["input_ids"], row["targets"]
    tokens = torch.cat([inputs[1:], targets[-1:]])  # what stands at each target's place, learned or not
    starts = row["position_ids"] == 0 if "position_ids" in row else inputs == end_of_text_id(tokenizer)
    document = (starts.cumsum(0) - starts[0].int() + 1).tolist()
    learned = (targets != IGNORED).tolist()
    lines, position = [], 0
    for (number, counted), group in groupby(zip(document, learned, strict=True)):
        length = len(list(group))
        if (
            not counted
            and position + length == len(learned)
            and length > 1
            and len(set(tokens[position:].tolist()) - {IGNORED}) == 1
        ):
            lines.append(f"  filled up          {position:>5}-{position + length - 1:<5}")
            break
        ids = [token for token in tokens[position : position + length].tolist() if token >= 0]
        text = tokenizer.decode(ids)
        shown = repr(
            text
            if len(text) <= _SHOWN_CHARS
            else f"{text[: _SHOWN_CHARS // 2]} ... {text[-_SHOWN_CHARS // 2 :]}"
        )
        kind = "learned" if counted else "masked "
        lines.append(f"  document {number}, {kind} {position:>5}-{position + length - 1:<5} {shown}")
        position += length
    return lines
