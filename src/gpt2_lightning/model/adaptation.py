"""Which weights train: all of them, the last blocks, or a PEFT adapter."""

import copy
import warnings
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from gpt2_lightning.errors import InputError
from gpt2_lightning.ranges import NonNegativeInt

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel

_UNFIT = {"ADAPTION_PROMPT", "CPT", "MULTITASK_PROMPT_TUNING", "OSF", "POLY", "SHADOW", "XLORA"}
"""PEFT methods that need more than a GPT-2 and text, or another model; PEFT itself refuses the others."""


@dataclass(frozen=True)
class Trainable:
    """Which of GPT-2's own weights train.

    Args:
        layers: number of blocks, counted from the last; all of the model if not given.
        embeddings: with `layers`, whether token and position embeddings train, and with them the
            output layer that is tied to them [false].
        final_norm: with `layers`, whether the layer norm after the last block trains [true].
    """

    layers: NonNegativeInt | None = None
    embeddings: bool | None = None
    final_norm: bool | None = None


def freeze(model: GPT2LMHeadModel, trainable: Trainable) -> None:
    """Let only what `trainable` says train."""
    if trainable.layers is None:
        return
    model.requires_grad_(False)
    body = model.transformer
    parts: list[nn.Module] = list(body.h[len(body.h) - trainable.layers :])
    if trainable.final_norm is not False:
        parts.append(body.ln_f)
    if trainable.embeddings:
        parts += [body.wte, body.wpe, model.lm_head]
    for part in parts:
        part.requires_grad_(True)


def check_trainable(trainable: Trainable, config: GPT2Config) -> None:
    """Refuse layers that are not there, or nothing that trains.

    Raises:
        InputError: naming the option and the remedy.
    """
    if (trainable.layers or 0) > config.n_layer:
        raise InputError(
            f"--model.trainable.layers {trainable.layers}: the model has {config.n_layer} blocks"
        )
    if trainable.layers is None and (trainable.embeddings, trainable.final_norm) != (None, None):
        raise InputError(
            "--model.trainable.embeddings and .final_norm go with --model.trainable.layers; without it "
            "everything trains"
        )
    if trainable.layers == 0 and not trainable.embeddings and trainable.final_norm is False:
        raise InputError(
            "--model.trainable.layers 0: nothing would train; give a number of blocks from 1, or .embeddings"
        )


def check_adapter(
    adapter: Any, config: GPT2Config, block_size: int, isolated: bool, gradient_checkpointing: bool
) -> None:
    """Refuse an adapter that does not work with the rest of the run.

    Args:
        adapter: a PEFT configuration.
        config: of the model that it adapts.
        block_size: tokens of a row.
        isolated: whether rows have documents that do not see each other.
        gradient_checkpointing: whether activations are recomputed in the backward pass.

    Raises:
        InputError: naming the options and the remedy.
    """
    name = type(adapter).__name__
    kind = str(getattr(adapter.peft_type, "value", adapter.peft_type))
    if kind in _UNFIT:
        raise InputError(
            f"--model.adapter {name}: needs more than GPT-2 and text; docs/adaptation.md lists what works"
        )
    if kind == "ADALORA" and adapter.init_r <= adapter.target_r:
        raise InputError(
            f"--model.adapter.init_r {adapter.init_r} is not above --model.adapter.target_r "
            f"{adapter.target_r}: AdaLoRA takes ranks away"
        )
    if not adapter.is_prompt_learning:
        return
    tokens = virtual_tokens(adapter)
    if block_size + tokens > config.n_positions:
        raise InputError(
            f"--model.adapter.num_virtual_tokens {tokens}: with --data.block_size {block_size} that is more "
            f"than the model's {config.n_positions} positions; take a block of at most "
            f"{config.n_positions - tokens} tokens"
        )
    if isolated:
        raise InputError(
            f"--model.adapter {name}: the virtual tokens belong to one document a row; take --data.rows "
            "stream, or padded for instruction records"
        )
    if gradient_checkpointing and kind in ("PREFIX_TUNING", "CARTRIDGE"):
        raise InputError(
            f"--model.gradient_checkpointing true: {name} hands its prefix on as a cache, which "
            "checkpointing drops; leave it out, the frozen model keeps few activations"
        )


def gpt2_of(model: Any) -> Any:
    """The Hugging Face model, inside its adapter if it has one."""
    return model.get_base_model() if hasattr(model, "peft_config") else model


def adapter_of(model: Any) -> "PeftConfig | None":
    """The configuration of a model's adapter; `None` without one."""
    return model.active_peft_config if hasattr(model, "peft_config") else None


def virtual_tokens(adapter: Any) -> int:
    """Positions that prompt learning takes; 0 for every other method, and without an adapter."""
    return adapter.num_virtual_tokens or 0 if adapter is not None and adapter.is_prompt_learning else 0


def inject(model: GPT2LMHeadModel, adapter: "PeftConfig", path: str) -> "tuple[PeftModel, set[str]]":
    """The model with an adapter, which alone trains.

    Args:
        model: whose weights freeze.
        adapter: a PEFT configuration; it is copied.
        path: of the model, which the adapter's export names: a folder or a hub id.

    Returns:
        The adapted model; and the names, in its `state_dict`, of what the adapter brought.

    Raises:
        InputError: if PEFT refuses the configuration, or it touches the output layer.
    """
    from peft import PeftModelForCausalLM, TaskType

    base = {id(tensor) for tensor in chain(model.parameters(), model.buffers())}
    adapter = copy.deepcopy(adapter)
    adapter.task_type = TaskType.CAUSAL_LM
    adapter.base_model_name_or_path = str(Path(path).resolve()) if Path(path).exists() else path
    if hasattr(adapter, "fan_in_fan_out"):  # GPT-2's Conv1D keeps its weights the other way round
        adapter.fan_in_fan_out = True  # pyright: ignore[reportAttributeAccessIssue]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is checked below, or of how PEFT calls transformers
            adapted = PeftModelForCausalLM(model, adapter)
    except Exception as error:  # PEFT raises many kinds for what it cannot adapt
        raise InputError(f"--model.adapter {type(adapter).__name__}: {error}") from None
    _check_untouched(adapted.get_base_model(), type(adapter).__name__)
    named = chain(adapted.named_parameters(remove_duplicate=False), adapted.named_buffers())
    own = {name for name, tensor in named if id(tensor) not in base or tensor.requires_grad}
    return adapted.train(), own & adapted.state_dict().keys()


def _check_untouched(model: Any, name: str) -> None:
    """Refuse an adapter on the output layer, or on the token embedding that is tied to it.

    Single rows of both (`trainable_token_indices`) may train: PEFT keeps those tied.
    """
    from peft.utils import TrainableTokensWrapper

    tied = model.config.tie_word_embeddings
    plain = (nn.Linear, nn.Embedding, TrainableTokensWrapper)
    if type(model.lm_head) in plain and (not tied or type(model.transformer.wte) in plain):
        return
    part = "wte" if type(model.lm_head) in plain else "lm_head"
    reason = (
        "the output layer is the token embedding, and an adapter on one of two tied layers gives other "
        "logits once merged"
        if tied
        else "the loss reads the output layer's own weight, without an adapter"
    )
    raise InputError(
        f"--model.adapter {name}: it touches {part}, but {reason}. Leave wte and lm_head out of "
        "target_modules and modules_to_save; single tokens may train with --model.adapter."
        "trainable_token_indices, all of them with --model.trainable.layers and .embeddings"
    )
