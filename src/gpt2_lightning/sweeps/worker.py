"""A worker of a sweep, as a process of its own: `python -m gpt2_lightning.sweeps.worker`."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gpt2_lightning.errors import InputError
from gpt2_lightning.sweeps.assignment import Assignment
from gpt2_lightning.sweeps.definition import read
from gpt2_lightning.sweeps.study import enqueue_missing, open_study, trials_of
from gpt2_lightning.sweeps.trial import TrialFailedError, TrialRunner

if TYPE_CHECKING:
    from optuna import Study

_GIVEN_AWAY = "Cannot tell a"  # what Optuna says of a trial that is over already


def main() -> int:
    """Take trials of the sweep until there are none; the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    job, parent = Assignment.given(), os.getppid()
    assert job is not None
    try:
        sweep = read(Path(job.file))
        work(open_study(sweep, job), TrialRunner(sweep, job, parent))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def work(study: "Study", runner: TrialRunner) -> None:
    """Take trials until none waits and nobody trains one, or the time is over, or the parent gone."""
    from optuna.storages import fail_stale_trials

    seen: set[int] = set()
    while time.time() < runner.job.until and os.getppid() == runner.parent:
        fail_stale_trials(study)
        if runner.job.is_endless:
            begun = sum(trial.state.name != "WAITING" for trial in trials_of(study))
            enqueue_missing(study, runner.sweep, runner.job, begun + 1)
        trials = study.get_trials(deepcopy=False)
        running = {trial._trial_id for trial in trials if trial.state.name == "RUNNING"}
        if any(trial.state.name == "WAITING" for trial in trials):
            _take_one(study, runner)
        elif not running:
            return
        else:  # should its worker be killed, the trial is for us
            for trial in running - seen:  # else Optuna would not miss one killed before its first heartbeat
                study._storage.record_heartbeat(trial)  # pyright: ignore[reportAttributeAccessIssue]
            seen |= running
            time.sleep(1)


def _take_one(study: "Study", runner: TrialRunner) -> None:
    """Train a trial; a worker that stood still until its trial was given to another lets that have it."""
    from optuna.exceptions import UpdateFinishedTrialError

    try:
        study.optimize(runner, n_trials=1, catch=(TrialFailedError,))
    except (UpdateFinishedTrialError, ValueError, AssertionError) as error:  # the last hides one
        cause = error.__context__ if isinstance(error, AssertionError) else error
        if not (isinstance(cause, UpdateFinishedTrialError) or str(cause).startswith(_GIVEN_AWAY)):
            raise


if __name__ == "__main__":
    sys.exit(main())
