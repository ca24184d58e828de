"""Token files that others made: their formats, and those of datatrove's pipeline."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gpt2_lightning.data.corpus import Corpus
from gpt2_lightning.data.sources import TokenFiles
from gpt2_lightning.data.store_builder import open_or_build
from gpt2_lightning.data.tokenizer import Pretrained
from gpt2_lightning.errors import InputError
from tests.conftest import ROOT

END = 0


IDS = np.array([70, 71, END, 72, END, 73, 74, 75, END], dtype=np.uint16)


def nanogpt(path: Path, ids: np.ndarray = IDS) -> str:
    ids.astype("<u2").tofile(path)
    return str(path)


def llmc(path: Path, ids: np.ndarray = IDS) -> str:
    header = np.zeros(256, dtype="<i4")
    header[:3] = 20240520, 1, len(ids)
    path.write_bytes(header.tobytes() + ids.astype("<u2").tobytes())
    return str(path)


def datatrove(path: Path, ids: np.ndarray = IDS) -> str:
    ids.astype("<u2").tofile(path)
    np.array([3, 5, 9], dtype="<u8").tofile(path.with_name(path.name + ".index"))
    return str(path)


@pytest.mark.parametrize(("write", "name"), [(nanogpt, "a.bin"), (llmc, "a.bin"), (datatrove, "a.ds")])
def test_each_format_is_read_in_place(tmp_path: Path, write, name: str):
    (shard,) = TokenFiles(write(tmp_path / name)).shards()
    assert shard.tokens[:].tolist() == IDS.tolist()
    assert (None if shard.ends is None else shard.ends[:].tolist()) == ([3, 5, 9] if name == "a.ds" else None)


def test_32_bits_are_told_by_the_header_or_by_the_option(tmp_path: Path):
    header = np.zeros(256, dtype="<i4")
    header[:3] = 20240801, 7, len(IDS)
    (tmp_path / "a.bin").write_bytes(header.tobytes() + IDS.astype("<u4").tobytes())
    (tmp_path / "b.bin").write_bytes(IDS.astype("<u4").tobytes())
    for shard in TokenFiles(str(tmp_path), "uint32").shards():
        assert shard.tokens[:].tolist() == IDS.tolist()
    assert TokenFiles(str(tmp_path / "a.bin")).shards()[0].tokens[:].tolist() == IDS.tolist()


def test_an_index_that_does_not_fit_is_named_and_another_decides_other_documents(tmp_path: Path):
    source = TokenFiles(datatrove(tmp_path / "a.ds"))
    before = source.fingerprint(lambda path: path.read_bytes().hex())
    np.array([5, 9], dtype="<u8").tofile(tmp_path / "a.ds.index")
    assert source.fingerprint(lambda path: path.read_bytes().hex()) != before
    np.array([5, 4, 9], dtype="<u8").tofile(tmp_path / "a.ds.index")
    with pytest.raises(InputError, match=r"a.ds.index: the document ends do not rise to the 9 tokens"):
        source.shards()


def test_damaged_files_are_named(tmp_path: Path):
    cut = Path(llmc(tmp_path / "cut.bin"))
    cut.write_bytes(cut.read_bytes()[:-2])
    with pytest.raises(InputError, match=r"cut.bin: the header promises 9 tokens, but the file has 8"):
        TokenFiles(str(cut)).shards()
    (tmp_path / "odd.bin").write_bytes(b"123")
    with pytest.raises(InputError, match=r"odd.bin: 3 bytes are no whole, positive number of uint16"):
        TokenFiles(str(tmp_path / "odd.bin")).shards()


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
