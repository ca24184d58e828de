"""Text that was tokenized, as a store."""

import json
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from gpt2_lightning.data.corpus import Corpus, Split
from gpt2_lightning.data.encoder import encode_documents
from gpt2_lightning.data.split_writer import SplitWriter
from gpt2_lightning.data.token_store import SplitCounts, TokenStore
from gpt2_lightning.errors import FieldError, InputError
from gpt2_lightning.files.arrays import FileArray, NumberArray
from gpt2_lightning.files.digests import digests_of

_REMEDY = "mend it, or leave such records out with --data.corpus.on_error skip"


@dataclass(frozen=True)
class TokenizedStore(TokenStore):
    """A folder with `<split>.bin` (flat little-endian ids), `<split>.ends.bin`, the tokenizer and the rest.

    Where records were left out, its `quarantine.jsonl` says which and why.

    Attributes:
        dtype: of the ids, `<u2` or `<u4`.
    """

    dtype: str

    announcement = "Reading and tokenizing {name} into {folder}, once ..."

    @classmethod
    def build(cls, corpus: Corpus, work: Path) -> dict[str, Any]:
        texts = corpus.documents(corpus.rejecting(_REMEDY))
        tokenizer = corpus.tokenizer.build(document.text for split, document in texts if split == "train")
        is_16_bit = len(tokenizer) <= 2**16
        dtype = "<u2" if is_16_bit else "<u4"
        masks = any(source.masks_prompts for source in corpus.sources.values())
        with ExitStack() as stack:
            writers: dict[Split, SplitWriter] = {
                split: stack.enter_context(closing(SplitWriter(work, split, dtype, masks)))
                for split in corpus.splits
            }
            quarantine = stack.enter_context(closing(_Quarantine(work / "quarantine.jsonl")))
            bar = stack.enter_context(
                tqdm(desc="tokenizing", unit="B", unit_scale=True, disable=None, leave=False)
            )
            documents = corpus.documents(corpus.rejecting(_REMEDY, quarantine.add))
            for split, document in encode_documents(tokenizer, documents, "H" if is_16_bit else "I"):
                bar.update(writers[split].add(document))
        splits: dict[Split, SplitCounts] = {split: writer.counts() for split, writer in writers.items()}
        _check_not_empty(corpus, splits, quarantine)
        tokenizer.save_pretrained(work / "tokenizer")
        return {
            "dtype": dtype,
            "vocab_size": len(tokenizer),
            "rejected": quarantine.number,
            "files": digests_of(work, {f"{split}.bin": writer.sha256 for split, writer in writers.items()}),
            "splits": {split: asdict(counts) for split, counts in splits.items()},
        }

    def tokens(self, split: Split) -> NumberArray:
        return FileArray.whole(self.folder / f"{split}.bin", self.dtype)

    def learned(self, split: Split) -> NumberArray | None:
        path = self.folder / f"{split}.learned.bin"
        return FileArray.whole(path, "|b1") if path.exists() else None

    def tokenizer(self) -> PreTrainedTokenizerFast:
        return AutoTokenizer.from_pretrained(self.folder / "tokenizer")


class _Quarantine:
    """Writes the records that are left out to a file, which is there only if there are any."""

    def __init__(self, path: Path) -> None:
        self.number = 0
        self.first = ""
        self._path = path
        self._file: TextIO | None = None

    def close(self) -> None:
        if self._file:
            self._file.close()

    def add(self, origin: str, reason: str) -> None:
        self._file = self._file or self._path.open("w", encoding="utf-8")
        self._file.write(json.dumps({"origin": origin, "reason": reason}, ensure_ascii=False) + "\n")
        self.number += 1
        self.first = self.first or f"{origin}: {reason}"


def _check_not_empty(corpus: Corpus, splits: dict[Split, SplitCounts], left_out: _Quarantine) -> None:
    total = sum(counts.documents or 0 for counts in splits.values())
    if not total and left_out.number:
        raise FieldError(
            f"source: every record was left out, {left_out.number:,} in all; the first is {left_out.first}"
        )
    if not total:
        raise FieldError("source: the corpus is empty: no record holds anything but white space")
    for split, counts in splits.items():
        if split in corpus.sources and not counts.documents:
            raise FieldError(f"{corpus.field_of(split)}: the {split} split is empty: no document in it")
        if not counts.documents:
            raise FieldError(
                f"validation_fraction {corpus.validation_fraction}, test_fraction {corpus.test_fraction}: "
                f"the {split} split is empty; documents in all: {total:,}. One long file is one document: "
                "cut it with --data.corpus.source.separator or .heading (DATA=book cuts at blank lines), "
                f"name a split of its own with --data.corpus.{split}, or change the fractions"
            )
        if not counts.targets:
            raise InputError(
                f"--data.corpus: nothing of the {split} split is learned: its {counts.documents:,} "
                "records are prompts alone; in chat messages the role `assistant` is what is learned"
            )
