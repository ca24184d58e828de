"""A run as a trial of a sweep: it reports after each validation, and stops when pruned."""

import os
import signal
from typing import TYPE_CHECKING, Any

import psutil
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from gpt2_lightning.model.run_length import total_steps
from gpt2_lightning.sweeps.assignment import Assignment, open_storage, pruner_of

if TYPE_CHECKING:
    from optuna.trial import Trial

_STEPS = "validated_at"  # optimizer steps of the validations that were reported


class Pruning(Callback):
    """Reports the sweep's metric at `on_validation_end`, and stops a run that the pruner prunes.

    Records no metrics. A run whose worker is gone stops as by SIGTERM: another worker goes on with it.
    A metric that validations do not give is not reported.

    Args:
        assignment: the trial.

    Attributes:
        is_over: whether the pruner has ended the run.
    """

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._parent = os.getppid()  # the worker, or a launcher between
        self.is_over = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._trial = _trial(self._assignment) if trainer.is_global_zero else None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        is_alone = os.getppid() != self._parent or not psutil.pid_exists(self._assignment.process)
        if trainer.is_global_zero and is_alone:
            os.kill(os.getpid(), signal.SIGTERM)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        is_bad = bool(self._trial) and self._is_pruned(trainer)
        self.is_over = trainer.strategy.reduce_boolean_decision(is_bad, all=False)
        trainer.should_stop = trainer.should_stop or self.is_over

    def _is_pruned(self, trainer: Trainer) -> bool:
        """Report the metric, and ask the pruner; a trial that was given to another is not reported on."""
        from optuna.exceptions import UpdateFinishedTrialError

        assert self._trial is not None
        value = trainer.callback_metrics.get(self._assignment.metric)
        if value is None:
            return False
        frozen = self._trial.study.get_trials(deepcopy=False)[self._trial.number]
        earlier = [step for step in frozen.user_attrs.get(_STEPS, []) if step < trainer.global_step]
        number = len(earlier) + 1  # of the validation, the same where an earlier try was at this step
        try:
            if number not in frozen.intermediate_values:
                self._trial.report(value.item(), number)
            self._trial.set_user_attr(_STEPS, [*earlier, trainer.global_step])
        except UpdateFinishedTrialError:
            return False
        return self._trial.should_prune() and trainer.global_step < total_steps(trainer)


def _trial(assignment: Assignment) -> "Trial":
    from optuna import load_study
    from optuna.trial import Trial

    study = load_study(
        study_name=assignment.study,
        storage=open_storage(assignment.storage),
        pruner=pruner_of(assignment.pruning),
    )
    return Trial(study, assignment.trial_id)
