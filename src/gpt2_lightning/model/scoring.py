"""How likely text is to a model: every token of a stream, in sliding windows, or the end of each text."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from gpt2_lightning.files.arrays import NumberArray
from gpt2_lightning.model.adaptation import gpt2_of
from gpt2_lightning.model.generation import context_of
from gpt2_lightning.model.hidden_states import hidden_states

_LOGITS = 2**23  # of one chunk: 32 MB in float32, which caches hold better than whole batches


@dataclass(frozen=True)
class Window:
    """Targets `start` … `stop`−1 of a stream, each read with the one before it; the last `scored` count."""

    start: int
    stop: int
    scored: int


def windows(start: int, stop: int, block_size: int, stride: int) -> Iterator[Window]:
    """Windows over a part of a stream in which every target counts once.

    The first counts whole. Every other begins `stride` later than the one before and counts what that did
    not have, so that its targets have at least `block_size` − `stride` + 1 tokens before them; with a stride
    of `block_size` the windows are blocks side by side.
    Source: the sliding window of Hugging Face's guide to perplexity.

    Args:
        start: of the part.
        stop: past its end.
        block_size: most targets of a window.
        stride: from 1 to `block_size`.
    """
    counted, begin = start, start
    while counted < stop:
        end = min(begin + block_size, stop)
        yield Window(begin, end, end - counted)
        counted, begin = end, begin + stride


@dataclass(frozen=True)
class Ending:
    """The NLL in nats of the end of a text, and whether the likeliest tokens would have written it."""

    nll: float
    is_likeliest: bool


@torch.no_grad()
def token_nll(
    model: Any, tokens: NumberArray, parts: Iterable[Window], batch_tokens: int = 2048
) -> np.ndarray:
    """The NLL in nats of every token of a stream that a window counts; 0 of the others.

    Windows are read side by side; the output layer is asked for what counts only.

    Args:
        model: a GPT-2 in evaluation mode, or one with a PEFT adapter.
        tokens: the stream `(N,)`; its first token is read after its last, an end-of-text.
        parts: windows; those of one length next to each other are read together.
        batch_tokens: most tokens read at once, but for one window.

    Returns:
        float32 `(N,)`.
    """
    found = np.zeros(len(tokens), dtype=np.float32)
    for batch in _batches(parts, batch_tokens):
        rows = [torch.from_numpy(_before(tokens, window.start, window.stop)) for window in batch]
        inputs = pad_sequence(rows, batch_first=True)  # what fills a row up comes after all else
        hidden = hidden_states(model, inputs.to(model.device))
        counted = [hidden[row, w.stop - w.start - w.scored : w.stop - w.start] for row, w in enumerate(batch)]
        targets = np.concatenate([tokens[w.stop - w.scored : w.stop] for w in batch]).astype(np.int64)
        nll = _nll(model, torch.cat(counted), torch.from_numpy(targets).to(model.device)).cpu().numpy()
        place = 0
        for window in batch:
            found[window.stop - window.scored : window.stop] = nll[place : place + window.scored]
            place += window.scored
    return found


@torch.no_grad()
def endings(model: Any, texts: Sequence[tuple[list[int], list[int]]], batch_size: int = 16) -> list[Ending]:
    """How a model predicts the end of each text after all that comes before it.

    Args:
        model: a GPT-2 in evaluation mode, or one with a PEFT adapter.
        texts: ids of what comes before, at least one, and of the end, at most as many as the context; of
            the former the newest are read where both are longer than the context.
        batch_size: texts read side by side; those of about one length are.
    """
    found: dict[int, Ending] = {}
    by_length = sorted(range(len(texts)), key=lambda number: len(texts[number][0]) + len(texts[number][1]))
    for start in range(0, len(texts), batch_size):
        numbers = by_length[start : start + batch_size]
        whole = ([*before, *end] for before, end in (texts[number] for number in numbers))
        rows = [ids[-context_of(model) - 1 :] for ids in whole]
        inputs = pad_sequence([torch.tensor(ids[:-1]) for ids in rows], batch_first=True)
        hidden = hidden_states(model, inputs.to(model.device))
        for number, ids, states in zip(numbers, rows, hidden, strict=True):
            end = torch.tensor(texts[number][1], device=model.device)
            logits = gpt2_of(model).lm_head(states[len(ids) - 1 - len(end) : len(ids) - 1]).float()
            is_likeliest = bool((logits.argmax(-1) == end).all())
            found[number] = Ending(cross_entropy(logits, end, reduction="sum").item(), is_likeliest)
    return [found[number] for number in range(len(texts))]


def _batches(parts: Iterable[Window], batch_tokens: int) -> Iterator[list[Window]]:
    batch: list[Window] = []
    longest = 0
    for window in parts:
        longest = max(longest, window.stop - window.start)
        if batch and longest * (len(batch) + 1) > batch_tokens:
            yield batch
            batch, longest = [], window.stop - window.start
        batch.append(window)
    if batch:
        yield batch


def _before(tokens: NumberArray, start: int, stop: int) -> np.ndarray:
    """The token before each of `start` … `stop`−1."""
    first = tokens[start - 1 : start] if start else tokens[len(tokens) - 1 :]
    return np.concatenate([first, tokens[start : stop - 1]]).astype(np.int64)


def _nll(model: Any, hidden: Tensor, targets: Tensor) -> Tensor:
    """Float32 `(M,)` of hidden states `(M, D)`."""
    head = gpt2_of(model).lm_head
    rows = max(1, _LOGITS // head.weight.shape[0])
    parts = zip(hidden.split(rows), targets.split(rows), strict=True)
    return torch.cat([cross_entropy(head(part).float(), wanted, reduction="none") for part, wanted in parts])
