"""A store is built once, whole or absent, and found again."""

import errno
import json
import multiprocessing
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from gpt2_lightning.data.corpus import Corpus
from gpt2_lightning.data.sources import JSONFiles, TextFiles
from gpt2_lightning.data.store_builder import open_or_build
from gpt2_lightning.data.tokenized_store import TokenizedStore
from gpt2_lightning.data.tokenizer import ByteLevelBPE, Bytes
from gpt2_lightning.errors import InputError
from tests.conftest import ASSETS


def corpus(vocab_size: int = 300, fraction: float = 0.3, paths: list[str] | None = None) -> Corpus:
    return Corpus(TextFiles(paths or [str(ASSETS)]), ByteLevelBPE(vocab_size), fraction)


def build(
    root: Path, vocab_size: int = 300, fraction: float = 0.3, paths: list[str] | None = None
) -> TokenizedStore:
    store = open_or_build(root, corpus(vocab_size, fraction, paths))
    assert isinstance(store, TokenizedStore)
    return store


def test_store_is_reused_and_follows_text_tokenizer_and_options(tmp_path: Path):
    first = build(tmp_path)
    stamp = (first.folder / "manifest.json").stat().st_mtime_ns
    assert build(tmp_path).folder == first.folder
    assert (first.folder / "manifest.json").stat().st_mtime_ns == stamp
    others = {build(tmp_path, vocab_size=301).folder, build(tmp_path, fraction=0.4).folder, first.folder}
    assert len(others) == 3


def test_damaged_store_is_built_again(tmp_path: Path):
    store = build(tmp_path)
    data = (store.folder / "train.bin").read_bytes()
    (store.folder / "train.bin").write_bytes(data[:-2])
    assert (build(tmp_path).folder / "train.bin").read_bytes() == data
    (store.folder / "manifest.json").write_text("{}")
    assert (build(tmp_path).folder / "train.bin").read_bytes() == data


def test_altered_byte_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    store = build(tmp_path)
    data = (store.folder / "train.bin").read_bytes()
    (store.folder / "train.bin").write_bytes(bytes([data[0] ^ 1]) + data[1:])
    assert (build(tmp_path).folder / "train.bin").read_bytes() == data
    assert (
        "train.bin has another SHA-256 than the manifest says): building it again" in capsys.readouterr().out
    )


@pytest.mark.parametrize("name", ["validation.ends.bin", "tokenizer/tokenizer.json"])
def test_missing_or_altered_file_of_a_store_is_built_again(tmp_path: Path, name: str):
    store = build(tmp_path)
    data = (store.folder / name).read_bytes()
    (store.folder / name).write_bytes(data[::-1])
    assert (build(tmp_path).folder / name).read_bytes() == data
    (store.folder / name).unlink()
    assert (build(tmp_path).folder / name).read_bytes() == data


def test_kill_while_tokenizing_leaves_nothing_and_the_next_build_is_the_same(tmp_path: Path):
    text = "some words of a text " * 20
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"text": f"{i} {text}"}) + "\n" for i in range(40000))
    )
    code = (
        "from pathlib import Path; from gpt2_lightning.data.sources import JSONFiles;"
        "from gpt2_lightning.data.store_builder import open_or_build;"
        "from gpt2_lightning.data.corpus import Corpus; from gpt2_lightning.data.tokenizer import Bytes;"
        f"corpus = Corpus(JSONFiles({str(tmp_path / 'a.jsonl')!r}), Bytes());"
        f"open_or_build(Path({str(tmp_path / 'stores')!r}), corpus)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    while not list(tmp_path.glob("stores/*.part/train.bin")):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert list(tmp_path.glob("stores/*.part"))
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    (folder,) = [path for path in (tmp_path / "stores").iterdir() if path.is_dir()]
    again = open_or_build(tmp_path / "other", Corpus(JSONFiles(str(tmp_path / "a.jsonl")), Bytes()))
    assert isinstance(again, TokenizedStore)
    for name in ("train.bin", "train.ends.bin", "validation.bin", "manifest.json"):
        assert (folder / name).read_bytes() == (again.folder / name).read_bytes()


def test_a_file_changed_while_it_is_read_makes_no_store(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": f"text {i}"}) + "\n" for i in range(40)))

    class Changing(JSONFiles):
        def documents(self, reject):
            yield from super().documents(reject)
            path.write_text(path.read_text() + json.dumps({"text": "more"}) + "\n")

    with pytest.raises(InputError, match="a file was changed while it was read"):
        open_or_build(tmp_path / "stores", Corpus(Changing(str(path)), Bytes(), 0.3))
    assert not [each for each in (tmp_path / "stores").iterdir() if each.is_dir()]


@pytest.mark.parametrize("ending", ["part", "x1y2z3.part"])  # the second of earlier versions
def test_what_a_killed_build_left_is_swept_by_any_other_and_what_is_at_work_is_not(
    tmp_path: Path, ending: str
):
    left = tmp_path / f"TextFiles-0123456789abcdef.{ending}"
    left.mkdir(parents=True)
    with FileLock(tmp_path / "TextFiles-0123456789abcdef.lock"):
        build(tmp_path)
    assert left.exists()
    mine = tmp_path / "scans.part"
    mine.mkdir()
    build(tmp_path, vocab_size=290)
    assert not left.exists()
    assert mine.exists(), "of the user's, who may keep other things there"


def test_failure_leaves_nothing_behind(tmp_path: Path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "bad.txt").write_bytes(b"\xff")
    with pytest.raises(InputError, match="not UTF-8"):
        build(tmp_path / "stores", paths=[str(tmp_path / "corpus")])
    assert not [path for path in (tmp_path / "stores").iterdir() if path.suffix != ".lock"]


def test_root_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"--data.folder"):
        build(tmp_path / "file" / "stores")


def test_full_disk_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gpt2_lightning.data.tokenized_store.SplitWriter.add", full)
    with pytest.raises(InputError, match=r"--data.folder '.*': cannot be used \(No space left on device\)"):
        build(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_processes_that_want_the_same_store_build_it_once(tmp_path: Path):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        stores = pool.map(build, [tmp_path] * 2)
    assert stores[0] == stores[1]
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1


def test_fields_stand_where_the_caller_says(tmp_path: Path):
    nowhere = Corpus(TextFiles(str(ASSETS)), Bytes(), validation=TextFiles(str(tmp_path / "nowhere")))
    with pytest.raises(InputError, match=r"^--data.corpus.validation.paths '.*nowhere': no such file"):
        open_or_build(tmp_path / "stores", nowhere)
    with pytest.raises(InputError, match=r"^--data.validation.paths '.*nowhere': no such file"):
        open_or_build(tmp_path / "stores", nowhere, "--data")


def test_a_build_that_fails_leaves_nothing(tmp_path: Path):
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(InputError):
        open_or_build(tmp_path / "data", Corpus(TextFiles(str(tmp_path / "a.txt"))))
    assert not list((tmp_path / "data").glob("*.lock"))
    assert not list((tmp_path / "data").glob("*.part"))
