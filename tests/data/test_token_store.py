import hashlib
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from gpt2_lightning.data.corpus import Corpus
from gpt2_lightning.data.sources import TextFiles
from gpt2_lightning.data.token_store import TokenStore, open_or_build
from gpt2_lightning.data.tokenizer import ByteLevelBPE, TokenizerRecipe
from gpt2_lightning.errors import InputError
from tests.conftest import ASSETS


def corpus(vocab_size: int = 300, fraction: float = 0.3, paths: list[str] | None = None) -> Corpus:
    return Corpus(TextFiles(paths or [str(ASSETS)]), ByteLevelBPE(vocab_size), fraction)


def build(
    root: Path, vocab_size: int = 300, fraction: float = 0.3, paths: list[str] | None = None
) -> TokenStore:
    return open_or_build(root, corpus(vocab_size, fraction, paths))


def test_tokens_decode_to_the_documents_of_each_split(tmp_path: Path):
    store = build(tmp_path)
    tokenizer = store.tokenizer()
    texts = [document.text for document in TextFiles([str(ASSETS)]).documents()]
    for split in ("train", "validation"):
        expected = [text for text in texts if corpus().is_held_out(text) == (split == "validation")]
        tokens, start, decoded = store.tokens(split), 0, []
        for end in store.document_ends(split):
            assert tokens[end - 1] == tokenizer.eos_token_id
            decoded.append(tokenizer.decode(tokens[start : end - 1]))
            start = end
        assert decoded == expected
        counts = store.splits[split]
        assert start == len(tokens) == counts.tokens
        assert counts.utf8_bytes == sum(len(text.encode()) for text in expected)
        assert counts.sha256 == hashlib.sha256((store.folder / f"{split}.bin").read_bytes()).hexdigest()


def test_bits_per_byte_of_a_uniform_guess_by_hand(tmp_path: Path):
    counts = build(tmp_path).splits["validation"]
    assert counts.bits_per_byte(np.log(2) * 8) == pytest.approx(8 * counts.tokens / counts.utf8_bytes)


def test_xz_figure_is_that_of_the_held_out_text(tmp_path: Path):
    import lzma

    held_out = b"".join(
        document.text.encode()
        for document in TextFiles([str(ASSETS)]).documents()
        if corpus().is_held_out(document.text)
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


def test_end_of_text_written_in_a_document_is_text(tmp_path: Path):
    (tmp_path / "corpus").mkdir()
    for number in range(20):
        (tmp_path / "corpus" / f"{number}.txt").write_text(f"{number}: the token <|endoftext|> is text here")
    store = build(tmp_path / "stores", paths=[str(tmp_path / "corpus")])
    tokens = store.tokens("train")
    assert (tokens == store.tokenizer().eos_token_id).sum() == store.splits["train"].documents


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
    assert store.tokens("train").max() == vocab_size - 1


def test_failure_leaves_nothing_behind(tmp_path: Path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "bad.txt").write_bytes(b"\xff")
    with pytest.raises(InputError, match="not UTF-8"):
        build(tmp_path / "stores", paths=[str(tmp_path / "corpus")])
    assert not [path for path in (tmp_path / "stores").iterdir() if path.suffix != ".lock"]


def test_empty_split_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="validation split is empty"):
        build(tmp_path, fraction=1e-9)


def test_root_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"--data.folder"):
        build(tmp_path / "file" / "stores")


def test_processes_that_want_the_same_store_build_it_once(tmp_path: Path):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        stores = pool.map(build, [tmp_path] * 2)
    assert stores[0] == stores[1]
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1
