"""The path past one machine: what datatrove's pipeline wrote is what the data module reads."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gpt2_lightning.data.corpus import Corpus
from gpt2_lightning.data.sources import TokenFiles
from gpt2_lightning.data.store_builder import open_or_build
from gpt2_lightning.data.tokenizer import Pretrained
from tests.conftest import ROOT


@pytest.mark.slow
def test_shards_of_two_tasks_hold_every_document(tmp_path: Path, gpt2_tokenizer: Path):
    pytest.importorskip("datatrove", reason='needs pip install "datatrove[io,processing]"')
    texts = [f"document {number}: bread, market and 人" for number in range(40)]
    (tmp_path / "in").mkdir()
    for part in range(2):
        lines = (json.dumps({"text": text}) + "\n" for text in texts[part::2])
        (tmp_path / "in" / f"{part}.jsonl").write_text("".join(lines))
    Pretrained(str(gpt2_tokenizer)).build(()).save_pretrained(tmp_path / "tokenizer")
    script = ROOT / "benchmarks" / "datatrove_tokens.py"
    arguments = [tmp_path / "in", tmp_path / "tokenizer" / "tokenizer.json", tmp_path / "out"]
    subprocess.run([sys.executable, script, *arguments], check=True, capture_output=True)
    shards = str(tmp_path / "out")
    corpus = Corpus(
        TokenFiles(shards), Pretrained(str(tmp_path / "tokenizer")), validation=TokenFiles(shards)
    )
    store = open_or_build(tmp_path / "stores", corpus)
    assert store.splits["train"].documents == len(texts)
    tokenizer, start, found = store.tokenizer(), 0, []
    for end in store.document_ends("train"):
        found.append(tokenizer.decode(store.tokens("train")[start : end - 1]))
        start = end
    assert sorted(found) == sorted(texts)
