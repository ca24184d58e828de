"""A corpus as files of token ids: built once, memory-mapped, never half there and never stale.

A store is one folder: `train.bin` and `validation.bin` (flat little-endian ids), `*.ends.bin` (the
position after each document, int64), the tokenizer as a Hugging Face folder, and `manifest.json`.
"""

import contextlib
import hashlib
import json
import lzma
import math
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from filelock import FileLock
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from gpt2_lightning.data.corpus import Corpus
from gpt2_lightning.data.tokenizer import end_of_text_id
from gpt2_lightning.errors import InputError

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")

_FORMAT = 2  # part of the fingerprint: raise it whenever the same inputs give other files
_XZ_LIMIT_BYTES = 16 * 2**20  # xz -9e reads about 1 MB/s: beyond this its figure is not worth the wait
_DOCUMENTS_PER_BATCH = 256  # tokenized at once, in parallel, by the tokenizers library


@dataclass(frozen=True)
class SplitCounts:
    """What one split holds.

    Attributes:
        documents: number of documents.
        tokens: ids in the file, with one end-of-text per document.
        utf8_bytes: bytes of the documents' text: the unit of bits per byte.
        xz_bytes: the documents' text, one after the other, after `xz -9e`; only for a validation
            split of at most 16 MiB, else `None`.
        sha256: of the ids' file.
    """

    documents: int
    tokens: int
    utf8_bytes: int
    xz_bytes: int | None
    sha256: str

    def bits_per_byte(self, nll: float) -> float:
        """Bits per UTF-8 byte of text, for a mean NLL in nats per token over the whole split.

        The end-of-text tokens cost bits and bring no bytes.
        """
        return nll / math.log(2) * self.tokens / self.utf8_bytes

    @property
    def xz_bits_per_byte(self) -> float | None:
        """What `xz -9e` needs on the same text."""
        return None if self.xz_bytes is None else 8 * self.xz_bytes / self.utf8_bytes


