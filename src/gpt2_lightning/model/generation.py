"""Continuing texts: several at once, past the context's end, as text that appears."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from gpt2_lightning.data.tokenizer import end_of_text_id
from gpt2_lightning.model.adaptation import adapter_of, gpt2_of, virtual_tokens
from gpt2_lightning.model.kv_cache import prefix_of
from gpt2_lightning.model.sampling import Chooser, Sampling

Show = Callable[[int, str], None]
"""Is given the number of a text, and what has come to it."""


def continue_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[str],
    sampling: Sampling,
    seeds: Sequence[int] | None = None,
    show: Show | None = None,
) -> list[str]:
    """What the model writes after each prompt, without the prompt.

    Each text is what its prompt and seed would give alone, up to the rounding of a batch. The model's mode
    and the random state stay as they were.

    Args:
        model: a GPT-2, or one with a PEFT adapter.
        tokenizer: the one it was trained with.
        prompts: texts to continue; an empty one starts from end-of-text.
        sampling: how tokens are chosen.
        seeds: one for each prompt; `sampling.seed` for all if not given.
        show: gets each text as it comes, in pieces of whole characters.
    """
    ids = [prompt_ids(tokenizer, prompt) for prompt in prompts]
    texts = [Continuation(tokenizer, sampling.stop_texts) for _ in prompts]
    end_of_text = end_of_text_id(tokenizer)
    counts = [0] * len(prompts)

    def take(row: int, token: int) -> bool:
        counts[row] += 1
        is_over = token == end_of_text or counts[row] == sampling.max_new_tokens
        piece = "" if token == end_of_text else texts[row].add(token)
        is_over = is_over or texts[row].is_stopped
        piece += texts[row].finish() if is_over else ""
        if show and piece:
            show(row, piece)
        return is_over

    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            chooser = Chooser(
                ids, sampling, seeds or [sampling.seed] * len(ids), model.config.vocab_size, model.device
            )
            _Texts(model, ids).generate(chooser, take)
    finally:
        model.train(was_training)
    return [text.text for text in texts]


def context_of(model: Any) -> int:
    """Positions for text: the model's, less the virtual tokens of its adapter."""
    return model.config.n_positions - virtual_tokens(adapter_of(model))


def prompt_ids(tokenizer: PreTrainedTokenizerFast, prompt: str) -> list[int]:
    """The ids that a text starts from: the prompt's, or end-of-text for an empty one."""
    ids = tokenizer(prompt, add_special_tokens=False, verbose=False)["input_ids"]
    return cast(list[int], ids) or [end_of_text_id(tokenizer)]


