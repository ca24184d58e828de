"""Attention in rows where each position sees all that come before it."""

from collections.abc import Iterator
from contextlib import contextmanager

from transformers import AttentionInterface, GPT2LMHeadModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

_NAME = "causal_sdpa"


@contextmanager
def plainly_causal(model: GPT2LMHeadModel) -> Iterator[None]:
    """Within, the model's attention is causal without a mask: less work, the same numbers.

    For rows without padding, cache and isolated documents. transformers looks at the position ids of every
    forward pass for documents, which waits for a GPU, and then makes a mask that torch's causal kernels do
    not need; for an attention that it has no mask for, it does neither.
    """
    config = model.config
    before = config._attn_implementation
    if before == "sdpa":
        AttentionInterface.register(_NAME, sdpa_attention_forward)
        config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = before
