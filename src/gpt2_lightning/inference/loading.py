"""A model that is there, ready for use: a run's, an export, an adapter on its model, or the hub's."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedTokenizerFast

from gpt2_lightning.data.tokenizer import Pretrained
from gpt2_lightning.errors import InputError
from gpt2_lightning.files.digests import check_sums
from gpt2_lightning.inference.export import BASE_FILE
from gpt2_lightning.locations import is_adapter, locate
from gpt2_lightning.model.adaptation import gpt2_of
from gpt2_lightning.model.architecture import Architecture
from gpt2_lightning.model.pretrained import digest, load, read_config, reconciled

_ADAPTER_WEIGHTS = "adapter_model.safetensors"  # numbers and nothing that runs


def load_model(name: str, option: str) -> tuple[Any, PreTrainedTokenizerFast, str]:
    """A model in evaluation mode on the best device, its tokenizer, and where both lie.

    An adapter is worked into its model where its method allows that.

    Args:
        name: folder of a run, of an export, of an adapter or of any GPT-2; or a hub id.
        option: whose value `name` is, for messages.

    Raises:
        InputError: if there is none, it is no GPT-2, a file was altered, or the tokenizer is missing.
    """
    place = locate(name, option)
    check_sums(Path(place))
    model = _adapted(Path(place), option) if is_adapter(Path(place)) else _whole(place, option)
    tokenizer = _tokenizer(place, option)
    entries = gpt2_of(model).config.vocab_size
    if len(tokenizer) > entries:
        raise InputError(
            f"{option} {place!r}: its tokenizer has {len(tokenizer):,} entries and the model {entries:,}: "
            "they are not of one run"
        )
    return model.to(_device()).eval(), tokenizer, place


def _device() -> torch.device:
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator or torch.device("cpu")


def _whole(place: str, option: str) -> Any:
    config = reconciled(read_config(place, option), Architecture(), place)
    return load(place, config, option)


def _adapted(place: Path, option: str) -> Any:
    from peft import PeftConfig, PeftModelForCausalLM

    broken = f"{option} {str(place)!r}: the adapter cannot be read"
    try:
        base = str(PeftConfig.from_pretrained(str(place)).base_model_name_or_path)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{broken}: {error}") from None
    remedy = "an adapter can be worked into its model while that is there: make export RUN=<run> MERGE=1"
    try:
        model = _whole(base, option)
    except InputError as error:
        raise InputError(
            f"{option} {str(place)!r}: the model it adapts cannot be loaded ({error}); {remedy}"
        ) from None
    known = place / BASE_FILE
    if known.is_file() and json.loads(known.read_text())["sha256"] != digest(model):
        raise InputError(
            f"{option} {str(place)!r}: the model it adapts, {base}, has other weights now; {remedy}"
        )
    if not (place / _ADAPTER_WEIGHTS).is_file():
        raise InputError(f"{broken}: {_ADAPTER_WEIGHTS} is missing")
    try:
        adapted: Any = PeftModelForCausalLM.from_pretrained(model, str(place))
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{broken}: {error}") from None
    if adapted.active_peft_config.is_prompt_learning:
        return adapted
    try:
        return adapted.merge_and_unload(safe_merge=True)
    except (ValueError, NotImplementedError, AttributeError, TypeError):  # of a method that cannot be merged
        return adapted


def _tokenizer(place: str, option: str) -> PreTrainedTokenizerFast:
    try:
        return Pretrained(place).build(())
    except InputError as error:
        raise InputError(
            f"{option} {place!r}: comes with no tokenizer that can be used; put the tokenizer.json of its "
            f"run beside it ({error})"
        ) from None
