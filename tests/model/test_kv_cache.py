"""The cache holds what transformers' own does, and lets texts go, shift and begin again."""

import pytest
import torch
from peft import PrefixTuningConfig, PromptTuningConfig
from transformers.cache_utils import DynamicLayer

from gpt2_lightning.model.adaptation import inject
from gpt2_lightning.model.architecture import Architecture, build
from gpt2_lightning.model.kv_cache import GrowingLayer, prefix_of


def states(length: int, batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values `(B, H, T, D)`, no two elements the same."""
    keys = torch.arange(batch * 2 * length * 4.0).reshape(batch, 2, length, 4)
    return keys, -keys


def filled() -> GrowingLayer:
    layer = GrowingLayer()
    layer.update(*states(5))
    return layer


def test_it_grows_as_transformers_own_layer_does():
    ours, theirs = GrowingLayer(), DynamicLayer()
    for length in (3, 1, 1, 7, 1):
        found, expected = (layer.update(*states(length)) for layer in (ours, theirs))
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert ours.get_seq_length() == 13


def test_texts_that_are_over_are_let_go_and_the_others_grow_on():
    layer = filled()
    layer.batch_select_indices(torch.tensor([0, 2]))
    keys, values = layer.update(*states(1, batch=2))
    assert torch.equal(keys[:, :, :5], states(5)[0][[0, 2]])
    assert torch.equal(values[:, :, 5:], states(1, batch=2)[1])


def test_places_are_cut_out():
    layer = filled()
    layer.cut(1, 3)
    assert torch.equal(layer.keys, states(5)[0][:, :, [0, 3, 4]])
    layer.update(*states(1))
    assert layer.get_seq_length() == 4


def test_the_newest_places_of_some_texts_are_replaced():
    layer = filled()
    layer.replace([1], torch.zeros(1, 2, 2, 4), torch.ones(1, 2, 2, 4))
    assert torch.equal(layer.keys[1, :, :3], states(5)[0][1, :, :3])
    assert (layer.keys[1, :, 3:] == 0).all()
    assert (layer.values[1, :, 3:] == 1).all()
    assert torch.equal(layer.keys[[0, 2]], states(5)[0][[0, 2]])


@pytest.mark.filterwarnings("default")  # PEFT 0.21 calls transformers 5.23 by names that are old there
@pytest.mark.parametrize("kind", [None, PrefixTuningConfig, PromptTuningConfig])
def test_a_text_starts_behind_the_virtual_tokens_of_its_adapter(kind: type | None):
    shape = Architecture(n_layer=2, n_head=2, n_embd=16, n_positions=16)
    model = build(shape, vocab_size=50, end_of_text=0)
    adapted = inject(model, kind(num_virtual_tokens=4), "base")[0] if kind else model
    cache = prefix_of(adapted.eval(), batch_size=3)
    assert len(cache.layers) == 2
    assert cache.get_seq_length() == (4 if kind else 0)
