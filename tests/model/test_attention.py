import pytest
import torch

from gpt2_lightning.model.architecture import Architecture, build
from gpt2_lightning.model.attention import plainly_causal


@pytest.fixture
def model():
    torch.manual_seed(0)
    shape = Architecture(n_layer=2, n_head=2, n_embd=16, n_positions=8)
    return build(shape, vocab_size=20, end_of_text=0).eval()


def test_the_numbers_are_the_same_and_no_mask_is_looked_for(model, monkeypatch: pytest.MonkeyPatch):
    ids = torch.arange(16).reshape(2, 8)
    masked = model(ids, use_cache=False).logits
    seen = []

    def documents(position_ids: torch.Tensor) -> None:
        seen.append(position_ids)

    monkeypatch.setattr("transformers.masking_utils.find_packed_sequence_indices", documents)
    model(ids, use_cache=False)
    assert seen, "by itself transformers looks for documents"
    seen.clear()
    with plainly_causal(model):
        plain = model(ids, use_cache=False).logits
    assert not seen
    assert torch.equal(plain, masked)


def test_no_position_sees_what_comes_after(model):
    ids = torch.arange(8)[None]
    changed = ids.clone()
    changed[0, 5:] = 19
    with plainly_causal(model):
        before, after = (model(each, use_cache=False).logits[0, :5] for each in (ids, changed))
    assert torch.equal(before, after)


def test_the_attention_is_what_it_was_also_after_an_error(model):
    def attention_in_a_failure() -> str:
        with plainly_causal(model):
            inside = model.config._attn_implementation
            raise ZeroDivisionError(inside)

    with pytest.raises(ZeroDivisionError, match="causal_sdpa"):
        attention_in_a_failure()
    assert model.config._attn_implementation == "sdpa"


def test_another_attention_stays(model):
    model.set_attn_implementation("eager")
    with plainly_causal(model):
        assert model.config._attn_implementation == "eager"
