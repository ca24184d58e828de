"""Pretrained weights: from the Hugging Face hub, a folder, or an earlier run."""

import hashlib
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from gpt2_lightning.data.tokenizer import Pretrained, end_of_text_id
from gpt2_lightning.errors import InputError
from gpt2_lightning.files.digests import check_sums
from gpt2_lightning.locations import is_adapter
from gpt2_lightning.model.architecture import Architecture, set_end_of_text

_FREE = {"resid_pdrop", "embd_pdrop", "attn_pdrop", "n_positions", "initializer_range"}
"""Fields of an architecture that may differ from the pretrained model's."""

_GELU = {"gelu_new", "gelu_pytorch_tanh"}  # the same function; the second is one kernel


def read_config(path: str, option: str = "--model.pretrained") -> GPT2Config:
    """The configuration of a pretrained GPT-2.

    Args:
        path: a local folder, or a hub id.
        option: whose value it is, for messages.

    Raises:
        InputError: if there is none, or the model is not a GPT-2.
    """
    if is_adapter(Path(path)):
        raise InputError(
            f"{option} {path!r}: is an adapter without its model; merge it (make export RUN=<run> "
            "MERGE=1) and name <run>/export-merged"
        )
    if not Path(path).is_dir():
        _say_where(path)
    try:
        config = AutoConfig.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise _unreadable(path, option, error) from None
    if not isinstance(config, GPT2Config):
        raise InputError(f"{option} {path!r}: is a {config.model_type}, not a gpt2")
    return config


@cache
def _say_where(path: str) -> None:
    """Once: without a network, the hub's tries take half a minute."""
    print(f"asking the Hugging Face hub for {path}", file=sys.stderr, flush=True)


def _unreadable(path: str, option: str, error: Exception) -> InputError:
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    remedy = (
        "the folder must hold a whole config.json and model.safetensors"
        if Path(path).is_dir()
        else "without a network, give a local folder with config.json and model.safetensors, or copy the "
        "hub's cache (HF_HOME)"
    )
    return InputError(f"{option} {path!r} cannot be loaded: {reason}; {remedy}")


def reconciled(config: GPT2Config, architecture: Architecture, path: str) -> GPT2Config:
    """The pretrained configuration with the dropouts and the context that the architecture gives.

    Raises:
        InputError: if the architecture gives another shape than the weights have.
    """
    given = architecture.given
    for name, value in given.items():
        has = getattr(config, name)
        if name == "n_inner":
            has = has or 4 * config.n_embd
        same = value == has or {value, has} == _GELU
        if name not in _FREE and not same:
            raise InputError(
                f"--model.architecture.{name} {value}: --model.pretrained {path!r} has {has}; leave the "
                "architecture out (no MODEL=), it comes with the weights"
            )
    if given.get("n_positions", 0) > config.n_positions:
        raise InputError(
            f"--model.architecture.n_positions {given['n_positions']}: --model.pretrained {path!r} has "
            f"{config.n_positions}, which can be shortened only"
        )
    changed = {name: value for name, value in given.items() if name in _FREE}
    if config.activation_function in _GELU:
        changed["activation_function"] = "gelu_pytorch_tanh"
    return _copy(config, **changed, use_cache=False)


def _copy(config: GPT2Config, **changed: Any) -> GPT2Config:
    return GPT2Config.from_dict(config.to_dict() | changed)  # pyright: ignore[reportReturnType]


