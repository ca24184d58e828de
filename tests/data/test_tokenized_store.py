"""Text as a store: its files, its counts, and what is left out."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from gpt2_lightning.data.corpus import Corpus
from gpt2_lightning.data.sources import JSONFiles, TextFiles
from gpt2_lightning.data.store_builder import open_or_build
from gpt2_lightning.data.tokenized_store import TokenizedStore
from gpt2_lightning.data.tokenizer import Bytes, Pretrained, TokenizerRecipe
from gpt2_lightning.errors import InputError
from tests.conftest import ASSETS, ROOT
from tests.data.sources.reading import texts
from tests.data.test_store_builder import build, corpus


def test_tokens_decode_to_the_documents_of_each_split(tmp_path: Path):
    store = build(tmp_path)
    tokenizer = store.tokenizer()
    whole = texts(TextFiles([str(ASSETS)]))
    for split in ("train", "validation"):
        expected = [text for text in whole if corpus().split_of(text) == split]
        tokens, start, decoded = store.tokens(split), 0, []
        for end in store.document_ends(split):
            assert tokens[end - 1] == tokenizer.eos_token_id
            decoded.append(tokenizer.decode(tokens[start : end - 1]))
            start = end
        assert decoded == expected
        counts = store.splits[split]
        assert start == len(tokens) == counts.tokens
        assert counts.utf8_bytes == sum(len(text.encode()) for text in expected)
        digest = hashlib.sha256((store.folder / f"{split}.bin").read_bytes()).hexdigest()
        assert store.files[f"{split}.bin"] == digest


def test_skipped_records_are_counted_and_kept_in_quarantine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    records = [{"text": f"document number {i}"} for i in range(30)] + [{"text": None}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    source = JSONFiles(str(tmp_path / "a.jsonl"))
    with pytest.raises(
        InputError, match=r"a.jsonl:31: the field 'text' is null.*--data.corpus.on_error skip"
    ):
        open_or_build(tmp_path / "stores", Corpus(source, Bytes(), 0.3))
    assert not [path for path in (tmp_path / "stores").iterdir() if path.is_dir()]
    store = open_or_build(tmp_path / "stores", Corpus(source, Bytes(), 0.3, on_error="skip"))
    assert isinstance(store, TokenizedStore)
    assert store.rejected == 1
    (line,) = (store.folder / "quarantine.jsonl").read_text().splitlines()
    assert json.loads(line)["origin"].endswith("a.jsonl:31")
    assert "left out 1 records" in capsys.readouterr().out


def test_prompts_alone_are_refused(tmp_path: Path):
    roles = [{"role": "user", "content": "hi"}, {"role": "model", "content": "hello"}]
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"messages": roles, "id": i}) + "\n" for i in range(3))
    )
    source = JSONFiles(str(tmp_path / "a.jsonl"), template="chat")
    corpus = Corpus(source, Bytes(), validation=JSONFiles(str(tmp_path / "a.jsonl"), template="chat"))
    with pytest.raises(InputError, match="nothing of the train split is learned: its 3 records"):
        open_or_build(tmp_path / "stores", corpus)


def test_an_empty_split_of_its_own_is_named(tmp_path: Path):
    (tmp_path / "empty.txt").write_text("")
    empty = TextFiles(str(tmp_path / "empty.txt"))
    with pytest.raises(InputError, match=r"^--data.corpus.validation: the validation split is empty"):
        open_or_build(tmp_path / "stores", Corpus(TextFiles(str(ASSETS)), Bytes(), validation=empty))


def test_prompts_bring_no_targets_bytes_or_characters(tmp_path: Path):
    records = [{"prompt": f"{i}: 问", "response": "答 yes"} for i in range(30)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    corpus = Corpus(JSONFiles(str(tmp_path / "a.jsonl"), template="prompt_response"), Bytes(), 0.3)
    store = open_or_build(tmp_path / "stores", corpus)
    for split in ("train", "validation"):
        counts, learned = store.splits[split], store.learned(split)
        assert counts.documents
        assert learned is not None
        assert counts.targets == learned[:].sum() == counts.documents * (len("答 yes".encode()) + 1)
        assert counts.utf8_bytes == counts.documents * len("答 yes".encode())
        assert counts.characters == counts.documents * len("答 yes")
        first = store.document_ends(split)[0]
        ids = np.asarray(store.tokens(split)[:first])
        assert store.tokenizer().decode(ids[learned[:first]]) == "答 yes<|endoftext|>"


SHARED = ROOT.parent / "shared" / "data"


@pytest.mark.skipif(not SHARED.exists(), reason="GPT-2's BPE and Tiny Shakespeare are not there")
def test_tiny_shakespeare_has_the_published_number_of_tokens(tmp_path: Path):
    path = str(SHARED / "tinyshakespeare.txt")
    parts = [TextFiles(path, span=span) for span in ((0, 0.9), (0.9, 1))]
    corpus = Corpus(parts[0], Pretrained(str(SHARED / "gpt2")), validation=parts[1])
    counts = open_or_build(tmp_path, corpus).splits
    assert (counts["train"].tokens - 1, counts["validation"].tokens - 1) == (301_966, 36_059)


def test_end_of_text_written_in_a_document_is_text(tmp_path: Path):
    (tmp_path / "corpus").mkdir()
    for number in range(20):
        (tmp_path / "corpus" / f"{number}.txt").write_text(f"{number}: the token <|endoftext|> is text here")
    store = build(tmp_path / "stores", paths=[str(tmp_path / "corpus")])
    tokens = store.tokens("train")
    assert (tokens[:] == store.tokenizer().eos_token_id).sum() == store.splits["train"].documents


class Letters(TokenizerRecipe):
    """A vocabulary of a given size, of which the texts use the last entries."""

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def build(self, texts):
        words = {f"word{number}": number for number in range(self.vocab_size - 1)} | {
            "[UNK]": self.vocab_size - 1
        }
        tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="word0", unk_token="[UNK]")


@pytest.mark.parametrize(("vocab_size", "dtype"), [(2**16, "<u2"), (2**16 + 1, "<u4")])
def test_vocabulary_past_16_bits_is_stored_in_32(tmp_path: Path, vocab_size: int, dtype: str):
    letters = Corpus(TextFiles([str(ASSETS)]), Letters(vocab_size), 0.3)
    store = open_or_build(tmp_path, letters)
    assert store.dtype == dtype
    assert store.tokens("train")[:].max() == vocab_size - 1


def test_empty_split_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="validation split is empty"):
        build(tmp_path, fraction=1e-9)


def test_corpus_without_text_is_refused(tmp_path: Path):
    (tmp_path / "a.txt").write_text(" \n")
    with pytest.raises(InputError, match=r"--data.corpus.source: the corpus is empty"):
        build(tmp_path / "stores", paths=[str(tmp_path)])


def test_a_corpus_of_which_every_record_was_left_out_names_the_first(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"txt": 1}\n' * 3)
    corpus = Corpus(JSONFiles(str(tmp_path / "a.jsonl")), Bytes(), on_error="skip")
    with pytest.raises(
        InputError, match=r"^--data.corpus.source: every record was left out, 3 in all; .*:1: no"
    ):
        open_or_build(tmp_path / "stores", corpus)
