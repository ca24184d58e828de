"""Text that the model writes while it trains."""

import json
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from transformers import GPT2LMHeadModel

from gpt2_lightning.callbacks.media import record_text
from gpt2_lightning.data.datamodule import datamodule_of
from gpt2_lightning.model.sampling import Sampling, continue_text, prompt_ids
from gpt2_lightning.ranges import NonNegativeInt


class SampleGenerator(Callback):
    """Continues fixed prompts every N optimizer steps, with the same seed each time.

    Writes, at the end of the step, one line per prompt to `samples.jsonl` in the run's folder
    (`step`, `prompt`, `text`) and the texts to TensorBoard and W&B (`samples/<number of the
    prompt>`). Training's mode and random state are left as they were.

    Args:
        every_n_steps: optimizer steps between samples; 0 turns them off.
        prompts: texts to continue; an empty one starts from end-of-text.
        sampling: how tokens are chosen.
    """

    def __init__(
        self,
        every_n_steps: NonNegativeInt = 200,
        prompts: tuple[str, ...] = ("", "The with statement"),
        sampling: Sampling = Sampling(max_new_tokens=64),  # noqa: B008  (a dataclass; never changed)
    ) -> None:
        self.every_n_steps = every_n_steps
        self.prompts = prompts
        self.sampling = sampling
        self._last_step = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a prompt that leaves no room in the context, before training rather than at a sample."""
        model, tokenizer = cast(GPT2LMHeadModel, pl_module.model), datamodule_of(trainer).tokenizer
        for prompt in self.prompts if self.every_n_steps else ():
            prompt_ids(model, tokenizer, prompt)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if self.every_n_steps and step % self.every_n_steps == 0 and step != self._last_step and step > 0:
            self._last_step = step
            if trainer.is_global_zero:
                self._write(trainer, pl_module)

    def _write(self, trainer: Trainer, pl_module: LightningModule) -> None:
        model, tokenizer = cast(GPT2LMHeadModel, pl_module.model), datamodule_of(trainer).tokenizer
        with (Path(trainer.default_root_dir) / "samples.jsonl").open("a", encoding="utf-8") as file:
            for number, prompt in enumerate(self.prompts):
                text = continue_text(model, tokenizer, prompt, self.sampling)
                line = {"step": trainer.global_step, "prompt": prompt, "text": text}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
                record_text(trainer, f"samples/{number}", prompt + text)

    def state_dict(self) -> dict[str, Any]:
        return {"last_step": self._last_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._last_step = state_dict["last_step"]
