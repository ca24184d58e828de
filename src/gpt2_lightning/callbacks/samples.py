"""Text that the model writes while it trains."""

import json
import shutil
import statistics
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, cast
from unicodedata import east_asian_width

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from transformers import GPT2LMHeadModel

from gpt2_lightning import metrics
from gpt2_lightning.callbacks.media import record_samples
from gpt2_lightning.data.datamodule import TextDataModule, datamodule_of
from gpt2_lightning.files.lines import take_back
from gpt2_lightning.metrics import record
from gpt2_lightning.model.diversity import distinct, repeated
from gpt2_lightning.model.generation import continue_texts
from gpt2_lightning.model.run_length import ends_step
from gpt2_lightning.model.sampling import Sampling
from gpt2_lightning.ranges import NonNegativeInt

_OPENING_CHARS = 20
_OPENING_TOKENS = 64  # that are decoded for it: more than enough
_OPENINGS = 2


class SampleGenerator(Callback):
    """Continues fixed prompts every N optimizer steps, with the same seed each time.

    At the end of the step, one line per prompt is added to `samples.jsonl` in the run's folder (`step`,
    `prompt`, `text`, `distinct_2`, `repeated_4`); the texts go to TensorBoard (`samples/<number of the
    prompt>`) and as a table to W&B (`samples`). The means over the prompts of `samples/distinct_2`, the share
    of different pairs of tokens, and `samples/repeated_4`, the share of runs of four tokens that stood
    there before, are recorded in every logger. The texts are shown in the terminal too, a line each.
    Training's mode and random state are left as they were.

    Args:
        every_n_steps: optimizer steps between samples; 0 turns them off.
        prompts: texts to continue; an empty one starts from end-of-text. The first words of two held-out
            documents if not given, or the prompts of two held-out instruction records.
        sampling: how tokens are chosen.
        show: whether the terminal shows them.
    """

    def __init__(
        self,
        every_n_steps: NonNegativeInt = 200,
        prompts: tuple[str, ...] | None = None,
        sampling: Sampling = Sampling(max_new_tokens=64),  # noqa: B008  (a dataclass; never changed)
        show: bool = True,
    ) -> None:
        self.every_n_steps = every_n_steps
        self.prompts = prompts
        self.sampling = sampling
        self.show = show

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove an earlier try's samples past the step that this run resumes from."""
        if self.prompts is None:
            self.prompts = openings(datamodule_of(trainer))
        if trainer.is_global_zero:
            take_back(_path(trainer), trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        is_due = self.every_n_steps and trainer.global_step % self.every_n_steps == 0
        if is_due and ends_step(trainer, batch_idx) and trainer.is_global_zero and self.prompts:
            module = cast(Any, pl_module)
            if (module.step_nll + module.grad_norm).isfinite():  # or sampling breaks a GPU's context
                self._write(trainer, self._samples(trainer, pl_module))

    def _samples(self, trainer: Trainer, pl_module: LightningModule) -> list[dict[str, Any]]:
        model, tokenizer = cast(GPT2LMHeadModel, pl_module.model), datamodule_of(trainer).tokenizer
        samples, prompts = [], self.prompts or ()
        texts = continue_texts(model, tokenizer, prompts, self.sampling)
        for prompt, text in zip(prompts, texts, strict=True):
            ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
            figures = {"distinct_2": distinct(ids, 2), "repeated_4": repeated(ids, 4)}  # pyright: ignore
            samples.append({"step": trainer.global_step, "prompt": prompt, "text": text, **figures})
        return samples

    def _write(self, trainer: Trainer, samples: list[dict[str, Any]]) -> None:
        with _path(trainer).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples)
        bar = trainer.progress_bar_callback
        if self.show and bar is not None:
            for sample in samples:
                line = f"step {sample['step']}: {sample['prompt']} | {sample['text']}"
                bar.print(_in_width(line, shutil.get_terminal_size().columns - 1))
        record_samples(trainer, samples)
        names = {"distinct_2": metrics.SAMPLES_DISTINCT_2, "repeated_4": metrics.SAMPLES_REPEATED_4}
        record(trainer, {name: statistics.fmean(s[key] for s in samples) for key, name in names.items()})


def openings(data: TextDataModule) -> tuple[str, ...]:
    """The first words of the first held-out documents, or the prompts of instruction records."""
    tokens, learned = data.store.tokens("validation"), data.store.learned("validation")
    ends = data.store.document_ends("validation")
    stops = [len(tokens)] if ends is None else ends[: 4 * _OPENINGS].tolist()  # some may be empty
    found: dict[str, None] = {}
    for start, stop in pairwise([0, *stops]):
        if learned is None:
            ids = tokens[start : min(stop, start + _OPENING_TOKENS)]
            text = _first_words(str(data.tokenizer.decode(ids.tolist(), skip_special_tokens=True)))
        else:
            ids = tokens[start : start + int(np.argmax(learned[start:stop]))]
            text = str(data.tokenizer.decode(ids.tolist(), skip_special_tokens=True))
        if text:
            found[text] = None
    return tuple(found)[:_OPENINGS] or ("",)


def _first_words(text: str) -> str:
    """As many as fit, or the first characters of a text without spaces; none of them half."""
    words = text.rstrip("\N{REPLACEMENT CHARACTER}").split()
    while len(words) > 1 and len(" ".join(words)) > _OPENING_CHARS:
        words.pop()
    return " ".join(words)[:_OPENING_CHARS]


def _in_width(text: str, columns: int) -> str:
    """One line of a terminal, in which Chinese characters take two columns."""
    line = " ".join(text.split())
    widths = accumulate(2 if east_asian_width(character) in "WF" else 1 for character in line)
    fitting = sum(width <= columns - 3 for width in widths)
    return line if fitting >= len(line) - 3 else line[:fitting] + "..."


def _path(trainer: Trainer) -> Path:
    return Path(trainer.default_root_dir) / "samples.jsonl"