def load(path: str, config: GPT2Config, option: str = "--model.pretrained") -> GPT2LMHeadModel:
    """A pretrained model in float32 and in training mode, with its own context, not that of `config`.

    Only safetensors are read, which hold numbers and nothing that runs.

    Raises:
        InputError: if the weights cannot be read, are not whole, were altered, or have another shape.
    """
    check_sums(Path(path))
    positions = read_config(path, option).n_positions
    try:
        loaded: Any = GPT2LMHeadModel.from_pretrained(
            path,
            config=_copy(config, n_positions=positions),
            dtype=torch.float32,
            use_safetensors=True,
            attn_implementation="sdpa",  # which takes the masks of continued texts
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise _unreadable(path, option, error) from None
    model, found = loaded
    if missing := sorted(found["missing_keys"]):
        raise InputError(f"{option} {path!r}: the weights are not whole; missing: {missing[0]}, ...")
    return model.train()


def shorten(model: GPT2LMHeadModel, n_positions: int) -> None:
    """Leave out the positions past the first `n_positions`."""
    if n_positions < model.config.n_positions:
        kept = model.transformer.wpe.weight.detach()[:n_positions].clone()
        model.transformer.wpe = nn.Embedding.from_pretrained(kept, freeze=False)
        model.config.n_positions = n_positions


def fit_vocabulary(
    model: GPT2LMHeadModel, path: str, tokenizer: PreTrainedTokenizerFast, change_tokenizer: bool
) -> None:
    """Check that the model's tokenizer is the corpus', or make its embeddings fit where asked to.

    Raises:
        InputError: if it is another one, and `change_tokenizer` is not given.
    """
    try:
        own = Pretrained(path).build(())
    except InputError as error:
        raise InputError(
            f"--model.pretrained {path!r}: comes with no tokenizer that can be used ({error})"
        ) from None
    if not same_vocabulary(own, tokenizer):
        if not change_tokenizer:
            raise InputError(
                f"--data.corpus.tokenizer: has {len(tokenizer):,} entries and is not the tokenizer of "
                f"--model.pretrained {path!r}, which has {len(own):,}; give --data.corpus.tokenizer "
                f"Pretrained --data.corpus.tokenizer.path {path}, or --model.change_tokenizer true to "
                "rebuild the embeddings"
            )
        change_vocabulary(model, own, tokenizer)
    elif model.config.vocab_size < len(tokenizer):
        raise InputError(
            f"--model.pretrained {path!r}: has embeddings of {model.config.vocab_size:,} entries, but its "
            f"tokenizer has {len(tokenizer):,}"
        )
    set_end_of_text(model, end_of_text_id(tokenizer))


def same_vocabulary(one: PreTrainedTokenizerFast, other: PreTrainedTokenizerFast) -> bool:
    """Whether two tokenizers give the same ids: the same entries, made by the same merges."""
    return _vocabulary(one) == _vocabulary(other)


def _vocabulary(tokenizer: PreTrainedTokenizerFast) -> tuple[dict[str, int], Any]:
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    return tokenizer.get_vocab(), model.get("merges")


def change_vocabulary(
    model: GPT2LMHeadModel, old: PreTrainedTokenizerFast, new: PreTrainedTokenizerFast
) -> None:
    """Rebuild the embeddings for another tokenizer.

    Entries that both have keep their vectors; a new one starts from the mean of the vectors of its
    pieces under the old tokenizer; end-of-text stays end-of-text.
    """
    pieces = [_pieces(entry, old, new) for entry in new.convert_ids_to_tokens(list(range(len(new))))]
    pieces[end_of_text_id(new)] = [end_of_text_id(old)]
    ids = torch.tensor([piece for each in pieces for piece in each])
    offsets = torch.tensor([0] + [len(each) for each in pieces[:-1]]).cumsum(0)

    def rebuilt(weight: Tensor) -> Tensor:
        return nn.functional.embedding_bag(ids, weight.detach(), offsets, mode="mean")  # (V, D)

    tied = model.lm_head.weight is model.transformer.wte.weight
    head = None if tied else nn.Parameter(rebuilt(model.lm_head.weight))
    model.transformer.wte = nn.Embedding.from_pretrained(rebuilt(model.transformer.wte.weight), freeze=False)
    model.lm_head = nn.Linear(model.config.n_embd, len(new), bias=False)
    model.lm_head.weight = model.transformer.wte.weight if head is None else head
    model.config.vocab_size = len(new)


def _pieces(entry: str, old: PreTrainedTokenizerFast, new: PreTrainedTokenizerFast) -> list[int]:
    """The ids of an entry of the new vocabulary under the old tokenizer, at least one."""
    known = old.get_vocab()
    same_alphabet = _is_byte_level(old) == _is_byte_level(new)
    if same_alphabet and entry in known:
        return [known[entry]]
    if same_alphabet and _is_byte_level(old):  # the entry may be a part of a character
        ids = [piece.id for piece in old.backend_tokenizer.model.tokenize(entry)]
    else:
        ids = old(new.convert_tokens_to_string([entry]), add_special_tokens=False)["input_ids"]
    return ids or [end_of_text_id(old)]


def _is_byte_level(tokenizer: PreTrainedTokenizerFast) -> bool:
    return type(tokenizer.backend_tokenizer.decoder).__name__ == "ByteLevel"


def digest(model: nn.Module) -> str:
    """SHA-256 (hex) of a model's weights, by name and value."""
    sha256 = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        sha256.update(name.encode())
        sha256.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return sha256.hexdigest()