@dataclass(frozen=True)
class TokenStore:
    """An opened store.

    Attributes:
        folder: where it lies.
        fingerprint: of text, tokenizer and options.
        dtype: of the ids, `<u2` or `<u4`.
        vocab_size: entries of the tokenizer.
        splits: counts by split.
    """

    folder: Path
    fingerprint: str
    dtype: str
    vocab_size: int
    splits: dict[Split, SplitCounts]

    @classmethod
    def open(cls, folder: Path) -> "TokenStore":
        """The store in `folder`, after a look whether its files have the length they should have."""
        manifest = json.loads((folder / "manifest.json").read_text())
        splits = {name: SplitCounts(**counts) for name, counts in manifest.pop("splits").items()}
        store = cls(folder=folder, splits=splits, **manifest)
        for split, counts in splits.items():
            size = (folder / f"{split}.bin").stat().st_size
            if size != counts.tokens * np.dtype(store.dtype).itemsize:
                raise ValueError(f"{folder}/{split}.bin has {size} bytes, not those of the manifest")
        return store

    def tokens(self, split: Split) -> np.ndarray:
        """All ids of a split, memory-mapped, `(tokens,)`."""
        return np.memmap(self.folder / f"{split}.bin", dtype=self.dtype, mode="r")

    def document_ends(self, split: Split) -> np.ndarray:
        """For each document, the position after its end-of-text, int64 `(documents,)`."""
        return np.memmap(self.folder / f"{split}.ends.bin", dtype="<i8", mode="r")

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer that made the ids."""
        return AutoTokenizer.from_pretrained(self.folder / "tokenizer")


def open_or_build(root: Path, corpus: Corpus) -> TokenStore:
    """The store of a corpus below `root`: the one that is there, or a new one.

    Of several processes that want the same store, one builds it while the others wait. A store is
    written beside its place and renamed, so that it is whole or absent; one with a damaged file is
    built again.

    Raises:
        InputError: if `root` cannot be written, a file is not text, or a split would be empty.
    """
    key = hashlib.sha256(f"{_FORMAT} {corpus.fingerprint()}".encode()).hexdigest()
    folder = root / f"{corpus.name}-{key[:16]}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if folder.exists():
                try:
                    return TokenStore.open(folder)
                except (OSError, ValueError, TypeError, KeyError) as error:
                    print(f"{folder} is damaged ({error}): building it again")
                    shutil.rmtree(folder)
            print(f"Reading and tokenizing {corpus.name} into {folder}, once ...", flush=True)
            _build(folder, key, corpus)
            return TokenStore.open(folder)
    except OSError as error:
        if error.filename is None or not str(error.filename).startswith(str(root)):
            raise
        raise InputError(f"--data.folder {str(root)!r}: cannot be written ({error.strerror})") from None


def _build(folder: Path, key: str, corpus: Corpus) -> None:
    work = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        documents: dict[Split, Path] = {split: work / f"{split}.jsonl" for split in SPLITS}
        xz_bytes = _spool(corpus, documents)
        tokenizer = corpus.tokenizer.build(_texts(documents["train"]))
        dtype = "<u2" if len(tokenizer) <= 2**16 else "<u4"
        splits = {}
        for split in SPLITS:
            counts = _tokenize(documents[split], work, split, tokenizer, np.dtype(dtype))
            splits[split] = asdict(counts) | {"xz_bytes": xz_bytes if split == "validation" else None}
            documents[split].unlink()
        tokenizer.save_pretrained(work / "tokenizer")
        manifest = {"fingerprint": key, "dtype": dtype, "vocab_size": len(tokenizer), "splits": splits}
        (work / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
        work.chmod(0o755)  # mkdtemp's folders are private
        work.rename(folder)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def _spool(corpus: Corpus, paths: dict[Split, Path]) -> int | None:
    """Write each split's documents to its file, one JSON string a line: memory stays flat.

    Returns:
        Size of the held-out text after `xz -9e` in bytes, or `None` where it is too long.
    """
    compressor, held_out, compressed = lzma.LZMACompressor(preset=9 | lzma.PRESET_EXTREME), 0, 0
    counts = dict.fromkeys(SPLITS, 0)
    with contextlib.ExitStack() as stack:
        files = {
            split: stack.enter_context(path.open("w", encoding="utf-8")) for split, path in paths.items()
        }
        for document in corpus.source.documents():
            split: Split = "validation" if corpus.is_held_out(document.text) else "train"
            files[split].write(json.dumps(document.text) + "\n")
            counts[split] += 1
            if split == "validation":
                text = document.text.encode()
                held_out += len(text)
                if held_out <= _XZ_LIMIT_BYTES:
                    compressed += len(compressor.compress(text))
    for split, count in counts.items():
        if count == 0:
            raise InputError(
                f"--data.corpus.validation_fraction {corpus.validation_fraction}: the {split} split is "
                f"empty, of {sum(counts.values())} documents in all; change the fraction or add documents "
                "(each file is one: cut up a long one)"
            )
    return compressed + len(compressor.flush()) if held_out <= _XZ_LIMIT_BYTES else None


def _texts(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def _tokenize(
    documents: Path,
    folder: Path,
    split: Split,
    tokenizer: PreTrainedTokenizerFast,
    dtype: np.dtype,
) -> SplitCounts:
    ends, utf8_bytes, digest = [0], 0, hashlib.sha256()
    end_of_text = end_of_text_id(tokenizer)
    with (folder / f"{split}.bin").open("wb") as file:
        for texts in _batches(_texts(documents)):
            utf8_bytes += sum(len(text.encode()) for text in texts)
            encoded = tokenizer(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)
            for ids in encoded["input_ids"]:  # pyright: ignore[reportGeneralTypeIssues]
                _append([*ids, end_of_text], dtype, file, digest)
                ends.append(ends[-1] + len(ids) + 1)
    np.array(ends[1:], dtype="<i8").tofile(folder / f"{split}.ends.bin")
    return SplitCounts(
        documents=len(ends) - 1,
        tokens=ends[-1],
        utf8_bytes=utf8_bytes,
        xz_bytes=None,
        sha256=digest.hexdigest(),
    )


def _append(ids: list[int], dtype: np.dtype, file: BinaryIO, digest: "hashlib._Hash") -> None:
    data = np.array(ids, dtype=dtype).tobytes()  # an id past the type's range raises OverflowError
    file.write(data)
    digest.update(data)


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == _DOCUMENTS_PER_BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
