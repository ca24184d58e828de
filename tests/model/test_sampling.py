import pytest
import torch

from gpt2_lightning.data.tokenizer import ByteLevelBPE
from gpt2_lightning.errors import InputError
from gpt2_lightning.model.architecture import Architecture, build
from gpt2_lightning.model.sampling import Sampling, continue_text, whole_characters


@pytest.fixture(scope="module")
def tokenizer():
    return ByteLevelBPE(280).build(["the cat sat on the mat and the dog sat on the cat"])


@pytest.fixture
def model(tokenizer):
    torch.manual_seed(0)
    return build(Architecture(n_layer=1, n_head=1, n_embd=16, n_positions=32), len(tokenizer), 0)


def test_same_seed_same_text_and_another_seed_another(model, tokenizer):
    texts = [continue_text(model, tokenizer, "the cat", Sampling(seed=seed)) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_temperature_zero_takes_the_likeliest(model, tokenizer):
    text = continue_text(model, tokenizer, "the cat", Sampling(temperature=0, max_new_tokens=1))
    ids = torch.tensor([tokenizer("the cat")["input_ids"]])
    likeliest = model.eval()(ids).logits[0, -1].argmax()
    assert text == whole_characters(tokenizer.decode([likeliest], skip_special_tokens=True))


def test_top_k_one_is_greedy_at_any_temperature(model, tokenizer):
    greedy = continue_text(model, tokenizer, "the", Sampling(temperature=0))
    assert continue_text(model, tokenizer, "the", Sampling(temperature=5.0, top_k=1, seed=9)) == greedy


def test_random_state_and_mode_stay_as_they_were(model, tokenizer):
    before = torch.get_rng_state()
    continue_text(model, tokenizer, "", Sampling())
    assert torch.equal(torch.get_rng_state(), before)
    assert all(part.training for part in model.modules())


def test_generation_ends_at_the_context(model, tokenizer):
    class Tokens:
        seen: list[int] = []

        def put(self, value: torch.Tensor) -> None:
            self.seen += value.flatten().tolist()

        def end(self) -> None:
            pass

    model.lm_head.weight.data[0] = -10.0  # end-of-text never comes
    tokens = Tokens()
    continue_text(model, tokenizer, "the cat", Sampling(max_new_tokens=10_000), tokens)
    assert len(tokens.seen) == 32


def test_prompt_longer_than_the_context_is_refused(model, tokenizer):
    with pytest.raises(InputError, match=r"context 32: shorten the prompt by at least \d+ tokens"):
        continue_text(model, tokenizer, "the cat " * 40, Sampling())


def test_text_never_ends_with_half_a_character(tokenizer):
    ids = tokenizer("智能", add_special_tokens=False)["input_ids"]
    assert len(ids) == 6
    assert [whole_characters(tokenizer.decode(ids[:n])) for n in (3, 4, 5, 6)] == ["智", "智", "智", "智能"]
