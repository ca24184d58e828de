"""Text from a trained model, as it is written."""

from pathlib import Path

from gpt2_lightning.errors import InputError
from gpt2_lightning.model.sampling import Sampling, continue_text, whole_characters
from gpt2_lightning.runs import folder as run_folder


def sample(sampling: Sampling, prompt: str = "", run: str | None = None, logs: str = "logs") -> None:
    """Continue a prompt with a trained model, printed as it is written.

    Args:
        sampling: how tokens are chosen.
        prompt: text to continue; an empty one starts from end-of-text.
        run: folder of a run or of an export; the newest run that has an export if not given.
        logs: folder that holds the runs.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, TextStreamer
    from transformers.utils import logging

    class WholeCharacters(TextStreamer):
        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            super().on_finalized_text(whole_characters(text) if stream_end else text, stream_end)

    logging.disable_progress_bar()
    folder = _export_of(Path(run)) if run else run_folder.latest_export(Path(logs))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    print(f"[{folder}]", flush=True)
    print(prompt, end="", flush=True)
    streamer = WholeCharacters(tokenizer, skip_prompt=True, skip_special_tokens=True)
    continue_text(model, tokenizer, prompt, sampling, streamer)


def _export_of(folder: Path) -> Path:
    for candidate in (folder / "export", folder):
        if (candidate / "config.json").is_file():
            return candidate
    if not folder.is_dir():
        raise InputError(f"--run {str(folder)!r}: no such folder")
    raise InputError(f"--run {str(folder)!r}: holds no export; give a finished run or a model's folder")
