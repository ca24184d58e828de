"""Many texts to ids at once, with the ids of a Hugging Face tokenizer and faster where that can be."""

import json
import re
from collections.abc import Callable
from typing import Any

from transformers import PreTrainedTokenizerFast

from gpt2_lightning.machine.hardware import available_cores

_COMPARED_TEXTS = 32
_LONGEST_RUN = 500_000  # characters of white space

Encoder = Callable[[list[str]], list[list[int]]]

# GPT-2's cut of text into words (Radford et al. 2019; `tokenizers` has it inside ByteLevel).
_WORDS = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""


def encoder_of(tokenizer: PreTrainedTokenizerFast, sample: list[str]) -> Encoder:
    """Encodes texts in parallel; a special token written in a text is text.

    A byte-level BPE such as GPT-2's goes through `tiktoken`, 3.5 times as fast as `tokenizers` on
    two cores (docs/results/corpora.md), but only if it gives the same ids on `sample`.

    Args:
        tokenizer: whose ids are wanted.
        sample: texts of the corpus; the first are encoded by both and compared.
    """
    backend = tokenizer.backend_tokenizer
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

    byte = _bytes_of_alphabet()
    ranks = {
        bytes(byte[character] for character in entry): number
        for entry, number in model["vocab"].items()
        if entry not in special
    }
    encoding = Encoding("corpus", pat_str=_WORDS, mergeable_ranks=ranks, special_tokens={})
    threads = available_cores()
    return lambda texts: encoding.encode_ordinary_batch(texts, num_threads=threads)


def _bytes_of_alphabet() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary stands for.

    Printable Latin-1 characters stand for themselves; the other bytes, in order, for the
    characters from U+0100 on.
    """
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}
