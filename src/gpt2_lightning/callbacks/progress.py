"""What a run shows in the terminal."""

import math
import sys
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.trainer.states import TrainerFn
from tqdm import tqdm

from gpt2_lightning import metrics
from gpt2_lightning.callbacks.throughput import Throughput
from gpt2_lightning.metrics import is_due
from gpt2_lightning.model.run_length import ends_step, total_steps

_SECONDS_BETWEEN_UPDATES = 0.5  # reading the NLL waits for the device: seldom enough not to matter
_PLAIN_LINES = 20  # over the whole run, where the output is no terminal


class Progress(ProgressBar):
    """One bar for the whole run: step of total, NLL, tokens/s, time left; a line per validation.

    Where the output is not a terminal (a file, a SLURM log), about twenty plain lines instead, and one
    after the first step.

    Args:
        throughput: the run's callback that knows how fast it goes.
    """

    def __init__(self, throughput: Throughput) -> None:
        super().__init__()
        self._throughput = throughput
        self._enabled = True
        self._bar: tqdm | None = None
        self._is_first = True

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        if self._enabled:
            tqdm.write(" ".join(map(str, args)), file=sys.stdout)
            sys.stdout.flush()  # or a log file shows nothing for minutes

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._total_steps = total_steps(trainer)
        self._total = "?" if math.isinf(self._total_steps) else str(self._total_steps)
        self._updated = time.perf_counter()
        self._is_terminal = sys.stdout.isatty()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._enabled and self._is_terminal and self._bar is None:  # after what others print at the start
            self._bar = tqdm(
                total=self._total_steps,
                initial=trainer.global_step,
                bar_format="{percentage:3.0f}% |{bar:10}| step {n_fmt}/{total_fmt}{postfix}",
                file=sys.stdout,
                leave=False,
            )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if not self._enabled:
            return
        if self._bar is not None:
            if time.perf_counter() - self._updated > _SECONDS_BETWEEN_UPDATES or step == self._total_steps:
                self._updated = time.perf_counter()
                self._bar.set_postfix_str(self._numbers(trainer, pl_module), refresh=False)
                self._bar.update(step - self._bar.n)
                self._bar.refresh()
        elif ends_step(trainer, batch_idx) and (self._is_first or self._is_line_due(trainer, step)):
            self._is_first = False
            self.print(f"step {step}/{self._total}, {self._numbers(trainer, pl_module)}")

    def _is_line_due(self, trainer: Trainer, step: int) -> bool:
        if math.isinf(self._total_steps):  # the clock ends the run
            return is_due(trainer, step)
        return step % max(1, int(self._total_steps) // _PLAIN_LINES) == 0

    def _numbers(self, trainer: Trainer, module: Any) -> str:
        """The exact NLL of the newest whole optimizer step, speed, and time left."""
        parts = [f"nll {module.step_nll.item():.3f}"] if hasattr(module, "step_nll") else []
        if rate := self._throughput.recent_tokens_per_second:
            parts.append(f"{rate:,.0f} tokens/s")
        if (left := self._throughput.seconds_left(trainer)) is not None:
            parts.append(f"{format_seconds(left)} left")
        return ", ".join(parts)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            step = f"step {trainer.global_step}: " if trainer.state.fn == TrainerFn.FITTING else ""
            self.print(f"{step}validation {_split_numbers(trainer, metrics.VAL_PREFIX)}")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.print(f"test {_split_numbers(trainer, metrics.TEST_PREFIX)}")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _split_numbers(trainer: Trainer, prefix: str) -> str:
    """The numbers of a split, as far as there are: the bytes of a text are not always known."""
    formats = {
        "nll": "nll {:.4f}",
        "perplexity": "perplexity {:.2f}",
        "bits_per_byte": "bits per byte {:.4f}",
    }
    values = trainer.callback_metrics
    return ", ".join(
        text.format(values[prefix + name]) for name, text in formats.items() if prefix + name in values
    )


def format_seconds(seconds: float) -> str:
    """`m:ss`, or `h:mm:ss` from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
