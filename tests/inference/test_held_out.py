"""The text that models are measured on."""

from pathlib import Path

import numpy as np
import pytest

from gpt2_lightning.data.corpus import Corpus
from gpt2_lightning.data.documents import Document, Segment
from gpt2_lightning.data.sources import JSONFiles, Mixture, TextFiles, TokenFiles
from gpt2_lightning.data.token_store import SplitCounts
from gpt2_lightning.data.tokenizer import Bytes, Characters
from gpt2_lightning.errors import InputError
from gpt2_lightning.inference.held_out import in_place, read_texts, tokenized
from tests.conftest import ASSETS
from tests.data.sources.reading import jsonl


def test_a_text_in_tokens_by_hand():
    tokenizer = Characters().build(["abc"])  # end-of-text, unknown, a, b, c
    record = Document.of((Segment("ab ", learned=False), Segment("a b", learned=True)), "")
    found = tokenized("some", [Document("c", ""), record], tokenizer)
    assert found.name == "some"
    assert found.tokens.tolist() == [4, 0, 2, 3, 1, 2, 1, 3, 0]
    assert found.ends is not None
    assert found.ends.tolist() == [2, 9]
    assert found.learned is not None
    assert found.learned.tolist() == [True, True, False, False, False, True, True, True, True]
    assert found.counts == SplitCounts(2, tokens=9, targets=6, utf8_bytes=4, characters=4)
    assert found.words == 3


@pytest.mark.parametrize("split", ["validation", "test", "all"])
def test_each_source_of_a_mixture_is_a_text(split):
    mixture = Mixture([TextFiles(str(ASSETS)), TextFiles(str(ASSETS), heading=".")])
    named = {} if split == "all" else {split: mixture}
    corpus = Corpus(TextFiles(str(ASSETS)) if named else mixture, Bytes(), 0.3, **named)
    texts = read_texts(corpus, split)
    assert list(texts) == ["sources[0] TextFiles", "sources[1] TextFiles"]
    assert len(texts["sources[0] TextFiles"]) == 12
    assert len(texts["sources[1] TextFiles"]) > 12


def test_a_split_that_is_not_there_or_counts_nothing_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"--split test: there is none; name one with --data.test"):
        read_texts(Corpus(TextFiles(str(ASSETS))), "test")
    unanswered = JSONFiles(str(jsonl(tmp_path / "a.jsonl", {"text": ""})))
    with pytest.raises(InputError, match="--split validation: no document is in it that counts"):
        read_texts(Corpus(TextFiles(str(ASSETS)), validation=unanswered), "validation")
    with pytest.raises(InputError, match=r"^--data.source.paths 'nowhere': no such file"):
        read_texts(Corpus(TextFiles("nowhere")), "all")
    bad = JSONFiles(str(jsonl(tmp_path / "b.jsonl", {"text": 5}, {"text": "good"})))
    with pytest.raises(InputError, match=r"b.jsonl:1: .* not text; mend it, or say --data.on_error skip"):
        read_texts(Corpus(bad), "all")
    assert len(read_texts(Corpus(bad, on_error="skip"), "all")["JSONFiles"]) == 1


def test_token_files_are_read_where_they_are(tmp_path: Path):
    path = tmp_path / "val.bin"
    np.array([70, 71, 0, 72, 0], dtype="<u2").tofile(path)
    corpus = Corpus(TokenFiles(str(path)), Bytes(), validation=TokenFiles(str(path)))
    assert read_texts(corpus, "validation") == {}
    found = in_place(corpus, "validation", Bytes().build(()), str(tmp_path / "stores"))
    assert found.tokens.tolist() == [70, 71, 0, 72, 0]
    assert found.ends is not None
    assert found.ends.tolist() == [3, 5]
    with pytest.raises(InputError, match="--split all: is of text"):
        read_texts(corpus, "all")
    with pytest.raises(InputError, match="these ids are of a tokenizer with 257 entries"):
        in_place(corpus, "validation", Characters().build(["a"]), str(tmp_path / "stores"))
