"""A checkpoint as a Hugging Face folder."""

from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast

from gpt2_lightning.data.tokenizer import end_of_text_id
from gpt2_lightning.model.architecture import Architecture, build


def export(
    checkpoint: Path, architecture: Architecture, tokenizer: PreTrainedTokenizerFast, folder: Path
) -> None:
    """Write the model of a checkpoint, and its tokenizer, where `transformers` loads both.

    Args:
        checkpoint: of this project, loaded with `weights_only`.
        architecture: shape of the model in it.
        tokenizer: the one it was trained with.
        folder: to write (safetensors, configuration, tokenizer), in float32.
    """
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    model = build(architecture, len(tokenizer), end_of_text_id(tokenizer))
    model.load_state_dict({name.removeprefix("model."): value for name, value in state.items()})
    model.config.use_cache = True
    # transformers' pipeline adds 256 tokens by default, past a short context's end
    model.generation_config.max_new_tokens = architecture.n_positions // 2
    model.eval().save_pretrained(folder)
    tokenizer.model_max_length = architecture.n_positions
    tokenizer.save_pretrained(folder)
