"""A run as a trial of a sweep: it says how it stands after each validation, and ends where it is told to."""

import os
import signal
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from gpt2_lightning.assignment import Assignment, load_study, pruner_of

if TYPE_CHECKING:
    from optuna.trial import Trial


class Pruning(Callback):
    """Reports the sweep's metric at `on_validation_end`, and ends a run that its pruner gives up.

    Records no metrics. A run whose worker is gone stops as by SIGTERM: another worker goes on with it.

    Args:
        assignment: the trial.

    Attributes:
        is_over: whether the pruner has ended the run.
    """

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self.is_over = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._trial = _trial(self._assignment) if trainer.is_global_zero else None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.is_global_zero and os.getppid() != self._assignment.worker:
            os.kill(os.getpid(), signal.SIGTERM)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        is_bad = bool(self._trial) and self._is_given_up(trainer)
        self.is_over = trainer.strategy.reduce_boolean_decision(is_bad, all=False)
        trainer.should_stop = trainer.should_stop or self.is_over

    def _is_given_up(self, trainer: Trainer) -> bool:
        """Report the metric, and ask the pruner; a trial that was given to another is not reported on."""
        from optuna.exceptions import UpdateFinishedTrialError

        assert self._trial is not None
        value = trainer.callback_metrics[self._assignment.metric].item()
        try:
            self._trial.report(value, 1 + max(self._reports(), default=0))
        except UpdateFinishedTrialError:
            return False
        return self._trial.should_prune() and trainer.global_step < _last_step(trainer)

    def _reports(self) -> dict[int, float]:
        """What was reported so far, by the number of the validation; of an earlier try too."""
        assert self._trial is not None
        return self._trial.study.trials[self._trial.number].intermediate_values


def _last_step(trainer: Trainer) -> float:
    return trainer.max_steps if trainer.max_steps > 0 else float("inf")


def _trial(assignment: Assignment) -> "Trial":
    from optuna.samplers import RandomSampler
    from optuna.trial import Trial

    study = load_study(assignment.storage, assignment.study, sampler=RandomSampler())
    study.pruner = pruner_of(assignment.pruning)
    return Trial(study, assignment.trial_id)
