"""How each next token is chosen."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt2_lightning.ranges import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    PositiveUnitInterval,
    Seed,
)


@dataclass(frozen=True)
class Sampling:
    """How each next token is chosen, and when a text ends.

    Args:
        max_new_tokens: most tokens to add; a text also ends with an end-of-text token. Past the end of the
            model's context the newest half of it is read on.
        temperature: divides the logits; 0 always takes the likeliest token.
        top_k: chooses among that many likeliest tokens only; 0 among all.
        top_p: chooses among the likeliest tokens that together have this probability. Source:
            Holtzman et al. 2020.
        repetition_penalty: divides the positive logits, and multiplies the negative ones, of tokens that
            are in the text already; 1 is off. Source: Keskar et al. 2019.
        no_repeat_ngram: length of token sequences that come once only; 0 is off.
        stop: texts before which the text ends; one, or several as '["...", "..."]'.
        seed: of the random choices; the same seed and prompt give the same text, alone or among others.
    """

    max_new_tokens: PositiveInt = 200
    temperature: NonNegativeFloat = 0.7
    top_k: NonNegativeInt = 50
    top_p: PositiveUnitInterval = 0.9
    repetition_penalty: PositiveFloat = 1.0
    no_repeat_ngram: NonNegativeInt = 0
    stop: tuple[str, ...] | str = ()
    seed: Seed = 0

    @property
    def stop_texts(self) -> tuple[str, ...]:
        """Those of `stop`, empty ones left out."""
        return tuple(text for text in ((self.stop,) if isinstance(self.stop, str) else self.stop) if text)


def likeliest(logits: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """What may be chosen after temperature, top-k and top-p, in this order.

    Args:
        logits: `(B, V)`.
        sampling: with a temperature above 0.

    Returns:
        The scores `(B, K)`, `-inf` where top-p leaves a token out, and the tokens they belong to; from the
        likeliest on wherever top-k or top-p is given.
    """
    if 0 < sampling.top_k < logits.shape[1]:
        scores, tokens = logits.topk(sampling.top_k)
    elif sampling.top_p < 1:
        scores, tokens = logits.sort(descending=True)
    else:
        scores, tokens = logits, torch.arange(logits.shape[1], device=logits.device).expand_as(logits)
    scores = (scores - scores.amax(dim=1, keepdim=True)) / sampling.temperature
    if sampling.top_p < 1:
        probabilities = scores.softmax(dim=1)
        likelier = probabilities.cumsum(dim=1) - probabilities  # together
        scores = scores.masked_fill(likelier >= sampling.top_p, -torch.inf)
    return scores, tokens


class Chooser:
    """Chooses the tokens of several texts, each with its own random numbers.

    Args:
        prompts: the ids that each text starts from.
        sampling: how tokens are chosen.
        seeds: of the texts.
        vocab_size: V.
        device: of the logits.
    """

    def __init__(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seeds: Sequence[int],
        vocab_size: int,
        device: torch.device,
    ) -> None:
        self._sampling = sampling
        self._random = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._seen: Tensor | None = None
        if sampling.repetition_penalty != 1:
            self._seen = torch.zeros(len(prompts), vocab_size, dtype=torch.bool, device=device)
            for row, prompt in enumerate(prompts):
                self._seen[row, list(prompt)] = True
        self._ngrams = [Ngrams(sampling.no_repeat_ngram, prompt) for prompt in prompts]

    def choose(self, logits: Tensor, rows: Sequence[int]) -> list[int]:
        """The next token of each of `rows`, whose `logits` are `(B, V)`."""
        logits = logits.float()
        if self._seen is not None:
            penalty = self._sampling.repetition_penalty
            punished = torch.where(logits < 0, logits * penalty, logits / penalty)
            logits = torch.where(self._seen[list(rows)], punished, logits)
        if self._sampling.no_repeat_ngram:
            logits = logits.clone()
            for number, row in enumerate(rows):
                logits[number, list(self._ngrams[row].completing)] = -torch.inf
        tokens = self._draw(logits, rows).tolist()
        for row, token in zip(rows, tokens, strict=True):
            if self._seen is not None:
                self._seen[row, token] = True
            self._ngrams[row].add(token)
        return tokens

    def _draw(self, logits: Tensor, rows: Sequence[int]) -> Tensor:
        if self._sampling.temperature == 0:
            return logits.argmax(dim=1)
        scores, tokens = likeliest(logits, self._sampling)
        points = torch.stack([torch.rand((), generator=self._random[row]) for row in rows])
        totals = scores.softmax(dim=1).cpu().double().cumsum(dim=1)  # (B, K); Apple's GPUs have no float64
        place = (totals <= points.double()[:, None] * totals[:, -1:]).sum(dim=1)
        return tokens.gather(1, place.to(tokens.device)[:, None])[:, 0]


class Ngrams:
    """The sequences of n tokens of one text, to keep each from coming again.

    Args:
        n: their length; 0 keeps none.
        tokens: the text's first.
    """

    def __init__(self, n: int, tokens: Sequence[int] = ()) -> None:
        self._n = n
        self._after: dict[tuple[int, ...], set[int]] = {}  # what has followed n-1 tokens
        self._last: tuple[int, ...] = ()  # n-1 tokens, or all there are
        for token in tokens:
            self.add(token)

    def add(self, token: int) -> None:
        """Take the text's next token."""
        if not self._n:
            return
        if len(self._last) == self._n - 1:
            self._after.setdefault(self._last, set()).add(token)
        self._last = (*self._last, token)[-(self._n - 1) :] if self._n > 1 else ()

    @property
    def completing(self) -> set[int]:
        """The tokens that would complete a sequence that was there before."""
        return self._after.get(self._last, set()) if len(self._last) == self._n - 1 else set()
