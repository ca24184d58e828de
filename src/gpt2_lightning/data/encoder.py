"""Many texts to ids at once, with the ids of a Hugging Face tokenizer and faster where that can be."""

import copy
import json
import re
from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, NamedTuple, TypeVar

from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from gpt2_lightning.data.documents import Document
from gpt2_lightning.data.tokenizer import end_of_text_id
from gpt2_lightning.machine.hardware import available_cores

_CHARS_AT_ONCE = 2**20  # tokenized in parallel
_COMPARED_TEXTS = 32
_LONGEST_RUN = 500_000  # characters of white space

Encoder = Callable[[list[str]], list[list[int]]]

# GPT-2's cut of text into words (Radford et al. 2019; `tokenizers` has it inside ByteLevel).
_WORDS = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""

Label = TypeVar("Label")


class Encoded(NamedTuple):
    """A document in tokens.

    Attributes:
        tokens: ids, closed by end-of-text.
        learned: whether each is a target, a byte each. After an answer the end is learned; after a prompt
            there is none.
        text: what is learned of the document.
    """

    tokens: "array[int]"
    learned: bytes
    text: str


def encode_documents(
    tokenizer: PreTrainedTokenizerFast,
    documents: Iterable[tuple[Label, Document]],
    typecode: Literal["H", "I"] = "I",
) -> Iterator[tuple[Label, Encoded]]:
    """Each document in tokens, many tokenized at a time, with the label that it came with.

    Args:
        tokenizer: whose ids are wanted.
        documents: to encode.
        typecode: of the ids; one past its range raises `OverflowError`.
    """
    encode: Encoder | None = None
    end_of_text = end_of_text_id(tokenizer)
    for batch in _batches(documents):
        pieces = [piece.text for _, document in batch for piece in document.pieces]
        encode = encode or encoder_of(tokenizer, pieces)
        ids = iter(encode(pieces))
        for label, document in batch:
            tokens, learned = array(typecode), b""
            for piece in document.pieces:
                tokens.fromlist(own := next(ids))
                learned += bytes([piece.learned]) * len(own)
            tokens.append(end_of_text)
            learned += bytes([document.pieces[-1].learned])
            yield label, Encoded(tokens, learned, document.learned_text)


def _batches(documents: Iterable[tuple[Label, Document]]) -> Iterator[list[tuple[Label, Document]]]:
    batch: list[tuple[Label, Document]] = []
    size = 0
    for label, document in documents:
        batch.append((label, document))
        size += len(document.text)
        if size >= _CHARS_AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def encoder_of(tokenizer: PreTrainedTokenizerFast, sample: list[str]) -> Encoder:
    """Encodes texts in parallel; a special token written in a text is text.

    A byte-level BPE such as GPT-2's goes through `tiktoken`, 3.5 times as fast as `tokenizers` on
    two cores (docs/results/corpora.md), but only if it gives the same ids on `sample`.

    Args:
        tokenizer: whose ids are wanted.
        sample: texts of the corpus; the first are encoded by both and compared.
    """
    backend = copy.deepcopy(tokenizer.backend_tokenizer)
    backend.encode_special_tokens = True

    def reference(texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]

    fast = _tiktoken(json.loads(backend.to_str()))
    compared = sample[:_COMPARED_TEXTS]
    if fast is None or fast(compared) != reference(compared):
        return reference
    return lambda texts: reference(texts) if any(map(_overflows_tiktoken, texts)) else fast(texts)


def _overflows_tiktoken(text: str) -> bool:
    """Whether white space runs on so long that its regular expressions give up (at about 1,000,000)."""
    return len(text) > _LONGEST_RUN and re.search(rf"\s{{{_LONGEST_RUN}}}", text) is not None


def _tiktoken(settings: dict[str, Any]) -> Encoder | None:
    """The same BPE in `tiktoken`, or `None` where that cannot express it.

    There a merge's rank is the id of what it makes, so the ids must rise in the order of merges.
    """
    model, cut = settings["model"], settings["pre_tokenizer"]
    if model["type"] != "BPE" or settings["normalizer"] or (cut or {}).get("type") != "ByteLevel":
        return None
    if cut["add_prefix_space"] or not cut["use_regex"] or model["dropout"] or model["byte_fallback"]:
        return None
    if model["continuing_subword_prefix"] or model["end_of_word_suffix"] or model["ignore_merges"]:
        return None
    if not all(token["special"] for token in settings["added_tokens"]):
        return None  # `tokenizers` finds these in a text before it cuts words
    made = [model["vocab"]["".join(merge)] for merge in model["merges"]]
    special = {token["content"] for token in settings["added_tokens"]}
    if made != sorted(set(made)) or len(model["vocab"].keys() - special) != 256 + len(made):
        return None
    from tiktoken import Encoding

    byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
    ranks = {
        bytes(map(byte_of.__getitem__, entry)): number
        for entry, number in model["vocab"].items()
        if entry not in special
    }
    encoding = Encoding("corpus", pat_str=_WORDS, mergeable_ranks=ranks, special_tokens={})
    threads = available_cores()
    return lambda texts: encoding.encode_ordinary_batch(texts, num_threads=threads)
