"""Which documents are in which split, and what decides a corpus."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpt2_lightning.data.corpus import Corpus
from gpt2_lightning.data.sources import (
    CSVFiles,
    HubDataset,
    JSONFiles,
    Mixture,
    TextFiles,
    TextSource,
    TokenFiles,
)
from gpt2_lightning.data.sources.base import Digest
from gpt2_lightning.data.tokenizer import Bytes
from gpt2_lightning.errors import InputError
from gpt2_lightning.files.lines import Reject, ignore
from tests.conftest import ASSETS
from tests.data.sources.reading import jsonl


def documents(corpus: Corpus, split) -> list[str]:
    return [document.text for _, document in corpus.documents(ignore, split)]


def test_splits_by_hash_move_no_document_and_named_splits_are_their_own(tmp_path: Path):
    for number in range(200):
        (tmp_path / f"{number}.txt").write_text(f"text number {number}")
    source = TextFiles(str(tmp_path))
    before = {t: Corpus(source, Bytes(), 0.2).split_of(t) for t in (f"text number {n}" for n in range(200))}
    after = {text: Corpus(source, Bytes(), 0.2, test_fraction=0.2).split_of(text) for text in before}
    assert set(after.values()) == {"train", "validation", "test"}
    assert all(
        after[text] in (split, "test") and (after[text] == split or split == "train")
        for text, split in before.items()
    )
    named = Corpus(source, Bytes(), validation=TextFiles(str(tmp_path / "1.txt")))
    assert len(documents(named, "train")) == 200
    assert documents(named, "validation") == ["text number 1"]


@pytest.mark.parametrize(("weight", "times"), [(2, 2), (0.4, 0.4)])
def test_held_out_documents_come_once_whatever_the_weight(weight: float, times: float):
    once, weighted = (Corpus(Mixture([TextFiles(str(ASSETS))], [each]), Bytes(), 0.3) for each in (1, weight))
    assert documents(weighted, "validation") == documents(once, "validation")
    number, expected = len(documents(weighted, "train")), len(documents(once, "train")) * times
    assert number == expected if times == 2 else 0 < number < len(documents(once, "train"))


def test_a_record_that_is_no_text_stops_or_is_kept(tmp_path: Path):
    source = JSONFiles(str(jsonl(tmp_path / "a.jsonl", {"text": "good"}, {"text": 5}, {"text": " "})))
    stopping = Corpus(source, Bytes())
    with pytest.raises(InputError, match=r"a.jsonl:2: the field 'text' is a number, not text; mend it"):
        list(stopping.documents(stopping.rejecting("mend it")))
    kept: list[tuple[str, str]] = []
    skipping = Corpus(source, Bytes(), on_error="skip")
    found = list(skipping.documents(skipping.rejecting("", lambda *record: kept.append(record))))
    assert [document.text for _, document in found] == ["good"], "white space alone is left out"
    assert kept == [(f"{tmp_path}/a.jsonl:2", "the field 'text' is a number, not text")]


def test_fingerprints_stay(tmp_path: Path):
    """Another one would build the stores of all earlier runs again, and refuse their checkpoints."""
    path = str(tmp_path / "a.txt")
    Path(path).touch()
    records = [JSONFiles(path, field="note"), CSVFiles(path, template="alpaca")]
    mixed = Mixture([TextFiles(path, separator=""), *records], [1, 2, 0.5])
    span = TextFiles(path, span=(0, 0.5))
    shards = TokenFiles(path), TokenFiles(path, "uint32")
    set_of_a_hub = HubDataset("owner/set", revision="0" * 40, heading=" = ")
    corpora = {
        "81c7822e85671569": Corpus(mixed, Bytes(), 0.3, validation=span, on_error="skip"),
        "57947a5f9cf9090c": Corpus(shards[0], Bytes(), validation=shards[1]),
        "2a235c88106c8697": Corpus(set_of_a_hub, Bytes(), test_fraction=0.1),
    }
    for expected, corpus in corpora.items():
        assert corpus.fingerprint(lambda path: path.name)[:16] == expected


def test_token_files_go_with_token_files_alone():
    with pytest.raises(InputError, match=r"--data.corpus.validation: token files hold no documents"):
        Corpus(TokenFiles("a.bin"), Bytes())
    with pytest.raises(
        InputError, match=r"--data.corpus.validation TextFiles: --data.corpus.source is Token"
    ):
        Corpus(TokenFiles("a.bin"), Bytes(), validation=TextFiles("a.txt"))
    with pytest.raises(InputError, match=r"--data.corpus.test TokenFiles: --data.corpus.source is TextFiles"):
        Corpus(TextFiles("a.txt"), Bytes(), test=TokenFiles("a.bin"))


def test_token_files_have_no_documents():
    with pytest.raises(InputError, match="TokenFiles: token files hold no documents"):
        documents(Corpus(TokenFiles("a.bin"), Bytes(), validation=TokenFiles("b.bin")), "train")


def test_a_source_that_gives_no_documents_is_told_so():
    class Words(TextSource):
        def fingerprint(self, digest: Digest) -> str:
            return ""

        def documents(self, reject: Reject) -> Iterator[Any]:
            yield "a text"

    with pytest.raises(InputError, match=r"Words: documents\(\) gives str; let it give .*Document\(text"):
        list(Corpus(Words()).documents(ignore))
