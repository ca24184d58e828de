"""How often models know the last word of a text, as LAMBADA asks."""

import math
import re
from typing import Any

from transformers import PreTrainedTokenizerFast

from gpt2_lightning.data.documents import Rejected
from gpt2_lightning.data.sources import Source
from gpt2_lightning.errors import InputError
from gpt2_lightning.inference.loading import load_model
from gpt2_lightning.inference.output import check_writable, write_figures
from gpt2_lightning.metrics import CONFIDENCE, perplexity
from gpt2_lightning.model.generation import context_of, prompt_ids
from gpt2_lightning.model.scoring import endings
from gpt2_lightning.ranges import PositiveInt

_LAST_WORD = re.compile(r"(.*\S)(\s+\S+)\s*", re.DOTALL)


def last_words(
    models: list[str], texts: Source, batch_size: PositiveInt = 16, output: str | None = None
) -> list[dict[str, Any]]:
    """Measure how often models give the last word of texts; prints a table.

    A word is right where its tokens, closing marks included, are each the likeliest after the text before
    it. Source: the task `lambada_openai` of lm-evaluation-harness.

    Args:
        models: folders of runs, exports, adapters or any GPT-2, or hub ids.
        texts: where they come from, one a record.
        batch_size: texts that are read side by side.
        output: file for all figures as JSON.

    Returns:
        For each model, its figures.
    """
    check_writable(output)
    texts.put_at("--texts")
    halves = list(_halves(texts))
    results = []
    for name in models:
        model, tokenizer, place = load_model(name, "models")
        ids = [_ids(tokenizer, context_of(model), *each) for each in halves]
        found = endings(model, ids, batch_size)
        right = sum(each.is_likeliest for each in found)
        results.append(
            {
                "model": name,
                "place": place,
                "texts": len(found),
                "accuracy": right / len(found),
                "accuracy_95": wilson(right, len(found)),
                "word_perplexity": perplexity(sum(each.nll for each in found) / len(found)),
            }
        )
    print(_report(results))
    write_figures(output, results)
    return results


def _halves(texts: Source) -> list[tuple[str, str, str]]:
    """Where each text stands, the text before its last word, and that with the white space before it."""
    halves = []
    for record in texts.documents():
        if isinstance(record, Rejected):
            raise InputError(f"{record.origin}: {record.reason}")
        if not (match := _LAST_WORD.fullmatch(record.text)):
            raise InputError(
                f"{record.origin}: a text of at least two words, with white space between, is needed"
            )
        halves.append((record.origin, match[1], match[2]))
    if not halves:
        raise InputError(f"{texts.place}: no text is in it")
    return halves


def _ids(
    tokenizer: PreTrainedTokenizerFast, context: int, origin: str, before: str, word: str
) -> tuple[list[int], list[int]]:
    start = prompt_ids(tokenizer, before)
    end = prompt_ids(tokenizer, before + word)[len(start) :]
    if not 0 < len(end) <= context:
        raise InputError(f"{origin}: its last word has {len(end):,} tokens, and the context {context:,}")
    return start, end


def wilson(right: int, number: int) -> tuple[float, float]:
    """The ends of the 95 % confidence interval of a share, which is no point where all or none are right.

    Source: Wilson 1927.
    """
    share, z = right / number, CONFIDENCE
    middle = (share + z**2 / (2 * number)) / (1 + z**2 / number)
    half = z / (1 + z**2 / number) * math.sqrt(share * (1 - share) / number + z**2 / (4 * number**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def _report(results: list[dict[str, Any]]) -> str:
    lines = ["| Model | Accuracy | Perplexity of the word | Texts |", "|---|---:|---:|---:|"]
    for each in results:
        low, high = each["accuracy_95"]
        accuracy = f"{each['accuracy']:.2%} ({low:.1%} to {high:.1%})"
        lines.append(f"| {each['model']} | {accuracy} | {each['word_perplexity']:.2f} | {each['texts']:,} |")
    return "\n".join(lines)
