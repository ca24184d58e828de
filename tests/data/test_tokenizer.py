from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2_lightning.data.tokenizer import END_OF_TEXT, ByteLevelBPE, end_of_text_id

TOKENIZER = ByteLevelBPE(300).build(["the cat sat on the mat", "人工智能的未来是"])


@settings(max_examples=50, deadline=None)
@given(st.text())
def test_every_text_decodes_back_to_itself(text: str):
    ids = TOKENIZER(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert TOKENIZER.decode(ids) == text


def test_same_text_gives_the_same_vocabulary():
    texts = [f"document {i} about topic {i % 7}" for i in range(200)]
    first, second = (ByteLevelBPE(400).build(texts).get_vocab() for _ in range(2))
    assert first == second
    assert len(first) == 400


def test_end_of_text_is_one_token():
    assert TOKENIZER.convert_ids_to_tokens(end_of_text_id(TOKENIZER)) == END_OF_TEXT


def test_settings_change_with_the_vocabulary_size():
    assert ByteLevelBPE(300).settings() != ByteLevelBPE(301).settings()
