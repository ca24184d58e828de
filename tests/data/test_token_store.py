import errno
import hashlib
import json
import multiprocessing
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from gpt2_lightning.data.corpus import Corpus
from gpt2_lightning.data.sources import JSONFiles, Mixture, TextFiles
from gpt2_lightning.data.store_builder import open_or_build
from gpt2_lightning.data.token_store import BuiltStore
from gpt2_lightning.data.tokenizer import ByteLevelBPE, Bytes, Pretrained, TokenizerRecipe
from gpt2_lightning.errors import InputError
from tests.conftest import ASSETS, ROOT


def corpus(vocab_size: int = 300, fraction: float = 0.3, paths: list[str] | None = None) -> Corpus:
    return Corpus(TextFiles(paths or [str(ASSETS)]), ByteLevelBPE(vocab_size), fraction)


def build(
    root: Path, vocab_size: int = 300, fraction: float = 0.3, paths: list[str] | None = None
) -> BuiltStore:
    store = open_or_build(root, corpus(vocab_size, fraction, paths))
    assert isinstance(store, BuiltStore)
    return store


def test_tokens_decode_to_the_documents_of_each_split(tmp_path: Path):
    store = build(tmp_path)
    tokenizer = store.tokenizer()
    texts = [document.text for document in TextFiles([str(ASSETS)]).documents()]
    for split in ("train", "validation"):
        expected = [text for text in texts if corpus().split_of(text) == split]
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


def test_bits_per_byte_of_a_uniform_guess_by_hand(tmp_path: Path):
    counts = build(tmp_path).splits["validation"]
    assert counts.bits_per_byte(np.log(2) * 8) == pytest.approx(8 * counts.tokens / counts.utf8_bytes)


def test_xz_figure_is_that_of_the_held_out_text(tmp_path: Path):
    import lzma

    held_out = b"".join(
        document.text.encode()
        for document in TextFiles([str(ASSETS)]).documents()
        if corpus().split_of(document.text) == "validation"
    )
    counts = build(tmp_path).splits["validation"]
    assert counts.xz_bytes == len(lzma.compress(held_out, preset=9 | lzma.PRESET_EXTREME))
    assert counts.xz_bits_per_byte == pytest.approx(8 * counts.xz_bytes / len(held_out))


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


def test_held_out_documents_stay_whatever_the_weight(tmp_path: Path):
    source = TextFiles(str(ASSETS))
    whole = open_or_build(tmp_path, Corpus(Mixture([source]), Bytes(), 0.3)).splits
    thinned = open_or_build(tmp_path, Corpus(Mixture([source], [0.4]), Bytes(), 0.3)).splits
    assert thinned["validation"] == whole["validation"]
    assert thinned["train"].tokens < whole["train"].tokens


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
    assert isinstance(again, BuiltStore)
    for name in ("train.bin", "train.ends.bin", "validation.bin", "manifest.json"):
        assert (folder / name).read_bytes() == (again.folder / name).read_bytes()


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
    assert isinstance(store, BuiltStore)
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
    with pytest.raises(InputError, match=r"--data.corpus.validation: the validation split is empty"):
        open_or_build(tmp_path / "stores", Corpus(TextFiles(str(ASSETS)), Bytes(), validation=empty))


def test_a_file_changed_while_it_is_read_makes_no_store(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": f"text {i}"}) + "\n" for i in range(40)))

    class Changing(JSONFiles):
        def documents(self):
            yield from super().documents()
            path.write_text(path.read_text() + json.dumps({"text": "more"}) + "\n")

    with pytest.raises(InputError, match="a file was changed while it was read"):
        open_or_build(tmp_path / "stores", Corpus(Changing(str(path)), Bytes(), 0.3))
    assert not [each for each in (tmp_path / "stores").iterdir() if each.is_dir()]


def test_what_a_killed_build_left_is_swept_by_any_other(tmp_path: Path):
    left = tmp_path / "TextFiles-0123456789abcdef.x1y2z3.part"
    left.mkdir(parents=True)
    build(tmp_path)
    assert not left.exists()


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
    counts = open_or_build(tmp_path / "stores", named).splits
    assert (counts["train"].documents, counts["validation"].documents) == (200, 1)


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


def test_repeated_documents_are_held_out_once(tmp_path: Path):
    source = TextFiles(str(ASSETS))
    once = open_or_build(tmp_path, Corpus(Mixture([source]), Bytes(), 0.3)).splits
    twice = open_or_build(tmp_path, Corpus(Mixture([source], [2]), Bytes(), 0.3)).splits
    assert twice["train"].tokens == 2 * once["train"].tokens
    assert twice["validation"].tokens == once["validation"].tokens


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


def test_failure_leaves_nothing_behind(tmp_path: Path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "bad.txt").write_bytes(b"\xff")
    with pytest.raises(InputError, match="not UTF-8"):
        build(tmp_path / "stores", paths=[str(tmp_path / "corpus")])
    assert not [path for path in (tmp_path / "stores").iterdir() if path.suffix != ".lock"]


def test_empty_split_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="validation split is empty"):
        build(tmp_path, fraction=1e-9)


def test_corpus_without_text_is_refused(tmp_path: Path):
    (tmp_path / "a.txt").write_text(" \n")
    with pytest.raises(InputError, match=r"--data.corpus.source: the corpus is empty"):
        build(tmp_path / "stores", paths=[str(tmp_path)])


def test_root_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"--data.folder"):
        build(tmp_path / "file" / "stores")


def test_full_disk_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gpt2_lightning.data.store_builder.SplitWriter.add", full)
    with pytest.raises(InputError, match=r"--data.folder '.*': cannot be used \(No space left on device\)"):
        build(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_processes_that_want_the_same_store_build_it_once(tmp_path: Path):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        stores = pool.map(build, [tmp_path] * 2)
    assert stores[0] == stores[1]
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1
