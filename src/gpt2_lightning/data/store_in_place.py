"""Token files that others made, as a store: nothing is copied."""

import json
import os
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast

from gpt2_lightning.data.corpus import Corpus, Split
from gpt2_lightning.data.sources.token_files import Shard, TokenFiles
from gpt2_lightning.data.token_store import SplitCounts, TokenArray, TokenStore
from gpt2_lightning.data.tokenizer import end_of_text_id
from gpt2_lightning.errors import InputError

_SCAN = 2**24  # ids looked at together


class Shards:
    """The ids of several files as one stream, which can be cut anywhere."""

    def __init__(self, parts: Sequence[TokenArray]) -> None:
        self._parts = parts
        self._ends = list(accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int | slice) -> np.ndarray:
        if isinstance(index, int):
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
    """Opened token files.

    Attributes:
        shards: the files of each split.
        given_tokenizer: the corpus' own.
    """

    shards: dict[Split, list[Shard]] = field(repr=False)
    given_tokenizer: PreTrainedTokenizerFast = field(repr=False)

    @classmethod
    def open(cls, corpus: Corpus, fingerprint: str, counts_file: Path) -> "StoreInPlace":
        """The files that a corpus names.

        Args:
            corpus: of `TokenFiles`.
            fingerprint: of files and tokenizer.
            counts_file: keeps what looking at every id found, so that it is done once.

        Raises:
            InputError: if a file is damaged, or an id is past the tokenizer's vocabulary.
        """
        tokenizer = corpus.tokenizer.build(())
        sources: dict[Split, object] = {
            "train": corpus.source,
            "validation": corpus.validation,
            "test": corpus.test,
        }
        shards: dict[Split, list[Shard]] = {
            split: source.shards() for split, source in sources.items() if isinstance(source, TokenFiles)
        }
        splits: dict[Split, SplitCounts] = {}
        if counts_file.exists():
            found = json.loads(counts_file.read_text())
            splits = {split: SplitCounts(**found[split]) for split in shards}
        else:
            splits = {split: _count(split, parts, tokenizer) for split, parts in shards.items()}
            part = counts_file.with_name(f"{counts_file.name}.{os.getpid()}.part")
            part.write_text(json.dumps({split: asdict(counts) for split, counts in splits.items()}))
            part.replace(counts_file)
        return cls(fingerprint, len(tokenizer), 0, splits, shards, tokenizer)

    def tokens(self, split: Split) -> Shards:
        return Shards([shard.tokens for shard in self.shards[split]])

    def document_ends(self, split: Split) -> np.ndarray:
        """From the files' indices, or wherever an end-of-text stands."""
        ends, offset = [], 0
        for shard in self.shards[split]:
            ends.append(offset + _find_ends(shard, end_of_text_id(self.given_tokenizer)))
            offset += len(shard.tokens)
        found = np.concatenate(ends)
        if len(found) == 0 or found[-1] != offset:
            found = np.append(found, offset)  # the last document goes on in no file
        return found

    def learned(self, split: Split) -> None:
        return None

    def tokenizer(self) -> PreTrainedTokenizerFast:
        return self.given_tokenizer


def _find_ends(shard: Shard, end_of_text: int) -> np.ndarray:
    if shard.ends is not None:
        return shard.ends
    found = [
        start + 1 + np.flatnonzero(shard.tokens[start : start + _SCAN] == end_of_text)
        for start in range(0, len(shard.tokens), _SCAN)
    ]
    return np.concatenate(found)


def _count(split: Split, shards: list[Shard], tokenizer: PreTrainedTokenizerFast) -> SplitCounts:
    """Counts of a split; the bytes of the text follow from the ids where the tokenizer is byte-level."""
    sizes = None if split == "train" else _bytes_by_id(tokenizer)
    utf8_bytes = 0
    for shard in shards:
        for start in range(0, len(shard.tokens), _SCAN):
            ids = shard.tokens[start : start + _SCAN]
            if int(ids.max()) >= len(tokenizer):
                position = start + int(np.argmax(ids >= len(tokenizer)))
                raise InputError(
                    f"{shard.path}: token {position:,} is the id {int(shard.tokens[position])}, but the "
                    f"tokenizer has {len(tokenizer):,} entries; give the tokenizer that made the file "
                    "(--data.corpus.tokenizer), or the right --data.corpus.source.dtype"
                )
            if sizes is not None:
                utf8_bytes += int(sizes[ids].sum())
    tokens = sum(len(shard.tokens) for shard in shards)
    known = [len(shard.ends) for shard in shards if shard.ends is not None]
    documents = sum(known) if len(known) == len(shards) else None
    return SplitCounts(documents, tokens, tokens, utf8_bytes or None, None)


def _bytes_by_id(tokenizer: PreTrainedTokenizerFast) -> np.ndarray | None:
    """Bytes of text that each id stands for: in a byte-level vocabulary, a character is a byte."""
    if type(tokenizer.backend_tokenizer.decoder).__name__ != "ByteLevel":
        return None
    special = set(tokenizer.all_special_tokens)
    entries = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    return np.array([0 if entry in special else len(entry) for entry in entries], dtype=np.int64)
