from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2_lightning.data.tokenizer import (
    END_OF_TEXT,
    ByteLevelBPE,
    Bytes,
    Characters,
    Pretrained,
    end_of_text_id,
)
from gpt2_lightning.errors import InputError

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


def test_bytes_and_characters_decode_back():
    text = "Das 人工智能\nis new"
    for recipe, size in ((Bytes(), 257), (Characters(), 2 + len(set(text)))):
        tokenizer = recipe.build([text])
        assert len(tokenizer) == size
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text
        assert end_of_text_id(tokenizer) not in ids


def test_pretrained_from_openais_files_and_from_a_saved_folder_is_the_same(
    gpt2_tokenizer: Path, tmp_path: Path
):
    from_files = Pretrained(str(gpt2_tokenizer))
    from_files.build(()).save_pretrained(tmp_path)
    text = "market 人 <|endoftext|>"
    ids = [
        Pretrained(str(path)).build(())(text, split_special_tokens=True)["input_ids"]
        for path in (gpt2_tokenizer, tmp_path)
    ]
    assert ids[0] == ids[1]
    assert from_files.settings()["end_of_text"] == Pretrained(str(tmp_path)).settings()["end_of_text"]


def test_missing_pretrained_tokenizer_names_the_option(tmp_path: Path):
    with pytest.raises(InputError, match=r"--data.corpus.tokenizer.path .* cannot be loaded"):
        Pretrained(str(tmp_path)).build(())


def test_training_text_can_be_bounded():
    short = ByteLevelBPE(300, max_train_chars=5).build(["aaaaa", "bcbcbcbcbcbcbc"])
    assert "bc" not in short.get_vocab()
