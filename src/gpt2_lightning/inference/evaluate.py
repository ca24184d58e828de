"""How well models predict a text, in numbers that compare."""

import math
import sys
from collections.abc import Iterable
from typing import Any, Literal, cast

import numpy as np
import torch
from tqdm import tqdm

from gpt2_lightning.data.corpus import Corpus, Split
from gpt2_lightning.errors import InputError
from gpt2_lightning.inference.held_out import HeldOut, Text, in_place, read_texts, tokenized
from gpt2_lightning.inference.loading import load_model
from gpt2_lightning.inference.output import check_writable, write_figures
from gpt2_lightning.inference.trained_on import corpus_of, count_seen
from gpt2_lightning.machine.precision import emulation_warning
from gpt2_lightning.metrics import CONFIDENCE, perplexity
from gpt2_lightning.model.generation import context_of
from gpt2_lightning.model.scoring import token_nll, windows
from gpt2_lightning.ranges import PositiveInt

_MANY = 1e6  # a perplexity with digits that say nothing


def evaluate(
    models: list[str],
    data: Corpus,
    split: Split | Literal["all"] = "validation",
    block_size: PositiveInt | None = None,
    stride: PositiveInt | None = None,
    documents_apart: bool | None = None,
    batch_tokens: PositiveInt = 2048,
    precision: Literal["32-true", "bf16-mixed"] = "32-true",
    seen: bool = True,
    output: str | None = None,
    folder: str = "data",
) -> list[dict[str, Any]]:
    """Measure models on held-out text, each in its own tokens; prints a table and the figures that compare.

    Args:
        models: folders of runs, exports, adapters or any GPT-2, or hub ids.
        data: the corpus; a file of `configs/data/`. Text is tokenized by each model's own tokenizer.
        split: which part of it; `all` of it, if it is text that no run was trained on.
        block_size: most tokens that the model sees at once; the model's context if not given, and the
            smallest of them for several.
        stride: tokens between one window and the next, at most `block_size`; half of it if not given. With
            `block_size` itself the windows are blocks side by side, as in training's validation on a stream.
        documents_apart: no window reaches over the end of a document; true for instruction records if not
            given, else false.
        batch_tokens: most tokens that are read side by side.
        precision: of the matrix products.
        seen: count the documents that the training split of each run has to the letter; that is read then.
        output: file for all figures as JSON.
        folder: of token stores, where token files are counted.

    Returns:
        For each model, its figures: over all, and for each source of a mixture.
    """
    check_writable(output)
    for its_split, source in data.sources.items():
        source.put_at(f"--data.{'source' if its_split == 'train' else its_split}")
    loaded = [load_model(name, "models") for name in models]
    if loaded[0][0].device.type == "cpu" and (warning := emulation_warning(precision, "--precision")):
        print(warning, file=sys.stderr)
    block, step = _window(min(context_of(model) for model, _, _ in loaded), block_size, stride)
    apart = data.source.is_instructions if documents_apart is None else documents_apart
    texts = read_texts(data, split)
    results = []
    for name, (model, tokenizer, place) in zip(models, loaded, strict=True):
        parts = [tokenized(text, tokenizer) for text in texts]
        parts = parts or [in_place(data, cast(Split, split), tokenizer, folder)]
        if apart and any(part.ends is None for part in parts):
            raise InputError("--documents_apart true: these token files do not say where documents end")
        with torch.autocast(model.device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
            nll = [_nll_of(model, part, block, step, apart, batch_tokens, name) for part in parts]
        known = _seen(texts, name) if seen and split != "train" else [None] * len(parts)
        by_source = {part.name: figures([part], [each]) for part, each in zip(parts, nll, strict=True)}
        for figures_of_one, count in zip(by_source.values(), known, strict=True):
            figures_of_one["seen_documents"] = count
        results.append(
            {"model": name, "place": place, "split": split, "block_size": block, "stride": step}
            | {"documents_apart": apart, **figures(parts, nll), "seen_documents": _sum(known)}
            | ({"sources": by_source} if len(parts) > 1 else {})
        )
    print(report(results))
    write_figures(output, results)
    return results


def _window(context: int, block_size: int | None, stride: int | None) -> tuple[int, int]:
    """Length of the windows, and the way from one to the next, for models of a context."""
    if block_size and block_size > context:
        raise InputError(f"--block_size {block_size}: the context of a model is {context} tokens")
    block = block_size or context
    step = stride or max(1, block // 2)
    if step > block:
        raise InputError(f"--stride {step}: is more than --block_size {block}; some text would be left out")
    return block, step


def _seen(texts: list[Text], name: str) -> list[int | None]:
    """Documents of each text that the run has seen; `None` where that cannot be known."""
    try:
        if texts and (trained_on := corpus_of(name)):
            return [*count_seen(texts, trained_on)]
    except InputError as error:
        print(f"what {name} has seen is not known: {error}", file=sys.stderr)
    return [None] * max(1, len(texts))


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
    words = _sum(part.words for part in parts)
    return {
        "documents": _sum(each.documents for each in counts),
        "targets": int(targets),
        "nll": float(mean),
        "nll_95": spread and CONFIDENCE * spread,
        "perplexity": perplexity(float(mean)),
        "word_perplexity": finite
        if words and math.isfinite(finite := perplexity(float(total / words)))
        else None,
        "bits_per_byte": per(_sum(each.utf8_bytes for each in counts)),
        "bits_per_character": per(_sum(each.characters for each in counts)),
        "tokens_per_word": per(words, targets),
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


def report(results: list[dict[str, Any]]) -> str:
    """The figures as a Markdown table, a line for each model and for each source of it."""
    first = results[0]
    way = "documents apart" if first["documents_apart"] else "one stream"
    documents = first["documents"] or "an unknown number of"
    lines = [
        f"{first['split']} split: {documents} document{'s' if documents != 1 else ''}; windows of "
        f"{first['block_size']} tokens, stride {first['stride']}, {way}",
        "",
        "| Model | NLL | Perplexity | Of a word "
        "| Bits/byte | Bits/character | Tokens/word | Targets | Seen |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for result in results:
        lines.append(_row(result["model"], result))
        lines += [_row(f"· {name}", each) for name, each in result.get("sources", {}).items()]
    return "\n".join(lines)


def _row(name: str, result: dict[str, Any]) -> str:
    def shown(key: str, form: str) -> str:
        return "" if result[key] is None else f"{result[key]:{form}}"

    interval = result["nll_95"] and f"±{result['nll_95']:.4f}"
    of_a_word = shown("word_perplexity", ".2f" if (result["word_perplexity"] or 0) < _MANY else ".2e")
    cells = [
        name,
        " ".join(filter(None, (shown("nll", ".4f"), interval))),
        shown("perplexity", ".2f"),
        of_a_word,
    ]
    cells += [
        shown("bits_per_byte", ".4f"),
        shown("bits_per_character", ".4f"),
        shown("tokens_per_word", ".3f"),
    ]
    cells += [shown("targets", ","), shown("seen_documents", ",")]
    return f"| {' | '.join(cells)} |"
