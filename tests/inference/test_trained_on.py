"""What a run was trained on, and what of other text is in it."""

from pathlib import Path

import pytest
import yaml

from gpt2_lightning.data.corpus import Corpus
from gpt2_lightning.data.documents import Document
from gpt2_lightning.data.sources import TextFiles
from gpt2_lightning.data.tokenizer import Bytes
from gpt2_lightning.errors import InputError
from gpt2_lightning.inference.held_out import documents_of
from gpt2_lightning.inference.trained_on import corpus_options, seen_documents
from tests.conftest import ASSETS


def test_the_corpus_is_that_of_the_run_of_an_export_too(trained: Path):
    options = corpus_options(str(trained))
    assert options
    assert (
        corpus_options(str(trained / "export")) == corpus_options(str(trained.parent / "latest")) == options
    )


def test_a_configuration_of_another_tool_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("a: 1\n")
    assert corpus_options("openai-community/gpt2") is None
    (tmp_path / "config.json").write_text("{}")
    assert corpus_options(str(tmp_path)) is None


def test_documents_of_the_training_split_are_seen(trained: Path, base: str):
    corpus = Corpus(TextFiles(str(ASSETS)), Bytes(), 0.3)  # cut as that of the run
    learned, held_out = (next(documents_of(corpus, split)) for split in ("train", "validation"))
    same = Document(f"\n{learned.text} ", "elsewhere")
    texts = {"one": [same, held_out, learned], "other": [Document("Nobody has seen this.", "")]}
    assert seen_documents(texts, str(trained)) == [2, 0]
    assert seen_documents(texts, base) is None, "a model of no run"


def test_a_corpus_that_is_gone_or_holds_no_text_is_named(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    gone = {"class_path": "TextFiles", "init_args": {"paths": "nowhere"}}
    tokens = {"class_path": "TokenFiles", "init_args": {"paths": "a.bin"}}
    for source, said in (
        (gone, "--data.corpus.source.paths 'nowhere'"),
        (tokens, "token files hold no documents"),
    ):
        corpus = {"source": source, "validation": source}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump({"data": {"corpus": corpus}}))
        with pytest.raises(InputError, match=f"--seen true: .*{said}"):
            seen_documents({"one": []}, str(tmp_path))
