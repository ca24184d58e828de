"""How well models predict a text, in numbers that compare."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from tqdm import tqdm

from gpt2_lightning.data.corpus import Corpus, Split
from gpt2_lightning.errors import InputError
from gpt2_lightning.inference.held_out import HeldOut, read_held_out
from gpt2_lightning.inference.loading import load_model
from gpt2_lightning.metrics import perplexity
from gpt2_lightning.model.generation import context_of
from gpt2_lightning.model.scoring import token_nll, windows
from gpt2_lightning.ranges import PositiveInt

CONFIDENCE = 1.96  # standard errors on each side of 95 %


def evaluate(
    models: list[str],
    data: Corpus,
    split: Split = "validation",
    block_size: PositiveInt | None = None,
    stride: PositiveInt | None = None,
    documents_apart: bool | None = None,
    batch_tokens: PositiveInt = 2048,
    precision: Literal["32-true", "bf16-mixed"] = "32-true",
    output: str | None = None,
    folder: str = "data",
) -> list[dict[str, Any]]:
    """Measure models on held-out text, each in its own tokens; prints a table and the figures that compare.

    Args:
        models: folders of runs, exports, adapters or any GPT-2, or hub ids.
        data: the corpus; a file of `configs/data/`. Text is tokenized by each model's own tokenizer.
        split: which part of it.
        block_size: most tokens that the model sees at once; the model's context if not given, and the
            smallest of them for several.
        stride: tokens between one window and the next, at most `block_size`; half of it if not given. With
            `block_size` itself the windows are blocks side by side, as in training's validation.
        documents_apart: no window reaches over the end of a document; true for instruction records if not
            given, else false.
        batch_tokens: most tokens that are read side by side.
        precision: of the matrix products.
        output: file for all figures as JSON.
        folder: of token stores, where token files are counted.

    Returns:
        For each model, its figures: over all, and for each source of a mixture.
    """
    loaded = [load_model(name, "models") for name in models]
    context = min(context_of(model) for model, _, _ in loaded)
    block = min(context, block_size or context)
    if block_size and block_size > context:
        raise InputError(f"--block_size {block_size}: the context of a model is {context} tokens")
    step = stride or max(1, block // 2)
    if step > block:
        raise InputError(f"--stride {step}: is more than --block_size {block}; some text would be left out")
    apart = data.source.is_instructions if documents_apart is None else documents_apart
    results = []
    for name, (model, tokenizer, place) in zip(models, loaded, strict=True):
        parts = read_held_out(data, split, tokenizer, folder)
        if apart and any(part.ends is None for part in parts):
            raise InputError("--documents_apart true: these token files do not say where documents end")
        with torch.autocast(model.device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
            nll = [_nll_of(model, part, block, step, apart, batch_tokens, name) for part in parts]
        by_source = {part.name: figures([part], [each]) for part, each in zip(parts, nll, strict=True)}
        results.append(
            {"model": name, "place": place, "split": split, "block_size": block, "stride": step}
            | {"documents_apart": apart, **figures(parts, nll)}
            | ({"sources": by_source} if len(parts) > 1 else {})
        )
    if output:
        write_figures(output, results)
    print(report(results))
    return results


def _nll_of(
    model: Any, part: HeldOut, block: int, stride: int, apart: bool, batch_tokens: int, name: str
) -> np.ndarray:
    """The NLL of every learned token of a source, `(targets,)`, and with it those that are not as NaN."""
    stretches = _documents(part) if apart else [(0, len(part.tokens))]
    if apart:  # those of one length side by side
        stretches = sorted(stretches, key=lambda ends: ends[1] - ends[0])
    parts = [window for start, stop in stretches for window in windows(start, stop, block, stride)]
    bar = tqdm(parts, desc=f"{name} on {part.name}", unit="window", disable=None, leave=False)
    nll = token_nll(model, part.tokens, bar, batch_tokens)
    return nll if part.learned is None else np.where(part.learned, nll, np.nan)


def _documents(part: HeldOut) -> list[tuple[int, int]]:
    assert part.ends is not None
    starts = [0, *part.ends[:-1].tolist()]
    return list(zip(starts, part.ends.tolist(), strict=True))


def figures(parts: list[HeldOut], nll: list[np.ndarray]) -> dict[str, Any]:
    """What is known of a model on some sources.

    `word_perplexity` is the same NLL per word, a piece between white space: what older papers report.
    `nll_95` is half of the 95 % confidence interval of the mean NLL, over documents as they might have been
    others: the standard error of a ratio, whose terms are documents. Source: Cochran 1977, Sampling
    Techniques, section 2.11.
    """
    totals = np.concatenate([_by_document(part, each) for part, each in zip(parts, nll, strict=True)])
    total, targets = totals.sum(axis=0)
    mean = total / targets
    documents = len(totals)
    spread = None
    if documents > 1 and all(part.ends is not None for part in parts):
        residuals = totals[:, 0] - mean * totals[:, 1]
        spread = math.sqrt((residuals**2).sum() * documents / (documents - 1)) / targets

    def per(unit: int | None, amount: float = total / math.log(2)) -> float | None:
        return float(amount / unit) if unit else None

    counts = [part.counts for part in parts]
    words = _sum(part.words for part in parts) or None
    return {
        "documents": _sum(each.documents for each in counts),
        "targets": int(targets),
        "nll": float(mean),
        "nll_95": spread and CONFIDENCE * spread,
        "perplexity": perplexity(float(mean)),
        "word_perplexity": None if words is None else perplexity(float(total / words)),
        "bits_per_byte": per(_sum(each.utf8_bytes for each in counts)),
        "bits_per_character": per(_sum(each.characters for each in counts)),
        "tokens_per_word": per(words, targets),
        "seen_documents": _sum(part.seen for part in parts),
    }


def _sum(numbers: Iterable[int | None]) -> int | None:
    """`None` where one is not known."""
    known = list(numbers)
    return None if None in known else sum(filter(None, known))


def _by_document(part: HeldOut, nll: np.ndarray) -> np.ndarray:
    """Sum of the NLL and number of targets of each document, `(documents, 2)`; of all where there is none."""
    starts = np.array([0]) if part.ends is None else np.concatenate([[0], part.ends[:-1]])
    counted = ~np.isnan(nll)
    columns = (np.nan_to_num(nll).astype(np.float64), counted.astype(np.int64))
    return np.stack([np.add.reduceat(column, starts) for column in columns], axis=1)


def write_figures(output: str, results: list[dict[str, Any]]) -> None:
    """Write figures as JSON.

    Raises:
        InputError: if `--output` cannot be written.
    """
    try:
        Path(output).write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"--output {output!r}: cannot be written: {error.strerror}") from None


def report(results: list[dict[str, Any]]) -> str:
    """The figures as a Markdown table, a line for each model and for each source of it."""
    first = results[0]
    way = "documents apart" if first["documents_apart"] else "one stream"
    seen = first["seen_documents"]
    lines = [
        f"{first['split']} split: {first['documents'] or 'an unknown number of'} documents"
        + ("" if seen is None else f", {seen} of them to the letter in the training split too")
        + f"; windows of {first['block_size']} tokens, stride {first['stride']}, {way}",
        "",
        "| Model | NLL | Perplexity | Of a word | Bits/byte | Bits/character | Tokens/word | Targets |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for result in results:
        lines.append(_row(result["model"], result))
        lines += [_row(f"· {name}", each) for name, each in result.get("sources", {}).items()]
    return "\n".join(lines)


def _row(name: str, result: dict[str, Any]) -> str:
    def shown(key: str, digits: int, sign: str = "") -> str:
        return "" if result[key] is None else f"{sign}{result[key]:.{digits}f}"

    nll = f"{shown('nll', 4)} {shown('nll_95', 4, '±')}".strip()
    cells = [name, nll, shown("perplexity", 2), shown("word_perplexity", 2), shown("bits_per_byte", 4)]
    cells += [shown("bits_per_character", 4), shown("tokens_per_word", 3), f"{result['targets']:,}"]
    return f"| {' | '.join(cells)} |"


def corpus_of_run(name: str) -> dict[str, Any]:
    """The corpus that a run was trained on, as its `config.yaml` has it.

    Raises:
        InputError: if `name` is no run.
    """
    path = Path(name).expanduser() / "config.yaml"
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))["data"]["corpus"]
    except (OSError, KeyError, TypeError, yaml.YAMLError):
        raise InputError(
            f"--data: give the corpus (DATA= names a file of configs/data); {name!r} is no run that has one"
        ) from None
