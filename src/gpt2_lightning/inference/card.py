"""The model card of an export, filled from its run."""

from pathlib import Path, PurePath
from typing import Any

from gpt2_lightning.data.datamodule import TextDataModule
from gpt2_lightning.data.sources import HubDataset, Mixture, Source
from gpt2_lightning.data.sources.base import FileSource
from gpt2_lightning.data.tokenizer import Pretrained, TokenizerRecipe
from gpt2_lightning.locations import is_hub_id
from gpt2_lightning.runs.run import Run

_NAMED = 3  # files of a source

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


def model_card(run: Run, data: TextDataModule, is_adapter: bool) -> str:
    """The card of a run's export, as Markdown with the header that the hub reads.

    Args:
        run: that has begun.
        data: with the run's token store.
        is_adapter: whether the export needs the model that it adapts.
    """
    summary, model = run.summary, run.config["model"]
    train, validation = (data.store.splits[split] for split in ("train", "validation"))
    total, trainable = summary["parameters_total"], summary["parameters_trainable"]
    pretrained, adapter = model["pretrained"], model["adapter"]
    origin = pretrained and _origin(pretrained)
    what = f"A GPT-2 of {total:,} parameters"
    if adapter:
        kind = adapter["class_path"].rpartition(".")[2]
        what = f"{origin} through {kind}: {trainable:,} of {total:,} parameters trained"
    elif pretrained:
        what += f", {trainable:,} of them trained on from {origin}"
    if (base := summary.get("base")) and base["trained_on"]:
        bits = f" ({base['bits_per_byte']:.4f} bits per byte there)" if base["bits_per_byte"] else ""
        what += f"; that was trained on {base['trained_on']}{bits}"
    template = data.corpus.source.template
    return _CARD.format(
        library="peft" if is_adapter else "transformers",
        base=f"base_model: {origin}\n" if origin and origin == pretrained else "",
        experiment=summary["experiment"],
        run=summary["run"],
        what=what,
        source=_source(data.corpus.source),
        documents=_number(train.documents),
        tokens=train.tokens,
        tokenizer=_tokenizer(data.corpus.tokenizer),
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


def _origin(name: str) -> str:
    """A hub id as it is; of a folder, which is of this machine alone, what tells it from others."""
    path = Path(name)
    if is_hub_id(name):
        return name
    return "/".join(path.parts[-3:-1]) if path.name == "export" else path.name


def _source(source: Source) -> str:
    """The kind of a source, and its name in the world: a data set's, those of files without their folders."""
    if isinstance(source, Mixture):
        return "; ".join(map(_source, source.sources))
    names: list[str] = []
    if isinstance(source, HubDataset):
        names = [" ".join(filter(None, [source.name, source.config, source.split, source.revision]))]
    elif isinstance(source, FileSource):
        paths = [source.paths] if isinstance(source.paths, str) else source.paths
        names = [PurePath(path).name for path in paths]
    shown = [f"`{name}`" for name in names[:_NAMED]] + ["..."] * (len(names) > _NAMED)
    return " ".join([type(source).__name__, ", ".join(shown)]).strip()


def _tokenizer(recipe: TokenizerRecipe) -> str:
    path = recipe.path if isinstance(recipe, Pretrained) else None
    return type(recipe).__name__ + (f" `{_origin(path)}`" if path else "")


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
