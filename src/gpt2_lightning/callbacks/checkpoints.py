"""The last and the best checkpoint of a run, and stopping without losing anything."""

import math
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only

from gpt2_lightning import metrics
from gpt2_lightning.callbacks.checkpoint_io import copy
from gpt2_lightning.callbacks.random_state import random_state, set_random_state
from gpt2_lightning.callbacks.stop_signals import RunInterrupted, StopSignals
from gpt2_lightning.data.datamodule import datamodule_of
from gpt2_lightning.data.sampler import RowOrder
from gpt2_lightning.errors import InputError
from gpt2_lightning.model.run_length import ends_step, total_steps
from gpt2_lightning.ranges import NonNegativeInt

_SECONDS_BETWEEN_QUESTIONS = 2.0  # between checks whether any rank was asked to stop


class Checkpoints(Checkpoint):
    """Keeps `checkpoints/last.ckpt` and `checkpoints/best.ckpt` in the run's folder.

    `last` is written after every validation, every `every_n_steps` optimizer steps, when the run is asked
    to stop and at its end; `best` is it after a validation whose `val/nll` is below every earlier one, so
    it never worsens. Both are of whole optimizer steps and hold the random state of every rank, so that a
    resumed run draws what the uninterrupted one would have drawn.

    The last optimizer step is always followed by a validation, wherever `val_check_interval` falls.
    Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP finish the optimizer step, save and end the run; a validation that is
    due is left to the resumed run. A second signal ends the run at once. Several ranks agree every two
    seconds, and not inside a validation.

    Args:
        every_n_steps: optimizer steps between checkpoints besides those after validation; 0 means
            none.
        stop_after_step: save and end there as a signal would, to be resumed: the schedule stays that of the
            whole run; 0 means not.
    """

    def __init__(self, every_n_steps: NonNegativeInt = 0, stop_after_step: NonNegativeInt = 0) -> None:
        self.every_n_steps = every_n_steps
        self.stop_after_step = stop_after_step
        self.best_nll = math.inf
        self.best_step: int | None = None
        self._saved_step: int | None = None
        self._validation_due = False  # in the newest checkpoint: its step is still to be validated
        self._random_states: list[dict[str, Any]] = []
        self._signals = StopSignals()
        self._last_question = self._next_question = 0  # steps at which the ranks ask each other
        self._asked = 0.0

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
        if trainer.is_global_zero:
            source = Path(str(trainer.ckpt_path))
            if self.best_step == trainer.global_step and source.is_file() and source != self.best:
                copy(source, self.best)  # a kill may have come between the two
        self._signals.install(trainer.is_global_zero)
        if self._validation_due:
            self._validate(trainer)

    def _validate(self, trainer: Trainer) -> None:
        """The validation that a stopped run has left; Lightning 2.6 would skip it."""
        self._restore_random_state(trainer)
        trainer.validating = True
        trainer.fit_loop.epoch_loop.val_loop.restarting = False  # from its first batch
        trainer.fit_loop.epoch_loop.val_loop.run()
        trainer.training = True

    def _restore_random_state(self, trainer: Trainer) -> None:
        """That of the checkpoint this run was resumed from."""
        if trainer.global_rank < len(self._random_states):
            set_random_state(self._random_states[trainer.global_rank])

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._restore_random_state(trainer)
        self._random_states = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not ends_step(trainer, batch_idx):
            trainer.should_stop = False  # `max_time` may be over: the step is finished first
            return
        if trainer.global_step >= self._total_steps:
            trainer.should_stop = True  # the run has finished; ended this way, Lightning validates once more
        stopping = self._is_stop_wanted(trainer)
        if stopping or (self.every_n_steps and trainer.global_step % self.every_n_steps == 0):
            epoch_loop, batches = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
            assert batches is not None
            self._save_last(trainer, validation_due=epoch_loop._should_check_val_fx(batches))
        if stopping:
            is_planned = trainer.global_step == self.stop_after_step
            raise RunInterrupted(exit_code=0) if is_planned else self._signals.interruption()

    def _is_stop_wanted(self, trainer: Trainer) -> bool:
        """Whether any rank was asked to stop; a run at its last step still validates."""
        if trainer.global_step >= self._total_steps:
            return False
        if self.stop_after_step and trainer.global_step == self.stop_after_step:
            return True
        if trainer.world_size == 1:
            return self._signals.received is not None
        step, now = trainer.global_step, time.monotonic()
        if step < self._next_question:
            return False
        seconds_per_step = (now - self._asked) / max(1, step - self._last_question)
        steps = trainer.strategy.broadcast(max(1, int(_SECONDS_BETWEEN_QUESTIONS / seconds_per_step)))
        self._last_question, self._next_question, self._asked = step, step + steps, now
        return trainer.strategy.reduce_boolean_decision(self._signals.received is not None, all=False)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if fitting and trainer.world_size == 1 and self._is_stop_wanted(trainer):
            self._save_last(trainer, validation_due=True)
            raise self._signals.interruption()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        nll = trainer.callback_metrics[metrics.VAL_NLL].item()
        is_best = nll < self.best_nll
        if is_best:
            self.best_nll, self.best_step = nll, trainer.global_step
        self._save_last(trainer)
        if is_best and trainer.is_global_zero:
            copy(self.last, self.best)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._saved_step != trainer.global_step:
            self._save_last(trainer)

    def _save_last(self, trainer: Trainer, validation_due: bool = False) -> None:
        self._validation_due = validation_due
        for logger in trainer.loggers:
            logger.save()  # a run resumed from here finds every record up to here
        trainer.save_checkpoint(self.last)
        self._saved_step = trainer.global_step

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._signals.restore()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._signals.restore()

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Count in this run's micro-batches and steps, where they have other numbers of rows."""
        data, own = checkpoint.get("TextDataModule"), datamodule_of(trainer)
        if data is None or trainer.state.fn != TrainerFn.FITTING:
            return
        loops = checkpoint["loops"]["fit_loop"]
        order = own.order_of(own.rows_of("train"))
        if data["rows_per_step"] != order.samples_per_step:
            if trainer.limit_train_batches != 1.0:
                raise InputError(
                    f"--trainer.limit_train_batches {trainer.limit_train_batches}: a run resumed with it "
                    f"keeps the rows of an optimizer step, {data['rows_per_step']}"
                )
            _move_to_whole_step(loops, order, checkpoint["global_step"], data["rows_per_step"])
        elif data["batches_per_step"] != order.batches_per_step:
            ratio = order.batches_per_step / data["batches_per_step"]
            progress = loops["epoch_loop.batch_progress"]
            for counts in (progress["total"], progress["current"]):
                _count(counts, round(counts["ready"] * ratio))

    def state_dict(self) -> dict[str, Any]:
        return {
            "best_nll": self.best_nll,
            "best_step": self.best_step,
            "validation_due": self._validation_due,
            # before the first batch, those of the checkpoint that was resumed
            "random_states": self._random_states or _of_every_rank(random_state()),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_nll, self.best_step = state_dict["best_nll"], state_dict["best_step"]
        self._validation_due = state_dict["validation_due"]
        self._random_states = state_dict["random_states"]


def _of_every_rank(state: dict[str, Any]) -> list[dict[str, Any]]:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [state]
    states = [state] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(states, state)
    return states


def _count(counts: dict[str, int], number: int) -> None:
    """Let Lightning's counts of micro-batches stand at `number`, saved before or after the last of them."""
    missing = counts["processed"] - counts["completed"]
    counts |= dict.fromkeys(("ready", "started", "processed"), number) | {"completed": number - missing}


def _move_to_whole_step(loops: dict[str, Any], order: RowOrder, step: int, rows_before: int) -> None:
    """Continue in the data at the next whole optimizer step of another number of rows.

    Args:
        loops: state of Lightning's fit loop, which is changed.
        order: of the rows now.
        step: optimizer steps done.
        rows_before: of an optimizer step, when the checkpoint was made.
    """
    (loader,) = loops["state_dict"]["combined_loader"]
    steps = math.ceil(loader["samples_consumed"] / order.samples_per_step)
    left_out = steps * order.samples_per_step - loader["samples_consumed"]
    loader |= {"samples_consumed": steps * order.samples_per_step, "steps_ahead": steps - step}
    epoch, batch = divmod(steps * order.batches_per_step, order.batches_per_epoch)
    progress = loops["epoch_loop.batch_progress"]
    _count(progress["total"], step * order.batches_per_step)
    _count(progress["current"], batch)
    progress["is_last_batch"] = False
    for counts in (loops["epoch_progress"]["total"], loops["epoch_progress"]["current"]):
        counts |= {"ready": epoch + 1, "started": epoch + 1, "processed": epoch, "completed": epoch}
    if rank_zero_only.rank == 0:  # pyright: ignore[reportFunctionMemberAccess]
        print(
            f"an optimizer step has {order.samples_per_step} rows now, and had {rows_before} before: "
            f"{left_out} rows are skipped, to continue with a whole step"
        )
