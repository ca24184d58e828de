"""Keys and values of the tokens that a model has read, for several texts at once."""

from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from gpt2_lightning.model.adaptation import adapter_of, gpt2_of, virtual_tokens


class GrowingLayer(DynamicLayer):
    """Appends in place, in a buffer that doubles, where `DynamicLayer` copies everything for each token."""

    keys: Tensor
    values: Tensor
    _buffers: tuple[Tensor, Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[2]
        if self._buffers is None or end > self._buffers[0].shape[2]:
            self._grow(key_states, start, 2 * end)
        assert self._buffers is not None
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = states
        self._show(end)
        return self.keys, self.values

    def _grow(self, like: Tensor, length: int, size: int) -> None:
        batch, heads, _, width = like.shape
        buffers = (like.new_empty(batch, heads, size, width), like.new_empty(batch, heads, size, width))
        if length:
            for buffer, states in zip(buffers, (self.keys, self.values), strict=True):
                buffer[:, :, :length] = states
        self._buffers = buffers

    def _show(self, length: int) -> None:
        assert self._buffers is not None
        self.keys, self.values = (buffer[:, :, :length] for buffer in self._buffers)

    def batch_select_indices(self, indices: Tensor) -> None:
        assert self._buffers is not None
        length = self.get_seq_length()
        self._buffers = (self._buffers[0][indices], self._buffers[1][indices])
        self._show(length)

    def replace(self, rows: list[int], keys: Tensor, values: Tensor) -> None:
        """Put other keys and values `(B, H, T, D)` in the newest T places of some texts."""
        self.keys[rows, :, -keys.shape[2] :] = keys
        self.values[rows, :, -keys.shape[2] :] = values

    def cut(self, start: int, stop: int) -> None:
        """Leave out the places `start` … `stop`−1 of every text."""
        assert self._buffers is not None
        length = self.get_seq_length()
        for buffer in self._buffers:
            buffer[:, :, start : start + length - stop] = buffer[:, :, stop:length].clone()
        self._show(start + length - stop)


def prefix_of(model: Any, batch_size: int) -> Cache:
    """The cache before the first token of a text: the virtual tokens of an adapter, or nothing.

    Args:
        model: a GPT-2, or one with a PEFT adapter.
        batch_size: number of texts.
    """
    base = gpt2_of(model)
    layers: list[Any] = [GrowingLayer() for _ in range(base.config.n_layer)]
    cache = Cache(layers=layers)
    if virtual_tokens(adapter_of(model)):
        prompt = model.get_prompt(batch_size)
        if isinstance(prompt, Tensor):  # embeddings
            base.transformer(inputs_embeds=prompt.to(base.dtype), past_key_values=cache, use_cache=True)
        else:  # keys and values
            for layer, given in zip(layers, prompt.layers, strict=True):
                layer.update(given.keys, given.values)
    return cache
