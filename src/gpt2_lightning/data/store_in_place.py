"""Token files that others made, as a store: the ids are not copied."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from gpt2_lightning.data.corpus import Corpus, Split
from gpt2_lightning.data.sources.token_files import Shard, TokenFiles
from gpt2_lightning.data.token_store import SplitCounts, TokenStore
from gpt2_lightning.data.tokenizer import end_of_text_id
from gpt2_lightning.errors import InputError, placed
from gpt2_lightning.files.arrays import NumberArray
from gpt2_lightning.files.digests import digests_of

_SCAN = 2**24  # ids looked at together


class Shards:
    """The ids of several files as one stream, which can be cut anywhere."""

    def __init__(self, parts: Sequence[NumberArray]) -> None:
        self._parts = parts
        self._ends = list(accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int | slice) -> np.ndarray:
        if isinstance(index, int):
            if not -len(self) <= index < len(self):
                raise IndexError(index)
            index = index % len(self)
            part = bisect_right(self._ends, index)
            return self._parts[part][index - self._ends[part]]  # counted from the part's end
        start, stop, _ = index.indices(len(self))
        pieces = []
        while start < stop:
            part = bisect_right(self._ends, start)
            first = start - (self._ends[part] - len(self._parts[part]))
            pieces.append(np.array(self._parts[part][first : first + stop - start]))  # holds no file open
            start += len(pieces[-1])
        return np.concatenate(pieces) if pieces else self._parts[0][:0]


@dataclass(frozen=True)
class StoreInPlace(TokenStore):
    """Token files where they are; only what is known about them is in its folder.

    Document ends are from the files' indices, or wherever an end-of-text stands.

    Attributes:
        shards: the token files of each split.
        given_tokenizer: the corpus' own.
    """

    shards: dict[Split, list[Shard]] = field(repr=False)
    given_tokenizer: PreTrainedTokenizerFast = field(repr=False)

    announcement = "Looking at every id of {name}, once ..."

    @classmethod
    def build(cls, corpus: Corpus, work: Path) -> dict[str, Any]:
        tokenizer = corpus.tokenizer.build(())
        splits = {split: _look(split, parts, tokenizer, work) for split, parts in _shards(corpus).items()}
        return {
            "vocab_size": len(tokenizer),
            "rejected": 0,
            "files": digests_of(work),
            "splits": {split: asdict(counts) for split, counts in splits.items()},
        }

    @classmethod
    def _of_corpus(cls, corpus: Corpus) -> dict[str, Any]:
        return {"shards": _shards(corpus), "given_tokenizer": corpus.tokenizer.build(())}

    def tokens(self, split: Split) -> Shards:
        return Shards([shard.tokens for shard in self.shards[split]])

    def learned(self, split: Split) -> None:
        return None

    def tokenizer(self) -> PreTrainedTokenizerFast:
        return self.given_tokenizer


def _shards(corpus: Corpus) -> dict[Split, list[Shard]]:
    found: dict[Split, list[Shard]] = {}
    for split, source in corpus.sources.items():
        assert isinstance(source, TokenFiles)
        with placed(corpus.field_of(split)):
            found[split] = source.shards()
    return found


def _look(split: Split, shards: list[Shard], tokenizer: PreTrainedTokenizerFast, work: Path) -> SplitCounts:
    """Look at every id of a split, and write where documents end.

    The bytes of its text follow from the ids of a byte-level tokenizer.
    """
    sizes = None if split == "train" else _bytes_by_id(tokenizer)
    documents = utf8_bytes = offset = last = 0
    with (work / f"{split}.ends.bin").open("wb") as file:
        for shard in shards:
            for ids, ends in _pieces(shard, tokenizer):
                file.write((offset + ends).astype("<i8").tobytes())
                documents += len(ends)
                last = int(offset + ends[-1]) if len(ends) else last
                utf8_bytes += int(sizes[ids].sum()) if sizes is not None else 0
            offset += len(shard.tokens)
        if last != offset:  # the files break off inside a document: it ends there
            file.write(offset.to_bytes(8, "little"))
    known = all(shard.ends is not None for shard in shards)
    return SplitCounts(documents if known else None, offset, offset, utf8_bytes or None, None)


def _pieces(shard: Shard, tokenizer: PreTrainedTokenizerFast) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The ids of a shard some at a time, and the document ends among them."""
    end_of_text = end_of_text_id(tokenizer)
    for start in range(0, len(shard.tokens), _SCAN):
        ids = shard.tokens[start : start + _SCAN]
        if int(ids.max()) >= len(tokenizer):
            position = start + int(np.argmax(ids >= len(tokenizer)))
            raise InputError(
                f"{shard.path}: token {position:,} is the id {int(shard.tokens[position])}, but the "
                f"tokenizer has {len(tokenizer):,} entries; give the tokenizer that made the file "
                "(--data.corpus.tokenizer), or the right --data.corpus.source.dtype"
            )
        if shard.ends is None:
            yield ids, start + 1 + np.flatnonzero(ids == end_of_text)
        else:
            first, past = np.searchsorted(shard.ends, [start, start + len(ids)], side="right")
            yield ids, np.asarray(shard.ends[first:past]).astype(np.int64)


def _bytes_by_id(tokenizer: PreTrainedTokenizerFast) -> np.ndarray | None:
    """Bytes of text that each id stands for: in a byte-level vocabulary, a character is a byte."""
    if type(tokenizer.backend_tokenizer.decoder).__name__ != "ByteLevel":
        return None
    special = set(tokenizer.all_special_tokens)
    entries = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    return np.array([0 if entry in special else len(entry) for entry in entries], dtype=np.int64)
