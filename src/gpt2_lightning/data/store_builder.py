"""A corpus becomes a token store: once, in bounded memory, never half there and never stale."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from gpt2_lightning.data.corpus import Corpus, Split
from gpt2_lightning.data.documents import Document, Rejected
from gpt2_lightning.data.encoder import Encoder, encoder_of
from gpt2_lightning.data.split_writer import SplitWriter
from gpt2_lightning.data.store_in_place import StoreInPlace, index
from gpt2_lightning.data.token_store import BuiltStore, TokenStore
from gpt2_lightning.data.tokenizer import end_of_text_id
from gpt2_lightning.errors import InputError
from gpt2_lightning.files.digests import FileDigests, digests_of

_FORMAT = 7  # part of the fingerprint: raise it whenever the same inputs give other files
_CHARS_PER_BATCH = 2**20  # tokenized at once, in parallel

Build = Callable[[Corpus, Path], dict[str, Any]]
"""Writes the files of a store into a folder, and returns what its manifest says of them."""


def open_or_build(root: Path, corpus: Corpus) -> TokenStore:
    """The store of a corpus below `root`: the one that is there, or a new one.

    Of several processes that want the same store, one builds it while the others wait. A store is
    written beside its place and renamed, so that it is whole or absent; one with a damaged file is
    built again. Of token files only what is known about them is written, not the ids.

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
    except OSError as error:  # of the store: a source says itself what it cannot read
        raise InputError(
            f"--data.folder {str(root)!r}: cannot be used ({error.strerror or error}"
            f"{f', {error.filename}' if error.filename else ''})"
        ) from None


def _open_or_build(root: Path, corpus: Corpus, digests: FileDigests) -> TokenStore:
    key = _key(corpus, digests)
    folder = root / f"{corpus.name}-{key[:16]}"
    with FileLock(f"{folder}.lock"):
        if folder.exists():
            try:
                return _open(folder, corpus, digests)
            except (FileNotFoundError, ValueError, TypeError, KeyError) as error:
                print(f"{folder} is damaged ({error}): building it again", flush=True)
                shutil.rmtree(folder)
        _sweep(root, folder)
        if corpus.is_in_place:
            print(f"Looking at every id of {corpus.name}, once ...", flush=True)
        else:
            print(f"Reading and tokenizing {corpus.name} into {folder}, once ...", flush=True)
        _build(folder, key, corpus, digests)
        return _open(folder, corpus, digests)


def _key(corpus: Corpus, digests: FileDigests) -> str:
    return hashlib.sha256(f"{_FORMAT} {corpus.fingerprint(digests)}".encode()).hexdigest()


def _open(folder: Path, corpus: Corpus, digests: FileDigests) -> TokenStore:
    if corpus.is_in_place:
        return StoreInPlace.open(folder, digests, corpus)
    return BuiltStore.open(folder, digests)


def _sweep(root: Path, own: Path) -> None:
    """Remove what builds that were killed have left; one that is at work holds its lock."""
    for part in root.glob("*.part"):
        folder = root / part.name.rsplit(".", 2)[0]  # <folder>.<random>.part
        lock = nullcontext() if folder == own else FileLock(f"{folder}.lock", timeout=0)  # our own is held
        with suppress(Timeout), lock:
            shutil.rmtree(part, ignore_errors=True)


