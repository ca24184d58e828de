"""Texts to ids, fast and the same as the tokenizer's own."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2_lightning.data.documents import Document, Segment
from gpt2_lightning.data.encoder import _tiktoken, encode_documents, encoder_of
from gpt2_lightning.data.tokenizer import ByteLevelBPE, Bytes, Characters

TOKENIZER = ByteLevelBPE(300).build(["the cat sat on the mat", "人工智能的未来是"])


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_the_fast_encoder_gives_the_same_ids(text: str):
    fast = _tiktoken(json.loads(TOKENIZER.backend_tokenizer.to_str()))
    assert fast is not None
    expected = TOKENIZER(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert fast([text]) == [expected]


def test_other_tokenizers_are_encoded_by_themselves():
    characters = Characters().build(["abc"])
    assert encoder_of(characters, ["ab"])(["cab", "x"]) == [[4, 2, 3], [1]]


@pytest.mark.parametrize("tokenizer", [TOKENIZER, Characters().build(["<|endoftext|>"])], ids=["fast", "own"])
def test_end_of_text_in_a_text_is_text_and_the_tokenizer_stays_as_it_was(tokenizer):
    text = "<|endoftext|>"
    (ids,) = encoder_of(tokenizer, [text])([text])
    assert tokenizer.eos_token_id not in ids
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == [tokenizer.eos_token_id]


def test_documents_in_tokens_by_hand():
    """The end is learned after an answer, not after a prompt; labels come back with their documents."""
    tokenizer = Characters().build(["abc"])  # end-of-text, unknown, a, b, c
    prompt, answer = Segment("ab", learned=False), Segment("c", learned=True)
    documents = {1: Document("ab", ""), 2: Document.of((prompt, answer), ""), 3: Document.of((prompt,), "")}
    found = dict(encode_documents(tokenizer, documents.items(), "H"))
    assert {
        label: (each.tokens.tolist(), list(each.learned), each.text) for label, each in found.items()
    } == {
        1: ([2, 3, 0], [1, 1, 1], "ab"),
        2: ([2, 3, 4, 0], [0, 0, 1, 1], "c"),
        3: ([2, 3, 0], [0, 0, 0], ""),
    }


def test_an_id_past_16_bits_is_not_cut(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "gpt2_lightning.data.encoder.encoder_of", lambda *_: lambda texts: [[2**16]] * len(texts)
    )
    with pytest.raises(OverflowError):
        list(encode_documents(Bytes().build(()), [(0, Document("a", ""))], "H"))
