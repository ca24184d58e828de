"""The figures of a model on a text, and their table."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpt2_lightning.inference.held_out import HeldOut
from gpt2_lightning.metrics import CONFIDENCE, perplexity
from gpt2_lightning.model.scoring import Ending

_MANY = 1e6  # a perplexity with digits that say nothing
_WHERE_ASKED = ("Last word right", "Perplexity of it", "Seen")


@dataclass(frozen=True)
class Measured:
    """What a model gave on one source.

    Attributes:
        part: the source.
        nll: of every token in nats, `(N,)`; NaN where it is not learned.
        last_words: how it gave the last word of each document; `None` where that was not asked.
        seen: documents that its run was trained on; `None` where that is not known, or was not asked.
    """

    part: HeldOut
    nll: np.ndarray
    last_words: list[Ending] | None = None
    seen: int | None = None


def figures(measured: list[Measured]) -> dict[str, Any]:
    """What is known of a model on some sources.

    `word_perplexity` is the same NLL per word, a piece between white space: what older papers report.
    `nll_95` is half of the 95 % confidence interval of the mean NLL, over documents as they might have been
    others: the standard error of a ratio, whose terms are documents. Source: Cochran 1977, Sampling
    Techniques, section 2.11.
    """
    totals = np.concatenate([_by_document(each) for each in measured])
    total, targets = totals.sum(axis=0)
    mean = total / targets
    documents = len(totals)
    spread = None
    if documents > 1 and all(each.part.ends is not None for each in measured):
        residuals = totals[:, 0] - mean * totals[:, 1]
        spread = math.sqrt((residuals**2).sum() * documents / (documents - 1)) / targets

    def per(unit: int | None, amount: float = total / math.log(2)) -> float | None:
        return float(amount / unit) if unit else None

    counts = [each.part.counts for each in measured]
    words = _sum(each.part.words for each in measured)
    return {
        "documents": _sum(each.documents for each in counts),
        "targets": int(targets),
        "nll": float(mean),
        "nll_95": spread and CONFIDENCE * spread,
        "perplexity": perplexity(float(mean)),
        "word_perplexity": _finite_perplexity(float(total / words)) if words else None,
        "bits_per_byte": per(_sum(each.utf8_bytes for each in counts)),
        "bits_per_character": per(_sum(each.characters for each in counts)),
        "tokens_per_word": per(words, targets),
        **_last_word_figures([ending for each in measured for ending in each.last_words or ()]),
        "seen_documents": _sum(each.seen for each in measured),
    }


def figures_by_source(measured: list[Measured]) -> dict[str, Any]:
    """What is known of a model on some sources, and on each of several."""
    by_source = {each.part.name: figures([each]) for each in measured}
    return figures(measured) | ({"sources": by_source} if len(measured) > 1 else {})


def _sum(numbers: Iterable[int | None]) -> int | None:
    """`None` where one is not known."""
    known = list(numbers)
    return None if None in known else sum(filter(None, known))


def _finite_perplexity(nll: float) -> float | None:
    """`None` past all numbers, which JSON has no word for."""
    return found if math.isfinite(found := perplexity(nll)) else None


def _by_document(measured: Measured) -> np.ndarray:
    """Sum of the NLL and number of targets of each document, `(documents, 2)`; of all where there is none."""
    ends = measured.part.ends
    starts = np.array([0]) if ends is None else np.concatenate([[0], ends[:-1]])
    columns = (np.nan_to_num(measured.nll).astype(np.float64), (~np.isnan(measured.nll)).astype(np.int64))
    return np.stack([np.add.reduceat(column, starts) for column in columns], axis=1)


def _last_word_figures(endings: list[Ending]) -> dict[str, Any]:
    names = ("last_word_accuracy", "last_word_accuracy_95", "last_word_perplexity")
    if not endings:
        return dict.fromkeys(names)
    right = sum(each.is_likeliest for each in endings)
    mean_nll = sum(each.nll for each in endings) / len(endings)
    values = right / len(endings), wilson(right, len(endings)), _finite_perplexity(mean_nll)
    return dict(zip(names, values, strict=True))


def wilson(right: int, number: int) -> tuple[float, float]:
    """The ends of the 95 % confidence interval of a share, which is no point where all or none are right.

    Source: Wilson 1927.
    """
    share, z = right / number, CONFIDENCE
    middle = (share + z**2 / (2 * number)) / (1 + z**2 / number)
    half = z / (1 + z**2 / number) * math.sqrt(share * (1 - share) / number + z**2 / (4 * number**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def table(results: list[dict[str, Any]]) -> str:
    """The figures as a Markdown table, a line for each model and for each source of it."""
    first = results[0]
    way = "documents apart" if first["documents_apart"] else "one stream"
    documents = first["documents"] or "an unknown number of"
    rows: list[tuple[str, dict[str, str]]] = []
    for result in results:
        rows.append((result["model"], _cells(result)))
        rows += [(f"· {name}", _cells(each)) for name, each in result.get("sources", {}).items()]
    titles = [
        title for title in rows[0][1] if title not in _WHERE_ASKED or any(cells[title] for _, cells in rows)
    ]
    lines = [("Model", titles), *((name, [cells[title] for title in titles]) for name, cells in rows)]
    head, *rest = (f"| {name} | {' | '.join(cells)} |" for name, cells in lines)
    what = (
        f"{first['split']} split: {documents} document{'s' if documents != 1 else ''}; windows of "
        f"{first['block_size']} tokens, stride {first['stride']}, {way}"
    )
    return "\n".join([what, "", head, f"|---{'|---:' * len(titles)}|", *rest])


def _cells(result: dict[str, Any]) -> dict[str, str]:
    """The text of each column by its title."""

    def shown(key: str, form: str) -> str:
        return "" if result[key] is None else f"{result[key]:{form}}"

    interval = f" ±{result['nll_95']:.4f}" if result["nll_95"] else ""
    right = shown("last_word_accuracy", ".2%")
    return {
        "NLL": shown("nll", ".4f") + interval,
        "Perplexity": shown("perplexity", ".2f"),
        "Of a word": shown("word_perplexity", ".2f" if (result["word_perplexity"] or 0) < _MANY else ".2e"),
        "Bits/byte": shown("bits_per_byte", ".4f"),
        "Bits/character": shown("bits_per_character", ".4f"),
        "Tokens/word": shown("tokens_per_word", ".3f"),
        "Targets": shown("targets", ","),
        "Last word right": right and "{} ({:.1%} to {:.1%})".format(right, *result["last_word_accuracy_95"]),
        "Perplexity of it": shown("last_word_perplexity", ".2f"),
        "Seen": shown("seen_documents", ","),
    }
