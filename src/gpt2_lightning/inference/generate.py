"""Text from a trained model, as it is written."""

import json
from pathlib import Path
from typing import Any

from gpt2_lightning.checksums import check_sums
from gpt2_lightning.errors import InputError
from gpt2_lightning.inference.export import BASE_FILE
from gpt2_lightning.locations import is_adapter, locate, newest_export
from gpt2_lightning.model.pretrained import digest
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

    class WholeCharacters(TextStreamer):
        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            super().on_finalized_text(whole_characters(text) if stream_end else text, stream_end)

    place = _newest(logs) if run is None else locate(run, "--run")
    model, tokenizer = _load(place)
    print(f"[{place}]", flush=True)
    print(prompt, end="", flush=True)
    streamer = WholeCharacters(tokenizer, skip_prompt=True, skip_special_tokens=True)
    continue_text(model, tokenizer, prompt, sampling, streamer)


def _newest(logs: str) -> str:
    if (export := newest_export(Path(logs))) is None:
        raise InputError(f"no run below {logs!r} has an export yet: train one first with `make train`")
    return str(export)


def _load(place: str) -> tuple[Any, Any]:
    """A model, or an adapter on the model that it adapts; and the tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    check_sums(Path(place))
    try:
        if is_adapter(Path(place)):
            return _load_adapter(Path(place)), AutoTokenizer.from_pretrained(place)
        return AutoModelForCausalLM.from_pretrained(place), AutoTokenizer.from_pretrained(place)
    except (OSError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), "")
        raise InputError(f"--run {place!r} cannot be loaded: {reason}") from None


def _load_adapter(place: Path) -> Any:
    from peft import PeftConfig, PeftModelForCausalLM
    from transformers import AutoModelForCausalLM

    base = str(PeftConfig.from_pretrained(str(place)).base_model_name_or_path)
    merge = "an adapter can be worked into its model while that is there: make export RUN=<run> MERGE=1"
    try:
        model = AutoModelForCausalLM.from_pretrained(base)
    except (OSError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), "")
        raise InputError(
            f"--run {str(place)!r}: the model it adapts, {base}, cannot be loaded ({reason}); {merge}"
        ) from None
    known = place / BASE_FILE
    if known.is_file() and json.loads(known.read_text())["sha256"] != digest(model):
        raise InputError(f"--run {str(place)!r}: the model it adapts, {base}, has other weights now; {merge}")
    return PeftModelForCausalLM.from_pretrained(model, str(place))
