"""A corpus becomes a token store: once, in bounded memory, never half there and never stale."""

import errno
import hashlib
import json
import lzma
import shutil
import sys
import tempfile
from array import array
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from gpt2_lightning.data.corpus import Corpus, Split
from gpt2_lightning.data.digests import FileDigests
from gpt2_lightning.data.documents import Document, Rejected
from gpt2_lightning.data.encoder import Encoder, encoder_of
from gpt2_lightning.data.sources import TokenFiles
from gpt2_lightning.data.store_in_place import StoreInPlace
from gpt2_lightning.data.token_store import BuiltStore, SplitCounts, TokenStore
from gpt2_lightning.data.tokenizer import end_of_text_id
from gpt2_lightning.errors import InputError

_FORMAT = 5  # part of the fingerprint: raise it whenever the same inputs give other files
_XZ_LIMIT_BYTES = 2**19  # xz -9e reads about 1 MB/s: beyond this its figure is not worth the wait
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_CHARS_PER_BATCH = 2**20  # tokenized at once, in parallel


def open_or_build(root: Path, corpus: Corpus) -> TokenStore:
    """The store of a corpus below `root`: the one that is there, or a new one.

    Of several processes that want the same store, one builds it while the others wait. A store is
    written beside its place and renamed, so that it is whole or absent; one with a damaged file is
    built again. Token files are opened where they are.

    Raises:
        InputError: if `root` cannot be written, a record is not text, or a split would be empty.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        digests = FileDigests(root / "digests.json")
        try:
            return _open_or_build(root, corpus, digests)
        finally:
            digests.save()
    except OSError as error:
        ours = error.filename and str(error.filename).startswith(str(root))
        if not ours and error.errno not in _NO_SPACE:  # a full disk is said without the file's name
            raise
        raise InputError(f"--data.folder {str(root)!r}: cannot be written ({error.strerror})") from None


def _open_or_build(root: Path, corpus: Corpus, digests: FileDigests) -> TokenStore:
    key = hashlib.sha256(f"{_FORMAT} {corpus.fingerprint(digests)}".encode()).hexdigest()
    if isinstance(corpus.source, TokenFiles):
        return StoreInPlace.open(corpus, key, root / f"{corpus.name}-{key[:16]}.json")
    folder = root / f"{corpus.name}-{key[:16]}"
    with FileLock(f"{folder}.lock"):
        if folder.exists():
            try:
                return BuiltStore.open(folder, digests)
            except (FileNotFoundError, ValueError, TypeError, KeyError) as error:
                print(f"{folder} is damaged ({error}): building it again", flush=True)
                shutil.rmtree(folder)
        for left_by_a_kill in root.glob(f"{folder.name}.*.part"):
            shutil.rmtree(left_by_a_kill)
        print(f"Reading and tokenizing {corpus.name} into {folder}, once ...", flush=True)
        _build(folder, key, corpus)
        return BuiltStore.open(folder, digests)


def _build(folder: Path, key: str, corpus: Corpus) -> None:
    work = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        tokenizer = corpus.tokenizer.build(_training_texts(corpus))
        typecode: Literal["H", "I"] = "H" if len(tokenizer) <= 2**16 else "I"
        masks = any(s.masks_prompts for s in (corpus.source, corpus.validation, corpus.test) if s)
        with ExitStack() as stack:
            writers: dict[Split, _SplitWriter] = {
                split: stack.enter_context(
                    _SplitWriter(work, split, typecode, end_of_text_id(tokenizer), masks)
                )
                for split in corpus.splits
            }
            rejected = _tokenize(corpus, tokenizer, writers, work / "quarantine.jsonl")
        splits: dict[Split, dict[str, Any]] = {
            split: asdict(writer.counts()) for split, writer in writers.items()
        }
        _check_not_empty(corpus, splits)
        tokenizer.backend_tokenizer.encode_special_tokens = False
        tokenizer.save_pretrained(work / "tokenizer")
        manifest = {
            "fingerprint": key,
            "dtype": "<u2" if typecode == "H" else "<u4",
            "vocab_size": len(tokenizer),
            "rejected": rejected,
            "files": _digests_of(work, {f"{split}.bin": each.sha256 for split, each in writers.items()}),
            "splits": splits,
        }
        (work / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
        if rejected:
            print(f"left out {rejected:,} records; they are in {folder}/quarantine.jsonl", flush=True)
        work.chmod(0o755)  # mkdtemp's folders are private
        work.rename(folder)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def _digests_of(folder: Path, known: dict[str, str]) -> dict[str, str]:
    """SHA-256 of every file below `folder` by its name; those of the ids are known."""
    digests = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        with path.open("rb") as file:
            digests[name] = known.get(name) or hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _training_texts(corpus: Corpus) -> Iterator[str]:
    for split, record in corpus.records():
        if isinstance(record, Rejected):
            _stop_at(record, corpus)
        elif split == "train":
            yield record.text


def _stop_at(record: Rejected, corpus: Corpus) -> None:
    if corpus.on_error == "stop":
        raise InputError(
            f"{record.origin}: {record.reason}; mend it, or leave such records out with "
            "--data.corpus.on_error skip"
        )


def _tokenize(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerFast,
    writers: "dict[Split, _SplitWriter]",
    quarantine: Path,
) -> int:
    """Write every document to its split; returns the number of records that were left out.

    Raises:
        InputError: at the first record that is no document, unless the corpus says to skip it.
    """
    rejections = _Rejections(quarantine)
    encode: Encoder | None = None
    with rejections, tqdm(desc="tokenizing", unit="B", unit_scale=True, disable=None, leave=False) as bar:
        for batch in _batches(corpus, rejections):
            pieces = [piece.text for _, document in batch for piece in document.pieces]
            encode = encode or encoder_of(tokenizer, pieces)
            ids = iter(encode(pieces))
            for split, document in batch:
                bar.update(writers[split].add(document, list(islice(ids, len(document.pieces)))))
    return rejections.number


class _Rejections(AbstractContextManager["_Rejections"]):
    """Writes the records that are left out to a file, which is there only if there are any."""

    def __init__(self, path: Path) -> None:
        self.number = 0
        self._path, self._file = path, None

    def __exit__(self, *exception: object) -> None:
        if self._file:
            self._file.close()

    def add(self, record: Rejected) -> None:
        self._file = self._file or self._path.open("w", encoding="utf-8")
        self._file.write(json.dumps(asdict(record), ensure_ascii=False) + "\n")
        self.number += 1


def _batches(corpus: Corpus, rejections: _Rejections) -> Iterator[list[tuple[Split, Document]]]:
    batch: list[tuple[Split, Document]] = []
    size = 0
    for split, record in corpus.records():
        if isinstance(record, Rejected):
            _stop_at(record, corpus)
            rejections.add(record)
            continue
        batch.append((split, record))
        size += len(record.text)
        if size >= _CHARS_PER_BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _check_not_empty(corpus: Corpus, splits: dict[Split, dict[str, Any]]) -> None:
    total = sum(counts["documents"] for counts in splits.values())
    if not total:
        raise InputError(
            "--data.corpus.source: the corpus is empty: no record holds anything but white space"
        )
    for split, counts in splits.items():
        if not counts["documents"]:
            option = "--data.corpus.source" if split == "train" else f"--data.corpus.{split}_fraction"
            raise InputError(
                f"{option}: the {split} split is empty; documents in all: {total:,}. One long file is one "
                "document: cut it with --data.corpus.source.separator or .heading (DATA=book cuts at blank "
                "lines), name a split of its own with --data.corpus.validation, or change "
                "--data.corpus.validation_fraction"
            )


class _SplitWriter:
    """Writes the files of one split, and counts."""

    def __init__(
        self, folder: Path, split: Split, typecode: Literal["H", "I"], end_of_text: int, masks: bool
    ) -> None:
        self._folder, self._split, self._typecode, self._end_of_text = folder, split, typecode, end_of_text
        self._masks = masks
        self._documents = self._targets = self._utf8_bytes = self._characters = self._tokens = 0
        self._digest = hashlib.sha256()
        self._compressor = (
            lzma.LZMACompressor(preset=9 | lzma.PRESET_EXTREME) if split == "validation" else None
        )
        self._compressed = 0

    def __enter__(self) -> "_SplitWriter":
        self._file = (self._folder / f"{self._split}.bin").open("wb")
        self._ends_file = (self._folder / f"{self._split}.ends.bin").open("wb")
        self._mask_file = (self._folder / f"{self._split}.learned.bin").open("wb") if self._masks else None
        return self

    def __exit__(self, *exception: object) -> None:
        for file in filter(None, (self._file, self._ends_file, self._mask_file)):
            file.close()

    def add(self, document: Document, ids: list[list[int]]) -> int:
        """Write a document, given the ids of each of its pieces; returns the bytes of its text."""
        pieces = document.pieces
        tokens = array(self._typecode, ids[0])  # an id past the type's range raises OverflowError
        for more in ids[1:]:
            tokens.extend(more)
        tokens.append(self._end_of_text)
        data = _little_endian(tokens)
        self._file.write(data)
        self._digest.update(data)
        self._tokens += len(tokens)
        self._ends_file.write(self._tokens.to_bytes(8, "little"))
        self._documents += 1
        learned = [piece.learned for piece in pieces]
        ends_learned = learned[-1]  # after an answer the end is learned; after a prompt there is none
        self._targets += (
            sum(len(i) for i, counted in zip(ids, learned, strict=True) if counted) + ends_learned
        )
        if self._mask_file:
            mask = b"".join(bytes([counted]) * len(i) for i, counted in zip(ids, learned, strict=True))
            self._mask_file.write(mask + bytes([ends_learned]))
        return self._count_text("".join(piece.text for piece in pieces if piece.learned))

    def _count_text(self, text: str) -> int:
        encoded = text.encode()
        self._utf8_bytes += len(encoded)
        self._characters += len(text)
        if self._compressor:
            if self._utf8_bytes <= _XZ_LIMIT_BYTES:
                self._compressed += len(self._compressor.compress(encoded))
            else:
                self._compressor = None
        return len(encoded)

    def counts(self) -> SplitCounts:
        """What was written."""
        return SplitCounts(
            documents=self._documents,
            tokens=self._tokens,
            targets=self._targets,
            utf8_bytes=self._utf8_bytes,
            characters=self._characters,
            xz_bytes=self._compressed + len(self._compressor.flush()) if self._compressor else None,
        )

    @property
    def sha256(self) -> str:
        """Of the ids that were written (hex)."""
        return self._digest.hexdigest()


def _little_endian(values: "array[int]") -> bytes:
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values.tobytes()
