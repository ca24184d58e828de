"""Token files as a store: what is counted of them, and how their ids are read."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2_lightning.data.corpus import Corpus
from gpt2_lightning.data.datamodule import TextDataModule
from gpt2_lightning.data.sources import TokenFiles
from gpt2_lightning.data.store_builder import open_or_build
from gpt2_lightning.data.store_in_place import Shards, StoreInPlace
from gpt2_lightning.data.tokenizer import Bytes
from gpt2_lightning.errors import InputError
from tests.data.sources.test_token_files import END, IDS, datatrove, llmc, nanogpt


def corpus(paths: str | list[str], validation: str) -> Corpus:
    return Corpus(TokenFiles(paths), Bytes(), validation=TokenFiles(validation))


@pytest.mark.parametrize(("write", "documents"), [(nanogpt, None), (datatrove, 3)])
def test_ids_stay_where_they_are_and_are_counted(tmp_path: Path, write, documents: int | None):
    path = write(tmp_path / "a.bin")
    store = open_or_build(tmp_path / "stores", corpus(path, path))
    assert store.tokens("train")[:].tolist() == IDS.tolist()
    assert store.document_ends("train")[:].tolist() == [3, 5, 9]
    assert store.splits["validation"].utf8_bytes == 6  # a byte for every id but end-of-text
    assert store.splits["validation"].documents == documents
    assert not list(store.folder.glob("train.bin"))


def test_another_index_makes_another_store(tmp_path: Path):
    path = datatrove(tmp_path / "a.ds")
    first = open_or_build(tmp_path / "stores", corpus(path, path)).fingerprint
    np.array([5, 9], dtype="<u8").tofile(tmp_path / "a.ds.index")
    second = open_or_build(tmp_path / "stores", corpus(path, path))
    assert second.fingerprint != first
    assert second.document_ends("train")[:].tolist() == [5, 9]


def test_damaged_counts_are_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = nanogpt(tmp_path / "a.bin")
    first = open_or_build(tmp_path / "stores", corpus(path, path))
    assert isinstance(first, StoreInPlace)
    for name in ("manifest.json", "train.ends.bin"):
        (first.folder / name).write_text("{")
        assert open_or_build(tmp_path / "stores", corpus(path, path)).splits == first.splits
        assert "is damaged" in capsys.readouterr().out


def test_ids_are_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = nanogpt(tmp_path / "a.bin")
    first = open_or_build(tmp_path / "stores", corpus(path, path)).splits
    monkeypatch.setattr("gpt2_lightning.data.store_in_place._look", None)  # looking again would fail
    assert open_or_build(tmp_path / "stores", corpus(path, path)).splits == first


def test_several_shards_are_one_stream(tmp_path: Path):
    paths = [llmc(tmp_path / "1.bin"), nanogpt(tmp_path / "2.bin", IDS[:4])]
    store = open_or_build(tmp_path / "stores", corpus(paths, paths[0]))
    assert store.tokens("train")[7:11].tolist() == [75, END, 70, 71]
    assert store.document_ends("train")[:].tolist() == [3, 5, 9, 12, 13]
    data = TextDataModule(corpus(paths, paths[0]), 4, 2, folder=str(tmp_path / "stores"), rows="isolated")
    data.setup()
    targets = [t for row in map(data.rows_of("train").__getitem__, range(4)) for t in row["targets"].tolist()]
    assert targets[:13] == [*IDS.tolist(), *IDS[:4].tolist()]


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=5), min_size=1, max_size=5), st.data())
def test_shards_cut_like_one_array(parts: list[list[int]], data):
    whole = np.concatenate([np.array(part) for part in parts])
    shards = Shards([np.array(part) for part in parts])
    start, stop = data.draw(st.integers(0, len(whole))), data.draw(st.integers(0, len(whole) + 3))
    assert shards[start:stop].tolist() == whole[start:stop].tolist()
    index = data.draw(st.integers(-len(whole), len(whole) - 1))
    assert shards[index] == whole[index]


def test_ids_past_the_vocabulary_are_named(tmp_path: Path):
    good = nanogpt(tmp_path / "good.bin")
    high = nanogpt(tmp_path / "high.bin", np.array([1, 2, 300], dtype=np.uint16))
    with pytest.raises(
        InputError, match=r"high.bin: token 2 is the id 300, but the tokenizer has 257 entries"
    ):
        open_or_build(tmp_path / "stores", corpus(high, good))


def test_many_shards_need_few_descriptors_and_few_bytes_to_send(tmp_path: Path):
    resource = pytest.importorskip("resource")
    paths = [nanogpt(tmp_path / f"{number:03}.bin") for number in range(300)]
    store = open_or_build(tmp_path / "stores", corpus(paths, paths[0]))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        tokens = pickle.loads(pickle.dumps(store.tokens("train")))
        assert [tokens[start : start + 9].tolist() for start in (0, 9 * 299)] == [IDS.tolist()] * 2
        assert tokens[:].tolist() == IDS.tolist() * 300
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
