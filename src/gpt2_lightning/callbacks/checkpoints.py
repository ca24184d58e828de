"""The last and the best checkpoint of a run, and stopping without losing anything."""

import math
import os
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn

from gpt2_lightning import metrics
from gpt2_lightning.metrics import is_due
from gpt2_lightning.ranges import NonNegativeInt
from gpt2_lightning.run_length import total_steps


class RunInterrupted(BaseException):
    """The user stopped the run, and `last.ckpt` is of its last whole optimizer step."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, then renames it: a kill never costs the one before.

    Lightning writes to `$TMPDIR` and moves the file, which across file systems is a copy over the
    earlier checkpoint.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        try:
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


class Checkpoints(Checkpoint):
    """Keeps `checkpoints/last.ckpt` and `checkpoints/best.ckpt` in the run's folder.

    `last` is written after every validation, every `every_n_steps` optimizer steps, on Ctrl-C and at
    the end; `best` after a validation whose `val/nll` is below every earlier one, so it never
    worsens. Both are of whole optimizer steps and hold the random state of every rank, so that a
    resumed run draws what the uninterrupted one would have drawn.

    The last optimizer step is always followed by a validation, wherever `val_check_interval` falls.
    The first Ctrl-C finishes the optimizer step, and the validation if one is due, saves and ends
    the run; the second ends it at once.

    Args:
        every_n_steps: optimizer steps between checkpoints besides those after validation; 0 means
            none.
    """

    def __init__(self, every_n_steps: NonNegativeInt = 0) -> None:
        self.every_n_steps = every_n_steps
        self.best_nll = math.inf
        self.best_step: int | None = None
        self._interrupted = False
        self._stopping = False
        self._saved_step: int | None = None
        self._random_states: list[dict[str, Any]] = []
        self._default_handler: Any = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._folder = Path(trainer.default_root_dir) / "checkpoints"

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self._folder / "last.ckpt"

    @property
    def best(self) -> Path:
        """The checkpoint with the lowest validation NLL."""
        return self._folder / "best.ckpt"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._total_steps = total_steps(trainer)
        self._is_global_zero = trainer.is_global_zero
        self._default_handler = signal.signal(signal.SIGINT, self._on_interrupt)

    def _on_interrupt(self, signum: int, frame: Any) -> None:
        if self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = True
        if self._is_global_zero:  # written past Python's buffers, which a signal may find in use
            os.write(2, b"\nfinishing this optimizer step; Ctrl-C again stops at once\n")

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._stopping:  # saved at the last step's end, or after the validation that followed it
            raise RunInterrupted
        if self._random_states:  # of the checkpoint this run was resumed from
            if trainer.global_rank < len(self._random_states):
                _set_random_state(self._random_states[trainer.global_rank])
            self._random_states = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step_ends = (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch
        if not step_ends:
            trainer.should_stop = False  # `max_time` may be over: the step is finished first
            return
        self._stopping = self._is_stop_wanted(trainer)
        if self._stopping or (self.every_n_steps and trainer.global_step % self.every_n_steps == 0):
            self._save_last(trainer)
        if trainer.global_step >= self._total_steps:
            trainer.should_stop = True  # the run is over; said this way, Lightning validates once more

    def _is_stop_wanted(self, trainer: Trainer) -> bool:
        """Whether Ctrl-C came, to any rank; several ranks ask each other only when metrics are due."""
        if trainer.world_size == 1:
            return self._interrupted
        if not is_due(trainer, trainer.global_step):
            return False
        return trainer.strategy.reduce_boolean_decision(self._interrupted, all=False)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        nll = trainer.callback_metrics[metrics.VAL_NLL].item()
        if nll < self.best_nll:
            self.best_nll, self.best_step = nll, trainer.global_step
            self._save(trainer, self.best)
        self._save_last(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._saved_step != trainer.global_step:
            self._save_last(trainer)

    def _save_last(self, trainer: Trainer) -> None:
        self._save(trainer, self.last)
        self._saved_step = trainer.global_step

    @staticmethod
    def _save(trainer: Trainer, path: Path) -> None:
        for logger in trainer.loggers:
            logger.save()  # a run that goes on from here finds every record up to here
        trainer.save_checkpoint(path)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._restore_handler()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._restore_handler()

    def _restore_handler(self) -> None:
        if self._default_handler is not None:
            signal.signal(signal.SIGINT, self._default_handler)
            self._default_handler = None

    def state_dict(self) -> dict[str, Any]:
        states = [_random_state()]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            states *= torch.distributed.get_world_size()
            torch.distributed.all_gather_object(states, states[0])
        return {"best_nll": self.best_nll, "best_step": self.best_step, "random_states": states}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_nll, self.best_step = state_dict["best_nll"], state_dict["best_step"]
        self._random_states = state_dict["random_states"]


def _random_state() -> dict[str, Any]:
    """State of every generator that this rank may draw from, in types that `weights_only` loads."""
    algorithm, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002  (its state is saved, not used)
    return {
        "python": random.getstate(),
        "numpy": [algorithm, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
    }


def _set_random_state(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    algorithm, keys, *rest = state["numpy"]
    np.random.set_state((algorithm, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
