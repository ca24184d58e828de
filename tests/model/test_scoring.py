"""The NLL of each token, against other ways to the same numbers."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from peft import PromptTuningConfig

from gpt2_lightning.model.adaptation import inject
from gpt2_lightning.model.architecture import Architecture, build
from gpt2_lightning.model.scoring import Ending, Window, endings, token_nll, windows

END = 0


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    model = build(Architecture(n_layer=2, n_head=2, n_embd=16, n_positions=16), 40, END)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)
    return model.eval()


@pytest.fixture(scope="module")
def tokens() -> np.ndarray:
    return np.append(np.random.default_rng(0).integers(1, 40, 99), END).astype("<u2")


def test_windows_by_hand():
    assert list(windows(0, 10, 4, 2)) == [
        Window(0, 4, 4), Window(2, 6, 2), Window(4, 8, 2), Window(6, 10, 2),
    ]  # fmt: skip
    assert list(windows(5, 10, 4, 4)) == [Window(5, 9, 4), Window(9, 10, 1)]
    assert list(windows(0, 3, 4, 1)) == [Window(0, 3, 3)]


@pytest.mark.parametrize("stride", [1, 3, 8])
def test_every_token_counts_once(stride: int):
    counted = [token for w in windows(3, 50, 8, stride) for token in range(w.stop - w.scored, w.stop)]
    assert counted == list(range(3, 50))


@pytest.mark.parametrize(("block_size", "stride"), [(15, 5), (15, 1), (7, 3)])
def test_it_is_the_sliding_window_of_hugging_face(
    model: Any, tokens: np.ndarray, block_size: int, stride: int
):
    """As in their guide: labels shifted inside the model, -100 for what a window before has counted."""
    ids = torch.tensor([[END, *tokens.tolist()]])
    total = count = previous = 0
    for begin in range(0, ids.shape[1], stride):
        end = min(begin + block_size + 1, ids.shape[1])
        labels = ids[:, begin:end].clone()
        labels[:, : -(end - previous)] = -100
        with torch.no_grad():
            loss = model(ids[:, begin:end], labels=labels).loss
        number = int((labels[:, 1:] != -100).sum())
        total, count, previous = total + loss.item() * number, count + number, end
        if end == ids.shape[1]:
            break
    found = token_nll(model, tokens, windows(0, len(tokens), block_size, stride), 64)
    assert count == len(tokens)
    assert found.sum() / len(tokens) == pytest.approx(total / count, rel=1e-5)


def test_a_uniform_model_costs_the_logarithm_of_its_vocabulary(tokens: np.ndarray):
    uniform = build(Architecture(n_layer=1, n_head=1, n_embd=8, n_positions=16), 40, END).eval()
    torch.nn.init.zeros_(uniform.lm_head.weight)
    found = token_nll(uniform, tokens, windows(0, len(tokens), 16, 4))
    np.testing.assert_allclose(found, math.log(40), rtol=1e-6)


def test_how_many_are_read_side_by_side_does_not_matter(model: Any, tokens: np.ndarray):
    parts = [*windows(0, 50, 16, 4), *windows(50, 53, 16, 4), *windows(53, 100, 16, 7)]
    one, many = (token_nll(model, tokens, parts, batch_tokens) for batch_tokens in (1, 1000))
    np.testing.assert_allclose(one, many, rtol=1e-4, atol=1e-5)


def test_a_document_apart_does_not_see_the_one_before(model: Any, tokens: np.ndarray):
    other = tokens.copy()
    other[:49], other[49], tokens = 7, END, np.where(np.arange(100) == 49, END, tokens)
    parts = list(windows(50, 100, 16, 8))
    np.testing.assert_array_equal(token_nll(model, tokens, parts), token_nll(model, other, parts))


def test_virtual_tokens_of_an_adapter_are_read_before(model: Any, tokens: np.ndarray):
    adapted, _ = inject(copy.deepcopy(model), PromptTuningConfig(num_virtual_tokens=4), "")
    adapted.eval()
    found = token_nll(adapted, tokens, [Window(0, 12, 12)])
    with torch.no_grad():
        logits = adapted(input_ids=torch.tensor([[END, *tokens[:11].tolist()]])).logits[0, -12:]
    expected = torch.nn.functional.cross_entropy(
        logits, torch.tensor(tokens[:12].astype(int)), reduction="none"
    )
    np.testing.assert_allclose(found[:12], expected.numpy(), rtol=1e-5)


def test_ends_of_texts_side_by_side_are_what_each_is_alone(model: Any, tokens: np.ndarray):
    ids = tokens.tolist()
    texts = [(ids[:3], ids[3:5]), (ids[5:6], ids[6:9]), (ids[:40], ids[40:42]), (ids[:9], ids[9:10])]
    for (before, end), found in zip(texts, endings(model, texts, batch_size=3), strict=True):
        read = torch.tensor([[*before, *end]])[:, -17:]  # the context, and what it is to give
        with torch.no_grad():
            logits = model(read[:, :-1]).logits[0, -len(end) :]
        nll = torch.nn.functional.cross_entropy(logits, read[0, -len(end) :], reduction="sum").item()
        assert found.nll == pytest.approx(nll, rel=1e-5)
    likeliest = model(torch.tensor([ids[:3]])).logits[0, -1].argmax().item()
    assert endings(model, [(ids[:3], [likeliest])])[0].is_likeliest
    assert not endings(model, [(ids[:3], [likeliest, END])])[0].is_likeliest
    assert endings(model, []) == []


def test_the_end_of_a_text_by_hand(model: Any):
    """A model that finds all of 40 tokens equally likely."""
    same = copy.deepcopy(model)
    for parameter in same.parameters():
        torch.nn.init.zeros_(parameter)
    assert endings(same, [([1, 2], [3, 4])]) == [Ending(pytest.approx(2 * math.log(40)), False)]
