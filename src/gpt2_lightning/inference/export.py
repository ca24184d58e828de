"""A trained model as a Hugging Face folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from gpt2_lightning.callbacks.checkpoint_io import read
from gpt2_lightning.errors import InputError
from gpt2_lightning.files.digests import unlisted, write_sums
from gpt2_lightning.files.whole import replacing_folder
from gpt2_lightning.locations import is_model
from gpt2_lightning.model.generation import context_of
from gpt2_lightning.model.module import GPT2Module

BASE_FILE = "base.json"
_GENERATION = {"do_sample": True, "temperature": 0.7, "top_k": 50, "top_p": 0.9}
"""How `generate` chooses tokens where its caller says nothing; the length is the caller's."""
_CLOSE = 1e-4  # of merged logits to those before, relative to the largest: float32's rounding is 1e-6


def load_weights(module: GPT2Module, checkpoint: Path) -> None:
    """Put a checkpoint's weights into a module of the same options, whose model is there."""
    kept = read(checkpoint)
    module.on_load_checkpoint(kept)
    module.load_state_dict(kept["state_dict"], strict=module.strict_loading)


def export(
    module: GPT2Module,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    merge: bool = False,
    card: Callable[[bool], str] | None = None,
    is_foreign: bool = False,
) -> None:
    """Write a model and its tokenizer where `transformers` loads both, or an adapter where `peft` does.

    The folder is written beside its place and renamed. An adapter's names the model it adapts, by its
    hub id or its folder.

    Args:
        module: with the weights to write.
        tokenizer: the one it was trained with.
        folder: to write: safetensors, configuration, tokenizer, SHA256SUMS; in float32.
        merge: write the adapted model as one that needs no adapter, after a look whether its logits
            stayed; the module is merged then.
        card: gives the model card, told whether the export is an adapter.
        is_foreign: the folder is no run's own: nothing in it is replaced but an earlier export.

    Raises:
        InputError: if something else lies in the folder, there is nothing to merge, or the merged model
            has other logits.
    """
    folder = folder.expanduser().resolve()
    if folder.exists() and not is_model(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"--folder {str(folder)!r}: is there, and is no earlier export; name another")
    if is_foreign and (others := unlisted(folder)):
        raise InputError(
            f"--folder {str(folder)!r}: holds {others[0]!r}, which is of no earlier export; name another "
            "folder, or move what is yours out of it"
        )
    model: Any = module.model
    was_training = model.training
    model.eval()
    if merge:
        model = merged(model)
    context = context_of(model)
    with replacing_folder(folder) as part:
        if hasattr(model, "peft_config"):
            _save_adapter(model, module.base_sha256, part)
        else:
            model.config.use_cache = model.generation_config.use_cache = True
            model.config.n_ctx = model.config.n_positions  # an older name of it, by which llama.cpp reads it
            model.generation_config.update(**_GENERATION, max_length=context)
            model.save_pretrained(part)
        tokenizer.model_max_length = context
        tokenizer.save_pretrained(part)
        _describe_to_older_readers(part / "tokenizer_config.json")
        if card:
            (part / "README.md").write_text(card(hasattr(model, "peft_config")), encoding="utf-8")
        for path in part.iterdir():
            path.chmod(0o644)  # safetensors writes files that nobody else can read
        write_sums(part)
    model.train(was_training)


def _describe_to_older_readers(path: Path) -> None:
    """The tokenizer's class and inputs as transformers 4, on which other tools still build, knows them."""
    config = json.loads(path.read_text(encoding="utf-8"))
    if config["tokenizer_class"] == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    config["model_input_names"] = ["input_ids", "attention_mask"]
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _save_adapter(model: Any, base_sha256: str, folder: Path) -> None:
    """PEFT's folder, and what tells the adapter's base from another."""
    config = model.active_peft_config
    pattern = getattr(config, "rank_pattern", None)
    if pattern:  # PEFT would leave out what AdaLoRA has masked, which trains on until the next mask
        config.rank_pattern = None
    model.save_pretrained(folder)
    if pattern:
        config.rank_pattern = pattern
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's form of a model card, not filled in
    (folder / BASE_FILE).write_text(json.dumps({"sha256": base_sha256}) + "\n")


@torch.no_grad()
def merged(model: Any) -> Any:
    """The model with its adapter worked into its weights, in evaluation mode.

    Raises:
        InputError: if there is no adapter, it adds no weights, or the logits do not stay.
    """
    if not hasattr(model, "peft_config"):
        raise InputError("--merge true: the run trained no adapter; its export is a whole model already")
    name = type(model.active_peft_config).__name__
    if model.active_peft_config.is_prompt_learning:
        raise InputError(f"--merge true: {name} adds tokens, not weights; it cannot be merged into the model")
    vocabulary, positions = model.config.vocab_size, model.config.n_positions
    ids = torch.randint(vocabulary, (2, min(64, positions)), generator=torch.Generator().manual_seed(0))
    ids = ids.to(model.device)
    before = model(input_ids=ids).logits
    try:
        whole = model.merge_and_unload(safe_merge=True)
    except (ValueError, NotImplementedError, AttributeError, TypeError) as error:
        raise InputError(f"--merge true: {name} cannot be merged: {error}") from None
    error = (whole(input_ids=ids).logits - before).abs().max() / before.abs().max()
    if not error < _CLOSE:
        raise InputError(
            f"--merge true: the merged model's logits differ by {error:.1e} of the largest; {name} does not "
            "merge here, use its adapter as it is"
        )
    return whole
