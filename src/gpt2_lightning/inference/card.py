"""The model card of an export, filled from its run."""

import json
from pathlib import Path
from typing import Any

import yaml

from gpt2_lightning.data.datamodule import TextDataModule

_CARD = """---
library_name: {library}
pipeline_tag: text-generation
tags: [gpt2, gpt2-lightning]
{base}---

# {experiment}/{run}

{what}, trained by gpt2-lightning.

## Data
{source}: {documents} documents, {tokens:,} tokens of training text, under {tokenizer} with {vocab_size:,}
entries. Rows of at most {block_size} tokens (`{rows}`).{template}

## Training
{tokens_seen:,} tokens in {steps:,} optimizer steps ({epochs:.2f} epochs); {optimizer}; seed {seed}; commit
{commit}. All settings are in the run's `config.yaml`.

## Numbers
| | |
|---|---|
{numbers}

On {held_out} held-out documents. Bits per byte of UTF-8 compare models with other tokenizers.

## Limits
It goes on with a text in the manner of its training data: it states what is false, repeats what is in the
data, its errors and prejudices included, and knows nothing of what is not. Nothing has been done to make its
answers safe. It was not measured on anything but the numbers above.

## Use
```python
{use}
```
`SHA256SUMS` has the digests of the files: `sha256sum --check SHA256SUMS`.
"""

_WHOLE = """from transformers import pipeline

pipeline("text-generation", "<this folder>")("...")"""

_ADAPTER = """from peft import AutoPeftModelForCausalLM

model = AutoPeftModelForCausalLM.from_pretrained("<this folder>")"""


def model_card(run: Path, data: TextDataModule, is_adapter: bool) -> str:
    """The card of a run's export, as Markdown with the header that the hub reads.

    Args:
        run: its folder, with `config.yaml` and `summary.json`.
        data: with the run's token store.
        is_adapter: whether the export needs the model that it adapts.
    """
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    model = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["model"]
    train, validation = (data.store.splits[split] for split in ("train", "validation"))
    total, trainable = summary["parameters_total"], summary["parameters_trainable"]
    pretrained, adapter = model["pretrained"], model["adapter"]
    what = f"A GPT-2 of {total:,} parameters"
    if adapter:
        kind = adapter["class_path"].rpartition(".")[2]
        what = f"{pretrained} through {kind}: {trainable:,} of {total:,} parameters trained"
    elif pretrained:
        what += f", {trainable:,} of them trained on from {pretrained}"
    template = data.corpus.source.template
    return _CARD.format(
        library="peft" if is_adapter else "transformers",
        base=f"base_model: {json.dumps(pretrained)}\n" if pretrained else "",
        experiment=summary["experiment"],
        run=summary["run"],
        what=what,
        source=data.corpus.name,
        documents=_number(train.documents),
        tokens=train.tokens,
        tokenizer=type(data.corpus.tokenizer).__name__,
        vocab_size=data.store.vocab_size,
        block_size=data.block_size,
        rows=data.rows,
        template=f" Records through the template `{template}`; prompts are not learned." if template else "",
        tokens_seen=summary["tokens"],
        steps=summary["steps"],
        epochs=summary["epochs"],
        optimizer=_optimizer(model["optimizer"]),
        seed=summary["seed"],
        commit=summary["git_commit"] or "unknown",
        numbers=_numbers(summary),
        held_out=_number(validation.documents),
        use=_ADAPTER if is_adapter else _WHOLE,
    )


def _optimizer(option: dict[str, Any]) -> str:
    rate = option.get("init_args", {}).get("lr")
    return option["class_path"].rpartition(".")[2] + (f" at a learning rate of {rate}" if rate else "")


def _numbers(summary: dict[str, Any]) -> str:
    names = {
        "val_nll": "NLL, nats per token",
        "val_perplexity": "perplexity",
        "val_bits_per_byte": "bits per byte",
        "val_bits_per_character": "bits per character",
    }
    known = {said: summary[name] for name, said in names.items() if summary[name] is not None}
    return "\n".join(f"| {said} | {value:.4f} |" for said, value in known.items()) or "| not validated | |"


def _number(count: int | None) -> str:
    return "an unknown number of" if count is None else f"{count:,}"
