"""Training speed, and the time left."""

import time
from typing import Any, NamedTuple, cast

import torch
from lightning.fabric.utilities.throughput import get_available_flops
from lightning.pytorch import Callback, LightningModule, Trainer
from transformers import GPT2LMHeadModel

from gpt2_lightning import metrics
from gpt2_lightning.data.datamodule import datamodule_of
from gpt2_lightning.machine.hardware import matrix_rate, peak_memory_bytes
from gpt2_lightning.machine.precision import product_format
from gpt2_lightning.metrics import is_due, record
from gpt2_lightning.model.architecture import flops_per_token
from gpt2_lightning.model.run_length import ends_step, expected_steps, time_share

_PEAK_16_BIT = {"h200": 989e12, "b200": 2250e12, "l40s": 362e12, "l40": 181e12}
"""Of GPUs that Lightning 2.6's table lacks or takes for another: dense, of NVIDIA's data sheets."""


class _Counts(NamedTuple):
    """Since the run's start."""

    tokens: int
    seconds: float
    waited: float


class Throughput(Callback):
    """Tokens per second, share of the device's peak, memory, and time left.

    The time that counts is that of the training batches: validation, samples and checkpoints are left
    out, and waiting for data on a CPU; a GPU computes meanwhile. The tokens are the positions that the
    model computes, filled-up ones of padded rows included. Records every `trainer.log_every_n_steps`
    optimizer steps, over the steps since the last record and all ranks,

    - `train/tokens_per_second`, and `train/mean_tokens_per_second` over the whole run;
    - `train/mfu`, model FLOPs utilisation: against the peak of the GPU's type, or against a matrix
      product measured at the start on a CPU;
    - `train/data_wait_share`: of the time of batches and waiting, what the first rank's process waited for
      data, its GPU perhaps not idle;
    - `train/peak_memory_bytes`, of the first rank's GPU, or of the process on a CPU.

    A GPU is waited for only then, never at every step.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self.seconds = 0.0
        self._rate: float | None = None
        self._peak_flops: float | None = None
        self._device: torch.device | None = None

    @property
    def tokens_per_second(self) -> float | None:
        """Over the whole run, interruptions included; `None` before the first batch."""
        return self.tokens / self.seconds if self.seconds else None

    @property
    def recent_tokens_per_second(self) -> float | None:
        """Over the steps since the last record, or up to it; `None` before the first batch."""
        tokens, seconds = self.tokens - self._window.tokens, self.seconds - self._window.seconds
        return tokens / seconds if seconds else self._rate

    def seconds_left(self, trainer: Trainer) -> float | None:
        """Estimate for the rest of the run, from the wall clock: validation and samples included.

        The first step, in which much is made that stays, is left out.
        """
        done = trainer.global_step - self._first_step - 1
        if done < 1:
            return None
        steps = expected_steps(trainer, time_share(trainer))
        return (time.perf_counter() - self._started) / done * (steps - trainer.global_step)

    def peak_memory_bytes(self) -> int:
        """Most memory in use so far: of the GPU, or of this process on a CPU."""
        return torch.cuda.max_memory_allocated(self._device) if self._is_cuda else peak_memory_bytes()

    def product_seconds(self, tokens: float) -> float | None:
        """What the matrix products of so many tokens of this rank take at the device's peak, if known."""
        return tokens * self._flops_per_token / self._peak_flops if self._peak_flops else None

    @property
    def _is_cuda(self) -> bool:
        return self._device is not None and self._device.type == "cuda"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._first_step = trainer.global_step
        self._started = time.perf_counter()
        self._waited = datamodule_of(trainer).wait_seconds
        self._device = pl_module.device
        self._window = _Counts(self.tokens, self.seconds, datamodule_of(trainer).wait_seconds)
        model, block_size = cast(GPT2LMHeadModel, pl_module.model), datamodule_of(trainer).block_size
        self._flops_per_token = flops_per_token(model, block_size)
        self._peak_flops = _peak_flops(pl_module.device, str(trainer.precision))

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._batch_started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        ends, step = ends_step(trainer, batch_idx), trainer.global_step
        if ends and step == self._first_step + 1:
            self._started = time.perf_counter()
        due = ends and is_due(trainer, step)
        if due and self._is_cuda:
            torch.cuda.synchronize(pl_module.device)
        self.tokens += batch["input_ids"].numel() * trainer.world_size
        self.seconds += time.perf_counter() - self._batch_started
        waited = datamodule_of(trainer).wait_seconds
        if self._is_cuda:  # which computes meanwhile
            self.seconds += waited - self._waited
        self._waited = waited
        if due:
            self._record(trainer)

    def _record(self, trainer: Trainer) -> None:
        now = _Counts(self.tokens, self.seconds, datamodule_of(trainer).wait_seconds)
        seconds, waited = now.seconds - self._window.seconds, now.waited - self._window.waited
        rate = self._rate = (now.tokens - self._window.tokens) / seconds
        self._window = now
        values = {
            metrics.TRAIN_TOKENS_PER_SECOND: rate,
            metrics.TRAIN_MEAN_TOKENS_PER_SECOND: self.tokens / self.seconds,
            metrics.TRAIN_DATA_WAIT_SHARE: waited / (seconds if self._is_cuda else seconds + waited),
            metrics.TRAIN_PEAK_MEMORY_BYTES: float(self.peak_memory_bytes()),
        }
        if self._peak_flops:
            values[metrics.TRAIN_MFU] = rate * self._flops_per_token / (self._peak_flops * trainer.world_size)
        record(trainer, values)

    def state_dict(self) -> dict[str, Any]:
        return {"tokens": self.tokens, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.tokens, self.seconds = state_dict["tokens"], state_dict["seconds"]


def _peak_flops(device: torch.device, precision: str) -> float | None:
    """Floating-point operations per second that the device can do at this precision, if known."""
    dtype = product_format(precision)
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device).lower()
        for known, flops in _PEAK_16_BIT.items():
            if known in name:
                return flops if dtype != torch.float32 else None
        return get_available_flops(device, dtype)
    if device.type == "cpu":
        return matrix_rate(dtype)
    return None
