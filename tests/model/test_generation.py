"""Continuing texts: alone and among others, past the context, as a stream."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig

from gpt2_lightning.data.tokenizer import ByteLevelBPE, Bytes, Characters, end_of_text_id
from gpt2_lightning.model.adaptation import inject
from gpt2_lightning.model.architecture import Architecture, build
from gpt2_lightning.model.generation import (
    Continuation,
    context_of,
    continue_texts,
    prompt_ids,
)
from gpt2_lightning.model.sampling import Sampling
from tests.conftest import ROOT, continue_text

CONTEXT = 32
PROMPTS = ["the cat", "", "the cat sat on the mat and the dog sat on the cat, " * 3, "dog"]
LONG = Sampling(max_new_tokens=3 * CONTEXT, seed=3)
GREEDY = Sampling(max_new_tokens=3 * CONTEXT, temperature=0)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return ByteLevelBPE(280).build(["the cat sat on the mat and the dog sat on the cat"])


@pytest.fixture
def model(tokenizer: Any) -> Any:
    """A random model whose logits depend on what stands before."""
    torch.manual_seed(0)
    shape = Architecture(n_layer=2, n_head=2, n_embd=16, n_positions=CONTEXT)
    model = build(shape, len(tokenizer), end_of_text_id(tokenizer))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)
    return model


def adapted(model: Any, adapter: Any) -> Any:
    peft, names = inject(model, adapter, "base")
    with torch.no_grad():
        for name, parameter in peft.named_parameters():
            if name in names:
                parameter.normal_()
    return peft


def test_same_seed_same_text_and_another_seed_another(model: Any, tokenizer: Any):
    texts = [continue_text(model, tokenizer, "the cat", Sampling(seed=seed)) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_a_text_is_the_same_alone_and_among_others(model: Any, tokenizer: Any):
    """Also where they end, and leave the context, at different times."""
    together = continue_texts(model, tokenizer, PROMPTS, LONG)
    assert together == [continue_text(model, tokenizer, prompt, LONG) for prompt in PROMPTS]
    assert len(set(together)) == len(PROMPTS)


def test_greedy_text_is_that_of_transformers(model: Any, tokenizer: Any):
    ids = torch.tensor([prompt_ids(tokenizer, "the cat")])
    room = CONTEXT - ids.shape[1]
    expected = model.eval().generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=room, do_sample=False, pad_token_id=0
    )
    text = continue_text(model, tokenizer, "the cat", Sampling(max_new_tokens=room, temperature=0))
    assert text == tokenizer.decode(expected[0, ids.shape[1] :], skip_special_tokens=True).removesuffix("�")


def test_no_sequence_comes_again_as_in_transformers(model: Any, tokenizer: Any):
    ids = torch.tensor([prompt_ids(tokenizer, "the cat")])
    room = CONTEXT - ids.shape[1]
    options = {"max_new_tokens": room, "do_sample": False, "pad_token_id": 0}
    expected, plain = (
        model.eval().generate(ids, attention_mask=torch.ones_like(ids), no_repeat_ngram_size=n, **options)
        for n in (1, 0)
    )
    assert expected.tolist() != plain.tolist()
    sampling = Sampling(max_new_tokens=room, temperature=0, no_repeat_ngram=1)
    text = continue_text(model, tokenizer, "the cat", sampling)
    assert text == tokenizer.decode(expected[0, ids.shape[1] :], skip_special_tokens=True).removesuffix("�")


@pytest.mark.parametrize("adapter", [None, LoraConfig(target_modules=["c_attn"]), 4, -4])
def test_past_the_context_the_newest_half_is_read_anew(model: Any, tokenizer: Any, adapter: Any):
    """Against a model that reads everything again for each token."""
    if adapter is not None:
        kinds = {4: PrefixTuningConfig(num_virtual_tokens=4), -4: PromptTuningConfig(num_virtual_tokens=4)}
        model = adapted(model, kinds.get(adapter, adapter) if isinstance(adapter, int) else adapter)
    context = CONTEXT - 4 * isinstance(adapter, int)
    ids, start, new = prompt_ids(tokenizer, "the cat sat on"), 0, []
    model.eval()
    for _ in range(GREEDY.max_new_tokens):
        if len(ids) - start > context:
            start = len(ids) - context // 2
        with torch.no_grad():
            new.append(int(model(input_ids=torch.tensor([ids[start:]])).logits[0, -1].argmax()))
        ids.append(new[-1])
        if new[-1] == end_of_text_id(tokenizer):
            break
    assert len(new) > context
    text = continue_text(model, tokenizer, "the cat sat on", GREEDY)
    assert text == tokenizer.decode(new, skip_special_tokens=True).removesuffix("�")


def test_virtual_tokens_leave_the_rest_of_the_context_to_the_text(model: Any, tokenizer: Any):
    assert context_of(model) == CONTEXT
    few = adapted(model, PromptTuningConfig(num_virtual_tokens=CONTEXT - 8))
    assert context_of(few) == 8
    assert continue_text(few, tokenizer, "the", LONG)


@pytest.mark.parametrize("adapter", [None, PrefixTuningConfig(num_virtual_tokens=4)])
def test_the_cache_holds_no_more_than_the_context(model: Any, tokenizer: Any, adapter: Any):
    model = adapted(model, adapter) if adapter else model
    base = model.get_base_model() if adapter else model
    lengths: list[int] = []
    base.register_forward_hook(
        lambda _, args, kwargs, output: lengths.append(kwargs["past_key_values"].get_seq_length()),
        with_kwargs=True,
    )
    with torch.no_grad():
        base.transformer.wte.weight[end_of_text_id(tokenizer)] = 0  # so that no text ends early
    continue_texts(model, tokenizer, PROMPTS, replace(LONG, max_new_tokens=6 * CONTEXT))
    assert len(lengths) > 5 * CONTEXT
    assert max(lengths) == CONTEXT


def test_the_last_tokens_of_a_long_prompt_are_read(model: Any, tokenizer: Any):
    ids = prompt_ids(tokenizer, PROMPTS[2])
    assert len(ids) > CONTEXT
    end = str(tokenizer.decode(ids[-CONTEXT:]))
    assert prompt_ids(tokenizer, end) == ids[-CONTEXT:]
    assert continue_text(model, tokenizer, PROMPTS[2], LONG) == continue_text(model, tokenizer, end, LONG)


def test_what_is_shown_is_the_text_in_pieces(model: Any, tokenizer: Any):
    pieces: dict[int, list[str]] = {0: [], 1: []}
    texts = continue_texts(
        model, tokenizer, PROMPTS[:2], LONG, show=lambda row, piece: pieces[row].append(piece)
    )
    assert ["".join(each) for each in pieces.values()] == texts
    assert len(pieces[0]) > 20


def test_random_state_and_mode_stay_as_they_were(model: Any, tokenizer: Any):
    before = torch.get_rng_state()
    model.train()
    continue_text(model, tokenizer, "", Sampling())
    assert torch.equal(torch.get_rng_state(), before)
    assert all(part.training for part in model.modules())


def test_a_text_ends_before_the_first_stop_text(model: Any, tokenizer: Any):
    whole = continue_text(model, tokenizer, "the cat", LONG)
    stop = whole[20:23]
    sampling = Sampling(max_new_tokens=3 * CONTEXT, seed=3, stop=("never comes", stop))
    pieces: list[str] = []
    text = continue_texts(model, tokenizer, ["the cat"], sampling, show=lambda _, p: pieces.append(p))[0]
    assert text == "".join(pieces) == whole[: whole.index(stop)]


def test_end_of_text_ends_it(model: Any, tokenizer: Any):
    with torch.no_grad():
        model.transformer.ln_f.weight.zero_()
        model.transformer.ln_f.bias.copy_(100 * model.lm_head.weight[end_of_text_id(tokenizer)])
    assert continue_texts(model, tokenizer, ["the", ""], LONG) == ["", ""]


def added(recipe: Any, text: str, stop: tuple[str, ...] = ()) -> list[str]:
    tokenizer = recipe.build([text])
    continuation = Continuation(tokenizer, stop)
    pieces = [continuation.add(token) for token in prompt_ids(tokenizer, text)]
    return [*pieces, continuation.finish()]


@pytest.mark.parametrize("recipe", [Bytes(), Characters(), ByteLevelBPE(280)])
def test_pieces_are_whole_characters(recipe: Any):
    text = "人工智能的未来是 🙂 naïve"
    pieces = added(recipe, text)
    assert "".join(pieces) == text
    assert "�" not in "".join(pieces)


def test_every_character_that_is_whole_has_appeared():
    """Also where tokens begin and end inside of characters, and several characters wait for one."""
    text = (ROOT / "data/examples/chinese.txt").read_text()[:4000]
    tokenizer = ByteLevelBPE(2000).build([text])
    ids = prompt_ids(tokenizer, text)
    continuation = Continuation(tokenizer)
    for count, token in enumerate(ids[:800], start=1):
        continuation.add(token)
        assert continuation.text == tokenizer.decode(ids[:count]).removesuffix("�")


def test_what_is_no_character_at_all_is_shown_as_the_tokenizer_does():
    tokenizer = Bytes().build([])
    (half, *_), ids = prompt_ids(tokenizer, "智"), prompt_ids(tokenizer, "ab")
    continuation = Continuation(tokenizer)
    pieces = [continuation.add(token) for token in (half, half, *ids)]
    assert pieces == ["", "�", "�a", "b"]


def test_half_a_character_at_the_end_is_left_out():
    tokenizer = Bytes().build([])
    ids = prompt_ids(tokenizer, "智能")
    assert len(ids) == 6
    for count, expected in ((3, "智"), (4, "智"), (5, "智"), (6, "智能")):
        continuation = Continuation(tokenizer)
        assert "".join(map(continuation.add, ids[:count])) + continuation.finish() == expected


def test_what_may_become_a_stop_text_is_held_back():
    assert added(Bytes(), "abc###", ("###",)) == ["a", "b", "c", "", "", "", ""]
    assert added(Bytes(), "a##b#", ("###",)) == ["a", "", "", "##b", "", "#"]
