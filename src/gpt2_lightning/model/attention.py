"""Attention in rows where each position sees all that come before it."""

from collections.abc import Iterator
from contextlib import contextmanager

from transformers import AttentionInterface, GPT2LMHeadModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

_NAME = "causal_sdpa"


@contextmanager
def plainly_causal(model: GPT2LMHeadModel) -> Iterator[None]:
    """Within, the model's attention is causal without looking for a mask: the same numbers.

    For rows without padding, cache and isolated documents. Otherwise transformers looks in the position ids
    of every forward pass for documents, which waits for a GPU, and a compiled body builds a mask in each.
    """
    config = model.config
    before = config._attn_implementation
    if before == "sdpa":
        if _NAME not in ALL_ATTENTION_FUNCTIONS.valid_keys():
            AttentionInterface.register(_NAME, sdpa_attention_forward)
        config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = before
