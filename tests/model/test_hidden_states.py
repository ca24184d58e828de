"""What the output layer gets: of plain rows, of rows with several documents, and behind virtual tokens."""

import pytest
import torch
from peft import PromptTuningConfig
from transformers import GPT2LMHeadModel

from gpt2_lightning.model.adaptation import inject
from gpt2_lightning.model.architecture import Architecture, build
from gpt2_lightning.model.hidden_states import hidden_states


@pytest.fixture
def model() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    shape = Architecture(n_layer=2, n_head=2, n_embd=16, n_positions=16, resid_pdrop=0.0, embd_pdrop=0.0)
    return build(shape, vocab_size=50, end_of_text=0).eval()


def test_the_output_layer_makes_the_models_logits_of_them(model: GPT2LMHeadModel):
    ids = torch.tensor([[0, 5, 6, 7]])
    hidden = hidden_states(model, ids)
    assert hidden.shape == (1, 4, 16)
    torch.testing.assert_close(model.lm_head(hidden), model(ids).logits)


def test_documents_of_a_row_do_not_see_each_other(model: GPT2LMHeadModel):
    """A change in document 1 moves nothing in document 2; without positions from zero it does."""
    row = torch.tensor([[0, 5, 6, 7, 0, 8, 9, 10]])
    other = torch.tensor([[0, 15, 26, 37, 0, 8, 9, 10]])
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3]])
    first, second = (hidden_states(model, ids, positions)[:, 4:] for ids in (row, other))
    assert torch.equal(first, second)
    torch.testing.assert_close(first, hidden_states(model, row[:, 4:]))
    assert not torch.equal(hidden_states(model, row)[:, 4:], hidden_states(model, other)[:, 4:])


@pytest.mark.filterwarnings("default")  # PEFT 0.21 calls transformers 5.23 by names that are old there
def test_those_of_virtual_tokens_are_left_out(model: GPT2LMHeadModel):
    ids = torch.tensor([[0, 5, 6, 7]])
    plain = hidden_states(model, ids)
    adapted, _ = inject(model, PromptTuningConfig(num_virtual_tokens=3), "base")
    hidden = hidden_states(adapted.eval(), ids)
    assert hidden.shape == plain.shape
    assert not torch.equal(hidden, plain), "they are seen"


def test_the_model_is_whole_again_after_an_error(model: GPT2LMHeadModel):
    head, attention = model.lm_head, model.config._attn_implementation
    with pytest.raises(IndexError):
        hidden_states(model, torch.tensor([[50]]))
    assert model.lm_head is head
    assert model.config._attn_implementation == attention
