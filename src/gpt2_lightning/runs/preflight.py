"""What a run would do, and how long it would take, short of training."""

import math
from dataclasses import replace
from itertools import groupby

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from gpt2_lightning.callbacks.adalora import AdaLoRA
from gpt2_lightning.callbacks.pace import Pace, StepTime, run_seconds
from gpt2_lightning.callbacks.progress import format_seconds
from gpt2_lightning.callbacks.throughput import Throughput
from gpt2_lightning.data.datamodule import TextDataModule
from gpt2_lightning.data.packing import IGNORED, DocumentRows
from gpt2_lightning.data.tokenizer import end_of_text_id
from gpt2_lightning.machine.hardware import device_description, matrix_rate
from gpt2_lightning.machine.precision import product_format
from gpt2_lightning.model.adaptation import freeze
from gpt2_lightning.model.architecture import Architecture, build, count_parameters, flops_per_token
from gpt2_lightning.model.module import GPT2Module
from gpt2_lightning.model.run_length import total_steps
from gpt2_lightning.runs.base import Base
from gpt2_lightning.runs.summary import length

_SHOWN_CHARS = 300
_NOTABLE = 1.1  # a precision that changes the time by less is not worth a word


def report(trainer: Trainer, model: GPT2Module, data: TextDataModule, measure: bool = True) -> str:
    """Counts of the corpus, the arithmetic of the run, its time, and its first row as the model gets it.

    Args:
        trainer: of the run.
        model: of the run; it is trained for some steps if `measure`.
        data: of the run, with its token store there.
        measure: whether to take steps, to tell time and memory.
    """
    total, trainable = _parameters(model, data)
    rows = data.rows_of("train")
    loader = data.train_dataloader()
    batch = next(iter(loader))
    rows_per_step = data.micro_batch_size * trainer.accumulate_grad_batches * trainer.world_size
    steps = total_steps(trainer, len(loader))
    base = Base.of(model.recipe.pretrained)
    validation = data.store.splits["validation"]
    misfit = base.misfit(validation.bytes_per_token) if base else None
    lines = [
        *counts(data),
        "",
        f"model    {total:,} parameters, {trainable:,} train; context {model.config(data).n_positions}",
        *([f"base     {base}"] if base else []),
        *([f"         {misfit}"] if misfit else []),
        f"rows     {len(rows):,} of at most {data.block_size} tokens ({data.rows})" + _cut(rows),
        f"step     {data.micro_batch_size} rows x {trainer.accumulate_grad_batches} micro-batches x "
        f"{trainer.world_size} devices = {rows_per_step} rows",
        f"run      {length(trainer, len(loader))}",
        f"machine  {trainer.precision} on {device_description(trainer.strategy.root_device)}",
        *(_time(trainer, model, data, steps) if measure else []),
        "",
        f"first batch: {', '.join(f'{name} {tuple(value.shape)}' for name, value in batch.items())}",
        "its first row:",
        *_show({name: value[0] for name, value in batch.items()}, data.tokenizer),
    ]
    return "\n".join(lines)


def _time(trainer: Trainer, model: GPT2Module, data: TextDataModule, steps: float) -> list[str]:
    """What the run would take on this machine, and otherwise."""
    num_batches = _limited(len(data.train_dataloader()), trainer.limit_train_batches)
    num_val_batches = _limited(len(data.val_dataloader()), trainer.limit_val_batches)
    step, memory_bytes = _measure(trainer, model, data)
    if step is None:
        return ["time     unknown: the run has fewer than three steps"]

    def of_run(step: StepTime) -> str:
        whole = run_seconds(trainer, step, steps, num_batches, num_val_batches)
        return format_seconds(whole if math.isfinite(steps) else step.total)

    head = f"about {of_run(step)} here: " if math.isfinite(steps) else ""
    lines = [f"time     {head}{step}"]
    if slow := step.slow_part():
        lines.append(f"         {slow}")
    others = [f"{how} about {of_run(other)}" for how, other in _otherwise(trainer, model, data, step).items()]
    if others and math.isfinite(steps):
        lines.append(f"         otherwise: {'; '.join(others)}")
    return [*lines, f"memory   {memory_bytes / 2**30:.1f} GiB at its peak"]


def _limited(number: int, limit: int | float) -> int:
    """Of so many batches, those that one of the trainer's limits leaves: a number or a share."""
    return min(number, limit) if isinstance(limit, int) else int(number * limit)


def _measure(trainer: Trainer, model: GPT2Module, data: TextDataModule) -> tuple[StepTime | None, int]:
    """A step of the run, from its first steps, taken on one device; and the most memory in use by then.

    No step's time where the run has fewer than three.
    """
    throughput = Throughput()
    pace = Pace(throughput, ends=True)
    device = trainer.strategy.root_device
    trial = Trainer(
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=[device.index] if device.index is not None else 1,
        precision=trainer.precision,
        max_steps=trainer.max_steps,
        max_epochs=trainer.max_epochs,
        gradient_clip_val=trainer.gradient_clip_val,
        gradient_clip_algorithm=trainer.gradient_clip_algorithm,
        callbacks=[*AdaLoRA.needed_by(model.recipe.adapter), throughput, pace],
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trial.fit(model, datamodule=data)
    step = pace.step and pace.step.accumulated(trainer.accumulate_grad_batches)
    return step, throughput.peak_memory_bytes()


def _otherwise(
    trainer: Trainer, model: GPT2Module, data: TextDataModule, step: StepTime
) -> dict[str, StepTime]:
    """The step's time in another precision, where that differs, and with half the layers."""
    found: dict[str, StepTime] = {}
    dtype = product_format(str(trainer.precision))
    if trainer.strategy.root_device.type == "cpu" and step.products is not None:
        other = torch.float32 if dtype != torch.float32 else torch.bfloat16
        factor = matrix_rate(dtype) / matrix_rate(other)
        if not 1 / _NOTABLE < (changed := step.with_products(factor)).total / step.total < _NOTABLE:
            found[f"in {'32-true' if other == torch.float32 else 'bf16-mixed'}"] = changed
    layers = model.config(data).n_layer
    if model.recipe.pretrained is None and layers > 1:
        half = replace(model.recipe.architecture, n_layer=layers // 2)
        share = _flops(model, data, half) / _flops(model, data, model.recipe.architecture)
        found[f"with --model.architecture.n_layer {layers // 2}"] = step.times(share)
    return found


def _from_scratch(model: GPT2Module, data: TextDataModule, architecture: Architecture) -> GPT2LMHeadModel:
    """The model with this architecture, without memory for its weights."""
    with torch.device("meta"):
        gpt2 = build(architecture, len(data.tokenizer), end_of_text_id(data.tokenizer))
    freeze(gpt2, model.recipe.trainable)
    return gpt2


def _flops(model: GPT2Module, data: TextDataModule, architecture: Architecture) -> float:
    return flops_per_token(_from_scratch(model, data, architecture), data.block_size)


def _parameters(model: GPT2Module, data: TextDataModule) -> tuple[int, int]:
    """Number in all and of those that train; weights from scratch take no memory for it."""
    if model.recipe.pretrained is not None:
        model.configure_model()
        return count_parameters(model.model)
    return count_parameters(_from_scratch(model, data, model.recipe.architecture))


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
