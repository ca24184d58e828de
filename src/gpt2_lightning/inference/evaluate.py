"""How well models predict a text, in numbers that compare."""

import re
import sys
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from gpt2_lightning.data.corpus import Corpus, Split
from gpt2_lightning.data.documents import Document
from gpt2_lightning.errors import InputError
from gpt2_lightning.inference.figures import Measured, figures_by_source, table
from gpt2_lightning.inference.held_out import HeldOut, in_place, read_texts, tokenized
from gpt2_lightning.inference.loading import load_model
from gpt2_lightning.inference.output import check_writable, write_figures
from gpt2_lightning.inference.trained_on import seen_documents
from gpt2_lightning.machine.precision import emulation_warning
from gpt2_lightning.model.generation import context_of, prompt_ids
from gpt2_lightning.model.scoring import Ending, Window, endings, token_nll, windows
from gpt2_lightning.ranges import PositiveInt

_LAST_WORD = re.compile(r"(.*\S)(\s+\S+)\s*", re.DOTALL)


@dataclass(frozen=True)
class Reading:
    """How models read a text: in windows of `block_size` tokens, `stride` from one to the next."""

    block_size: int
    stride: int
    documents_apart: bool

    @classmethod
    def of(cls, context: int, block_size: int | None, stride: int | None, apart: bool) -> "Reading":
        """For models of a context; half of the windows' length from one to the next if not given."""
        if block_size and block_size > context:
            raise InputError(f"--block_size {block_size}: the context of a model is {context} tokens")
        block = block_size or context
        step = stride or max(1, block // 2)
        if step > block:
            raise InputError(
                f"--stride {step}: is more than --block_size {block}; some text would be left out"
            )
        return cls(block, step, apart)

    def windows(self, part: HeldOut) -> list[Window]:
        """The windows of a source; of documents apart, those of one length are side by side."""
        stretches = [(0, len(part.tokens))]
        if self.documents_apart:
            if part.ends is None:
                raise InputError("--documents_apart true: these token files do not say where documents end")
            ends = part.ends.tolist()
            stretches = sorted(zip([0, *ends], ends, strict=False), key=lambda each: each[1] - each[0])
        return [each for stretch in stretches for each in windows(*stretch, self.block_size, self.stride)]


def evaluate(
    models: list[str],
    data: Corpus,
    split: Split | Literal["all"] = "validation",
    block_size: PositiveInt | None = None,
    stride: PositiveInt | None = None,
    documents_apart: bool | None = None,
    batch_tokens: PositiveInt = 2048,
    precision: Literal["32-true", "bf16-mixed"] = "32-true",
    last_words: bool = False,
    seen: bool = False,
    output: str | None = None,
    folder: str = "data",
) -> list[dict[str, Any]]:
    """Measure models on held-out text, each in its own tokens; prints a table and the figures that compare.

    Args:
        models: folders of runs, exports, adapters or any GPT-2, or hub ids.
        data: the corpus; a file of `configs/data/`. Text is tokenized by each model's own tokenizer.
        split: which part of it; `all` of it, if it is text that no run was trained on.
        block_size: most tokens that a model sees at once; the smallest context of the models if not given.
        stride: tokens between one window and the next, at most `block_size`; half of it if not given. With
            `block_size` itself the windows are blocks side by side, as in training's validation on a stream.
        documents_apart: no window reaches over the end of a document; true for instruction records if not
            given, else false.
        batch_tokens: most tokens that are read side by side.
        precision: of the matrix products.
        last_words: measure too how often the last word of a document, closing marks included, is written by
            the likeliest tokens after all that comes before it in the document, and its perplexity. Source:
            the task `lambada_openai` of lm-evaluation-harness.
        seen: count the documents that the training split of each run has to the letter, which is read for it.
        output: file for all figures as JSON.
        folder: of token stores, where token files are counted.

    Returns:
        For each model, its figures: over all, and for each source of a mixture.
    """
    check_writable(output)
    loaded = _loaded(models, precision)
    apart = data.source.is_instructions if documents_apart is None else documents_apart
    reading = Reading.of(min(context_of(model) for model, _, _ in loaded), block_size, stride, apart)
    texts = read_texts(data, split)
    if (last_words or seen) and not texts:
        option = "--last_words" if last_words else "--seen"
        raise InputError(f"{option} true: is of text; token files hold none")
    known = [seen_documents(texts, name) if seen else None for name in models]
    results = []
    for name, (model, tokenizer, place), counted in zip(models, loaded, known, strict=True):
        parts = [tokenized(source, documents, tokenizer) for source, documents in texts.items()]
        parts = parts or [in_place(data, cast(Split, split), tokenizer, folder)]
        with torch.autocast(model.device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
            words = [_last_words(model, tokenizer, each) for each in texts.values()] if last_words else None
            nll = [_nll_of(model, part, reading, batch_tokens, name) for part in parts]
        nothing = [None] * len(parts)
        measured = list(map(Measured, parts, nll, words or nothing, counted or nothing))
        protocol = {"model": name, "place": place, "split": split, **asdict(reading)}
        results.append(protocol | figures_by_source(measured))
    print(table(results))
    write_figures(output, results)
    return results


def _loaded(models: list[str], precision: str) -> list[tuple[Any, PreTrainedTokenizerFast, str]]:
    loaded = [load_model(name, "models") for name in models]
    if loaded[0][0].device.type == "cpu" and (warning := emulation_warning(precision, "--precision")):
        print(warning, file=sys.stderr)
    return loaded


def _nll_of(model: Any, part: HeldOut, reading: Reading, batch_tokens: int, name: str) -> np.ndarray:
    """The NLL of every learned token of a source, `(targets,)`, and with it those that are not as NaN."""
    bar = tqdm(reading.windows(part), f"{name} on {part.name}", unit="window", disable=None, leave=False)
    nll = token_nll(model, part.tokens, bar, batch_tokens)
    return nll if part.learned is None else np.where(part.learned, nll, np.nan)


def _last_words(model: Any, tokenizer: PreTrainedTokenizerFast, documents: list[Document]) -> list[Ending]:
    context = context_of(model)
    return endings(model, [_before_and_last_word(tokenizer, context, document) for document in documents])


def _before_and_last_word(
    tokenizer: PreTrainedTokenizerFast, context: int, document: Document
) -> tuple[list[int], list[int]]:
    """The ids of what comes before the last word, and of that word with the white space before it."""
    if not (match := _LAST_WORD.fullmatch(document.text)):
        raise InputError(
            f"{document.origin}: a text of at least two words, with white space between, is needed"
        )
    before, word = match.groups()
    start = prompt_ids(tokenizer, before)
    end = prompt_ids(tokenizer, before + word)[len(start) :]
    if not 0 < len(end) <= context:
        raise InputError(
            f"{document.origin}: its last word has {len(end):,} tokens, and the context {context:,}"
        )
    return start, end