def _build(folder: Path, key: str, corpus: Corpus, digests: FileDigests) -> None:
    build: Build = index if corpus.is_in_place else _tokenize_into
    work = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        known = build(corpus, work)
        if _key(corpus, digests) != key:
            raise InputError("--data.corpus: a file was changed while it was read; start again")
        manifest = {"fingerprint": key, **known}
        (work / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
        if known["rejected"]:
            print(
                f"left out {known['rejected']:,} records; they are in {folder}/quarantine.jsonl", flush=True
            )
        work.chmod(0o755)  # mkdtemp's folders are private
        work.rename(folder)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def _tokenize_into(corpus: Corpus, work: Path) -> dict[str, Any]:
    tokenizer = corpus.tokenizer.build(_training_texts(corpus))
    typecode: Literal["H", "I"] = "H" if len(tokenizer) <= 2**16 else "I"
    masks = any(source.masks_prompts for source in corpus.sources.values())
    with ExitStack() as stack:
        writers: dict[Split, SplitWriter] = {
            split: stack.enter_context(SplitWriter(work, split, typecode, end_of_text_id(tokenizer), masks))
            for split in corpus.splits
        }
        rejections = _Rejections(work / "quarantine.jsonl")
        _tokenize(corpus, tokenizer, writers, rejections)
    splits: dict[Split, dict[str, Any]] = {split: asdict(each.counts()) for split, each in writers.items()}
    _check_not_empty(corpus, splits, rejections)
    tokenizer.backend_tokenizer.encode_special_tokens = False
    tokenizer.save_pretrained(work / "tokenizer")
    return {
        "dtype": "<u2" if typecode == "H" else "<u4",
        "vocab_size": len(tokenizer),
        "rejected": rejections.number,
        "files": digests_of(work, {f"{split}.bin": each.sha256 for split, each in writers.items()}),
        "splits": splits,
    }


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
    writers: dict[Split, SplitWriter],
    rejections: "_Rejections",
) -> None:
    """Write every document to its split.

    Raises:
        InputError: at the first record that is no document, unless the corpus says to skip it.
    """
    encode: Encoder | None = None
    with rejections, tqdm(desc="tokenizing", unit="B", unit_scale=True, disable=None, leave=False) as bar:
        for batch in _batches(corpus, rejections):
            pieces = [piece.text for _, document in batch for piece in document.pieces]
            encode = encode or encoder_of(tokenizer, pieces)
            ids = iter(encode(pieces))
            for split, document in batch:
                bar.update(writers[split].add(document, list(islice(ids, len(document.pieces)))))


class _Rejections(AbstractContextManager["_Rejections"]):
    """Writes the records that are left out to a file, which is there only if there are any."""

    def __init__(self, path: Path) -> None:
        self.number = 0
        self.first: Rejected | None = None
        self._path, self._file = path, None

    def __exit__(self, *exception: object) -> None:
        if self._file:
            self._file.close()

    def add(self, record: Rejected) -> None:
        self._file = self._file or self._path.open("w", encoding="utf-8")
        self._file.write(json.dumps(asdict(record), ensure_ascii=False) + "\n")
        self.number += 1
        self.first = self.first or record


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


def _check_not_empty(corpus: Corpus, splits: dict[Split, dict[str, Any]], left_out: _Rejections) -> None:
    total = sum(counts["documents"] for counts in splits.values())
    if not total and left_out.first:
        raise InputError(
            f"--data.corpus.source: every record was left out, {left_out.number:,} in all; the first is "
            f"{left_out.first.origin}: {left_out.first.reason}"
        )
    if not total:
        raise InputError(
            "--data.corpus.source: the corpus is empty: no record holds anything but white space"
        )
    for split, counts in splits.items():
        if split in corpus.sources and not counts["documents"]:
            raise InputError(f"{corpus.sources[split].place}: the {split} split is empty: no document in it")
        if not counts["documents"]:
            raise InputError(
                f"--data.corpus.validation_fraction {corpus.validation_fraction}, test_fraction "
                f"{corpus.test_fraction}: the {split} split is empty; documents in all: {total:,}. One long "
                "file is one document: cut it with --data.corpus.source.separator or .heading (DATA=book "
                f"cuts at blank lines), name a split of its own with --data.corpus.{split}, or change the "
                "fractions"
            )
        if not counts["targets"]:
            raise InputError(
                f"--data.corpus: nothing of the {split} split is learned: its {counts['documents']:,} "
                "records are prompts alone; in chat messages the role `assistant` is what is learned"
            )