class Continuation:
    """A text as its tokens come: in whole characters, and ended before the first stop text.

    Args:
        tokenizer: of the tokens.
        stop: texts that end it.

    Attributes:
        text: so far, without what may become a stop text.
        is_stopped: whether one has come.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, stop: Sequence[str] = ()) -> None:
        self._backend = tokenizer.backend_tokenizer
        self._stop = stop
        self._open: list[int] = []  # tokens since the last one that ended with a character
        self._taken = 0  # characters of these that are known
        self._held = ""
        self.text = ""
        self.is_stopped = False

    def add(self, token: int) -> str:
        """Take the next token; returns what it has made certain, which may be nothing."""
        self._held += self._characters(token)
        ends = [place for stop in self._stop if (place := self._held.find(stop)) >= 0]
        if ends:
            self.is_stopped = True
            self._held = self._held[: min(ends)]
        may_be_stop = 0 if ends else max((_overlap(self._held, stop) for stop in self._stop), default=0)
        return self._let_go(len(self._held) - may_be_stop)

    def _characters(self, token: int) -> str:
        """Whole characters that a token completes; what it begins is decoded as one U+FFFD, the last."""
        self._open.append(token)
        text = self._backend.decode(self._open, skip_special_tokens=True)
        whole = text.removesuffix("\N{REPLACEMENT CHARACTER}")
        new, self._taken = whole[self._taken :], len(whole)
        if whole == text:
            self._open, self._taken = [], 0
        return new

    def finish(self) -> str:
        """What was held back; half a character at the end of the text is left out."""
        return self._let_go(len(self._held))

    def _let_go(self, count: int) -> str:
        piece, self._held = self._held[:count], self._held[count:]
        self.text += piece
        return piece


def _overlap(text: str, stop: str) -> int:
    """Characters at the end of a text that a stop text starts with."""
    return next((n for n in range(min(len(text), len(stop)), 0, -1) if stop.startswith(text[-n:])), 0)


class _Texts:
    """Texts that a model continues side by side, one token each at a time.

    Each text has its own first token in the context: when the context is full, the newest half of it is read
    again. The last tokens of all texts stand at the same place of the cache; a shorter text is masked before
    its start.
    """

    def __init__(self, model: Any, ids: list[list[int]]) -> None:
        self._model = model
        self._context = context_of(model)
        self._virtual = model.config.n_positions - self._context
        self._forward = gpt2_of(model) if self._virtual else model  # the virtual tokens are in the cache
        self._ids = [list(each) for each in ids]
        self._start = [max(0, len(each) - self._context) for each in ids]
        self._rows = list(range(len(ids)))  # those that continue

    def generate(self, chooser: Chooser, take: Callable[[int, int], bool]) -> None:
        """Add tokens to every text until `take`, which gets its number and the token, says that it ends."""
        logits = self._read()
        while True:
            tokens = chooser.choose(logits, self._rows)
            for row, token in zip(self._rows, tokens, strict=True):
                self._ids[row].append(token)
            going_on = [n for n, row in enumerate(self._rows) if not take(row, tokens[n])]
            if not going_on:
                return
            self._keep(going_on)
            logits = self._step()

    def _length(self, row: int) -> int:
        return len(self._ids[row]) - self._start[row]

    def _read(self) -> Tensor:
        """Read the texts; returns the logits of the tokens that come next, `(B, V)`."""
        width = max(map(self._length, self._rows))
        texts = [torch.tensor(self._ids[row][self._start[row] :]) for row in self._rows]
        inputs = pad_sequence(texts, batch_first=True, padding_side="left")
        self._cache: Any = prefix_of(self._model, len(self._rows))
        filler = torch.tensor([width - self._length(row) for row in self._rows])
        self._mask = torch.arange(width) >= filler[:, None]  # (B, width)
        return self._logits(inputs, (torch.arange(width) - filler[:, None]).clamp(min=0))

    def _step(self) -> Tensor:
        """Read the newest token of every text; returns the logits of the next, `(B, V)`."""
        if past := [n for n, row in enumerate(self._rows) if self._length(row) > self._context]:
            self._read_half(past)
        inputs = torch.tensor([[self._ids[row][-1]] for row in self._rows])
        self._mask = torch.cat([self._mask, torch.ones(len(self._rows), 1, dtype=torch.bool)], dim=1)
        return self._logits(inputs, torch.tensor([[self._length(row) - 1] for row in self._rows]))

    def _read_half(self, numbers: list[int]) -> None:
        """Read the newest half of the context of some texts again, all but its last token."""
        count = max(1, self._context // 2) - 1
        for number in numbers:
            row = self._rows[number]
            self._start[row] = len(self._ids[row]) - count - 1
            self._mask[number] = torch.arange(self._mask.shape[1]) >= self._mask.shape[1] - count
        if count:
            cache: Any = prefix_of(self._model, len(numbers))
            halves = torch.tensor(
                [self._ids[row][-count - 1 : -1] for row in map(self._rows.__getitem__, numbers)]
            )
            positions = torch.arange(count).expand_as(halves) + self._virtual
            self._forward(
                input_ids=halves.to(self._model.device),
                position_ids=positions.to(self._model.device),
                past_key_values=cache,
                logits_to_keep=1,
                use_cache=True,
            )
            for layer, new in zip(self._cache.layers, cache.layers, strict=True):
                layer.replace(numbers, new.keys[:, :, -count:], new.values[:, :, -count:])
        self._forget()

    def _forget(self) -> None:
        """Leave out the oldest places, which no text looks at any more."""
        unseen = self._mask.shape[1] - max(self._length(row) - 1 for row in self._rows)
        self._mask = self._mask[:, unseen:]
        for layer in self._cache.layers:
            layer.cut(self._virtual, self._virtual + unseen)

    def _keep(self, numbers: list[int]) -> None:
        """Continue some of the texts only."""
        if len(numbers) == len(self._rows):
            return
        self._rows = [self._rows[number] for number in numbers]
        self._cache.batch_select_indices(torch.tensor(numbers, device=self._model.device))
        self._mask = self._mask[numbers]

    def _logits(self, inputs: Tensor, positions: Tensor) -> Tensor:
        device = self._model.device
        output = self._forward(
            input_ids=inputs.to(device),
            attention_mask=self._attention(inputs.shape[1]),
            position_ids=positions.to(device) + self._virtual,
            past_key_values=self._cache,
            logits_to_keep=1,
            use_cache=True,
        )
        return output.logits[:, -1]

    def _attention(self, queries: int) -> Tensor | None:
        """Which places of the cache each new token may look at, bool `(B, 1, queries, places)`.

        `None`, where that is all that come before: attention is faster without a mask.
        """
        if self._mask.all():
            return None
        places = self._mask.shape[1]
        virtual = torch.ones(len(self._mask), 1, queries, self._virtual, dtype=torch.bool)
        order = torch.arange(places) <= torch.arange(places - queries, places)[:, None]  # (queries, places)
        seen = self._mask[:, None, None] & order  # (B, 1, queries, places)
        return torch.cat([virtual, seen], dim=3).to(self._model.device)
