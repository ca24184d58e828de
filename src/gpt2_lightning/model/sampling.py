"""Continuing a text: how tokens are chosen, and the same text for the same seed."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from gpt2_lightning.data.tokenizer import end_of_text_id
from gpt2_lightning.errors import InputError
from gpt2_lightning.model.adaptation import virtual_tokens
from gpt2_lightning.ranges import NonNegativeFloat, NonNegativeInt, PositiveInt, PositiveUnitInterval


@dataclass(frozen=True)
class Sampling:
    """How each next token is chosen.

    Args:
        max_new_tokens: most tokens to add; generation also ends with an end-of-text token and at
            the end of the model's context.
        temperature: divides the logits; 0 takes the likeliest token always.
        top_k: chooses among that many likeliest tokens only; 0 among all.
        top_p: chooses among the likeliest tokens that together have this probability. Source:
            Holtzman et al. 2020.
        seed: of the random choices; the same seed and prompt give the same text.
    """

    max_new_tokens: PositiveInt = 200
    temperature: NonNegativeFloat = 0.7
    top_k: NonNegativeInt = 50
    top_p: PositiveUnitInterval = 0.9
    seed: int = 0


def continue_text(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompt: str,
    sampling: Sampling,
    streamer: Any = None,
) -> str:
    """What the model writes after `prompt`, the prompt itself not included.

    The model's mode and the random state are afterwards what they were before.

    Args:
        model: any causal language model of GPT-2's.
        tokenizer: the one it was trained with.
        prompt: text to continue; an empty one starts from end-of-text.
        sampling: how tokens are chosen.
        streamer: a `transformers` streamer, given the tokens as they come.

    Raises:
        InputError: if the prompt leaves no room in the model's context.
    """
    ids = prompt_ids(model, tokenizer, prompt)
    room = context_of(model) - len(ids)
    inputs = torch.tensor([ids], device=model.device)
    was_training = model.training
    model.eval()
    try:
        devices = [model.device] if model.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), torch.compiler.set_stance("force_eager"):
            torch.manual_seed(sampling.seed)
            output: Any = model.generate(  # pyright: ignore[reportCallIssue]
                inputs,
                attention_mask=torch.ones_like(inputs),
                generation_config=_generation_config(tokenizer, sampling, room),
                streamer=streamer,
            )
    finally:
        model.train(was_training)
    return whole_characters(str(tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True)))


def whole_characters(text: str) -> str:
    """The text without the half character that it may end with, where generation stopped inside one."""
    return text.rstrip("\N{REPLACEMENT CHARACTER}")


def context_of(model: Any) -> int:
    """Positions for text: the model's, less the virtual tokens of its adapter."""
    virtual = virtual_tokens(model.active_peft_config) if hasattr(model, "peft_config") else 0
    return model.config.n_positions - virtual


def prompt_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prompt: str) -> list[int]:
    """The ids that a text starts from: the prompt's, or end-of-text for an empty one.

    Raises:
        InputError: if the prompt leaves no room in the model's context.
    """
    ids = tokenizer(prompt, add_special_tokens=False, verbose=False)["input_ids"] or [
        end_of_text_id(tokenizer)
    ]
    context = context_of(model)
    if len(ids) >= context:
        raise InputError(
            f"the prompt has {len(ids)} tokens and the model's context {context}: "
            f"shorten the prompt by at least {len(ids) - context + 1} tokens"
        )
    return cast(list[int], ids)


def _generation_config(tokenizer: PreTrainedTokenizerFast, sampling: Sampling, room: int) -> GenerationConfig:
    chosen_at_random = {
        "do_sample": True,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
    }
    end_of_text = end_of_text_id(tokenizer)
    return GenerationConfig(
        max_new_tokens=min(sampling.max_new_tokens, room),
        use_cache=True,
        eos_token_id=end_of_text,
        pad_token_id=end_of_text,
        **(chosen_at_random if sampling.temperature > 0 else {"do_sample": False}),
    )
