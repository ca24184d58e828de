"""Data sets of a hub: from a local folder, and in a process of its own with a cache of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gpt2_lightning.data.corpus import Corpus
from gpt2_lightning.data.sources import HubDataset, JSONFiles
from gpt2_lightning.data.tokenizer import Pretrained
from gpt2_lightning.errors import InputError
from tests.data.sources.reading import jsonl, reasons, texts
from tests.hub import serve

CODE = """
import json, sys
from pathlib import Path
from gpt2_lightning.data.corpus import Corpus
from gpt2_lightning.data.sources import HubDataset
from gpt2_lightning.data.store_builder import open_or_build
from gpt2_lightning.data.tokenizer import Pretrained
from gpt2_lightning.errors import InputError
name, streaming, folder = sys.argv[1], sys.argv[2] == "streaming", Path(sys.argv[3])
corpus = Corpus(
    HubDataset(name, streaming=streaming),
    Pretrained("owner/gpt2"),
    validation=HubDataset(name, split="validation", streaming=streaming),
)
try:
    store = open_or_build(folder, corpus)
except InputError as error:
    print(json.dumps({"error": str(error)}))
else:
    counts = {split: counts.documents for split, counts in store.splits.items()}
    text = store.tokenizer().decode(store.tokens("validation")[:])
    print(json.dumps({"counts": counts, "text": text}))
"""


def run(endpoint: str, home: Path, name: str, streaming: str = "whole", **extra: str) -> dict:
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "OMP_NUM_THREADS": "1"} | extra
    command = [sys.executable, "-c", CODE, name, streaming, str(home / "stores")]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


def test_a_hub_data_set_whole_streamed_offline_and_missing(tmp_path: Path, gpt2_tokenizer: Path):
    data, tokenizer = tmp_path / "data", tmp_path / "tokenizer"
    data.mkdir()
    for split, number in (("train", 5), ("validation", 2)):
        lines = (json.dumps({"text": f"{split} {i}"}) + "\n" for i in range(number))
        (data / f"{split}.jsonl").write_text("".join(lines))
    Pretrained(str(gpt2_tokenizer)).build(()).save_pretrained(tokenizer)
    expected = {
        "counts": {"train": 5, "validation": 2},
        "text": "validation 0<|endoftext|>validation 1<|endoftext|>",
    }
    with serve({"datasets/owner/corpus": data, "models/owner/gpt2": tokenizer}) as endpoint:
        assert run(endpoint, tmp_path / "home", "owner/corpus") == expected
        assert run(endpoint, tmp_path / "other", "owner/corpus", "streaming") == expected
        missing = run(endpoint, tmp_path / "home", "owner/nothing")["error"]
        assert "--data.corpus.source.name 'owner/nothing'" in missing
    gone = run(endpoint, tmp_path / "home", "owner/corpus", HF_HUB_OFFLINE="1")
    assert gone == expected


def test_hub_dataset_from_a_local_folder_joins_rows_by_heading(tmp_path: Path):
    rows = [" = A = \n", "one\n", " = = part = = \n", " = B = \n", "two\n"]
    jsonl(tmp_path / "train.jsonl", *({"text": row} for row in rows))
    assert texts(HubDataset(str(tmp_path), heading=" = [^=]")) == ["".join(rows[:3]), "".join(rows[3:])]
    assert texts(HubDataset(str(tmp_path), streaming=True, max_documents=2)) == rows[:2]


def test_joined_rows_with_one_that_is_no_text_are_left_out_whole(tmp_path: Path):
    rows = [" = A = \n", None, " = B = \n", "two\n"]
    jsonl(tmp_path / "train.jsonl", *({"text": row} for row in rows))
    source = HubDataset(str(tmp_path), heading=" = [^=]")
    assert texts(source) == ["".join(str(row) for row in rows[2:])]
    assert len(reasons(source)) == 1


@pytest.mark.parametrize(
    "options", [{"heading": "("}, {"heading": "x", "template": "alpaca"}], ids=["pattern", "template"]
)
def test_hub_options_that_cannot_work_are_refused(options: dict[str, Any]):
    with pytest.raises(InputError, match=r"--data.corpus.test.heading"):
        Corpus(JSONFiles("a"), test=HubDataset("owner/set", **options))


@pytest.mark.parametrize("options", [{"name": "nowhere/no-such-set"}, {"split": "tset"}, {"config": "other"}])
def test_hub_dataset_that_cannot_be_read_names_the_option(
    tmp_path: Path, options: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    jsonl(tmp_path / "train.jsonl", {"text": "x"})
    source = HubDataset(**({"name": str(tmp_path)} | options))
    with pytest.raises(InputError, match=r"^name .* cannot be read: .*DATA=json"):
        texts(source)
