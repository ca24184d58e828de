"""Text from a trained model, as it is written."""

from pathlib import Path
from typing import Any

from gpt2_lightning.errors import InputError
from gpt2_lightning.locations import LATEST, is_adapter, locate
from gpt2_lightning.model.sampling import Sampling, continue_text, whole_characters


def sample(sampling: Sampling, prompt: str = "", run: str | None = None, logs: str = "logs") -> None:
    """Continue a prompt with a trained model, printed as it is written.

    Args:
        sampling: how tokens are chosen.
        prompt: text to continue; an empty one starts from end-of-text.
        run: folder of a run, of a model or of an adapter, or a hub id; the newest run that has an
            export if not given.
        logs: folder that holds the runs.
    """
    from transformers import TextStreamer
    from transformers.utils import logging

    class WholeCharacters(TextStreamer):
        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            super().on_finalized_text(whole_characters(text) if stream_end else text, stream_end)

    logging.disable_progress_bar()
    place = locate(run or f"{logs}/{LATEST}", "--run")
    model, tokenizer = _load(place)
    print(f"[{place}]", flush=True)
    print(prompt, end="", flush=True)
    streamer = WholeCharacters(tokenizer, skip_prompt=True, skip_special_tokens=True)
    continue_text(model, tokenizer, prompt, sampling, streamer)


def _load(place: str) -> tuple[Any, Any]:
    """A model, or an adapter on the model that it adapts; and the tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    kind: Any = AutoModelForCausalLM
    if is_adapter(Path(place)):
        from peft import AutoPeftModelForCausalLM

        kind = AutoPeftModelForCausalLM
    try:
        return kind.from_pretrained(place), AutoTokenizer.from_pretrained(place)
    except (OSError, ValueError) as error:
        raise InputError(
            f"--run {place!r} cannot be loaded: {next(iter(str(error).splitlines()), '')}"
        ) from None
