"""The last hidden states of a model, from which losses and scores are computed."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn

from gpt2_lightning.model.adaptation import adapter_of, gpt2_of, virtual_tokens
from gpt2_lightning.model.attention import plainly_causal


def hidden_states(model: Any, input_ids: Tensor, position_ids: Tensor | None = None) -> Tensor:
    """The last hidden states `(B, T, D)`, without those of an adapter's virtual tokens.

    Where `position_ids` start again from zero, another document starts, which sees nothing of
    the one before: `transformers` does so only without an attention mask and without a cache.

    Args:
        model: a GPT-2, or one with a PEFT adapter, whose own forward pass runs.
        input_ids: int64 `(B, T)`.
        position_ids: of rows with several documents, int64 `(B, T)`.
    """
    gpt2 = gpt2_of(model)
    positions = {} if position_ids is None else {"position_ids": position_ids}
    is_plain = position_ids is None and not virtual_tokens(adapter_of(model))
    with _headless(gpt2), plainly_causal(gpt2) if is_plain else nullcontext():
        hidden = model(input_ids=input_ids, use_cache=False, **positions).logits  # (B, V + T, D)
    return hidden[:, -input_ids.shape[1] :]


@contextmanager
def _headless(gpt2: Any) -> Iterator[None]:
    """Inside the block, the model's "logits" are the input of its output layer."""
    head, gpt2.lm_head = gpt2.lm_head, nn.Identity()
    try:
        yield
    finally:
        gpt2.lm_head = head
