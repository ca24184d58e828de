"""One trial of a sweep: an ordinary run, in a process of its own."""

import csv
import json
import math
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from gpt2_lightning.sweeps.assignment import Assignment
from gpt2_lightning.sweeps.definition import Sweep
from gpt2_lightning.sweeps.study import (
    REASON,
    RUN,
    SLOT,
    VALUES,
    Settings,
    enqueue_next,
    enqueue_other,
    put_back,
    put_back_unbegun,
    suggested,
)

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import Trial

LOGGER = "configs/logger/tensorboard.yaml"  # of every trial
_LOOKS = 0.2  # seconds between looks at the worker's parent
_SECONDS_TO_STOP = 120  # for a run that was asked to; it ends its optimizer step and saves
_HELD = "another process is training this run"  # what `train.py` says
_GIVEN_AWAY = "Cannot tell a"  # what Optuna says of a trial that is over already
_LAST_LINES = 4  # of the output of a trial that failed, kept as its reason


class TrialFailedError(Exception):
    """The run of a trial ended without its number; the message is why."""


class SurplusError(Exception):
    """A trial that the queue does not hold, or holds twice: another worker was faster."""


@dataclass(frozen=True)
class TrialRunner:
    """Optuna's objective: starts the run of a trial, waits for it, and reads what it came to.

    Args:
        sweep: whose trials they are.
        settings: of its study.
        folder: of the sweep; each run has its folder in it.
        parent: the process that supervises; without it the trial is stopped and goes back to the queue.
        environment: of the runs, besides this process's own.
        queue: held while a trial is taken and its values are settled, so that no two workers take one
            trial, or one point.
    """

    sweep: Sweep
    settings: Settings
    folder: Path
    parent: int
    environment: dict[str, str]
    queue: FileLock

    def __call__(self, trial: "Trial") -> float:
        """The value of the sweep's metric at its best validation, or its best record."""
        from optuna import TrialPruned

        try:
            values = self._taken(trial)
            self.queue.release()
            run = self.folder / trial.user_attrs[RUN]
            code, said = self._run(trial, run, self.sweep.command_of(values))
            while code and _HELD in said:  # by the run of a worker that was thought dead
                time.sleep(self.settings.heartbeat_seconds)
                code, said = self._run(trial, run, self.sweep.command_of(values))
            if code:
                raise TrialFailedError(said)
            if json.loads((run / "summary.json").read_text())["status"] == "pruned":
                raise TrialPruned
            return best_of(run, self.sweep)
        except TrialFailedError as error:
            trial.set_user_attr(REASON, str(error))
            raise
        except KeyboardInterrupt:
            trial.set_user_attr(REASON, "interrupted")
            put_back(trial.study, trial.study.get_trials(deepcopy=False)[trial.number])
            raise

    def _taken(self, trial: "Trial") -> dict[str, object]:
        """The values of a trial, which is now this worker's.

        Raises:
            SurplusError: if its slot is another trial's, or its point was tried and the slot has a new one.
        """
        slot = trial.user_attrs.get(SLOT)
        others = [t for t in trial.study.get_trials(deepcopy=False)[: trial.number] if t.state.name != "FAIL"]
        if slot is None or any(other.user_attrs.get(SLOT) == slot for other in others):
            raise SurplusError
        values = suggested(trial, self.sweep)
        if any(other.user_attrs.get(VALUES) == values for other in others):
            if not enqueue_other(trial.study, self.sweep, self.settings.seed, slot):
                raise TrialFailedError("every configuration has been tried")
            raise SurplusError
        trial.set_user_attr(RUN, f"trial-{slot:04d}")
        trial.set_user_attr(VALUES, values)
        return values

    def _run(self, trial: "Trial", run: Path, command: Sequence[str]) -> tuple[int, str]:
        """Start a run and wait for its end; its exit code, and why it failed if it has."""
        assignment = Assignment(
            self.settings.storage,
            self.settings.name,
            trial._trial_id,  # what names it in the storage; Optuna's own integrations take it too
            self.sweep.metric,
            self.settings.pruning,
            os.getpid(),
        )
        output = self.folder / "output" / f"{run.name}.txt"
        output.parent.mkdir(exist_ok=True)
        environment = os.environ | self.environment | assignment.environment()
        with output.open("a") as file:
            began = file.tell()
            process = subprocess.Popen(
                [*command, *_own_options(run)], stdout=file, stderr=subprocess.STDOUT, env=environment
            )
            try:
                while process.poll() is None:
                    if os.getppid() != self.parent:
                        raise KeyboardInterrupt
                    try:
                        process.wait(_LOOKS)
                    except subprocess.TimeoutExpired:
                        continue
            except BaseException:
                _stop(process)
                raise
        return process.returncode, _reason(process.returncode, output.read_bytes()[began:])


def _own_options(run: Path) -> list[str]:
    """What makes a run a trial: its folder, going on where an earlier try stopped, no second dashboard."""
    return [
        f"--logs={run.parent.parent}",
        f"--experiment={run.parent.name}",
        f"--run={run.name}",
        "--auto_resume=true",
        "--trainer.enable_progress_bar=false",
        f"--trainer.logger={LOGGER}",
    ]


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        process.kill()


def _reason(code: int, printed: bytes) -> str:
    lines = [line.strip() for line in printed.decode(errors="replace").splitlines() if line.strip()]
    said = [line for line in lines if line.startswith("error: ")][-1:] or lines[-_LAST_LINES:]
    if code < 0:
        name = signal.Signals(-code).name
        said = [f"ended by {name}" + (" (by the system, if memory was over)" if name == "SIGKILL" else "")]
    return " ".join(said) or f"exit code {code}"


def best_of(run: Path, sweep: Sweep) -> float:
    """The best value of the sweep's metric among a run's records.

    Raises:
        TrialFailedError: if there is none.
    """
    with (run / "metrics.csv").open(newline="") as file:
        found = [float(row[sweep.metric]) for row in csv.DictReader(file) if row.get(sweep.metric)]
    found = [value for value in found if math.isfinite(value)]
    if not found:
        raise TrialFailedError(f"it has recorded no number as {sweep.metric}")
    return max(found) if sweep.maximize else min(found)


def work(study: "Study", runner: TrialRunner, until: float) -> None:
    """Take trials until all are over and nobody trains one, or the time is.

    A worker that stood still for so long that its trial was given to another lets that have it.

    Args:
        study: of the sweep.
        runner: its objective.
        until: seconds since the epoch; no trial is begun after it.
    """
    import optuna

    while time.time() < until:
        optuna.storages.fail_stale_trials(study)
        with _held(runner.queue):
            put_back_unbegun(study, 3 * runner.settings.heartbeat_seconds)
            states = [trial.state.name for trial in study.get_trials(deepcopy=False)]
            if "WAITING" in states or enqueue_next(study, runner.sweep, runner.settings):
                _take_one(study, runner)
                continue
        if "RUNNING" not in states:
            return
        time.sleep(1)  # another worker's; should that be killed, the trial is for us
        if os.getppid() != runner.parent:
            return


@contextmanager
def _held(queue: FileLock) -> Iterator[None]:
    """The queue is this worker's, until its trial is settled."""
    queue.acquire()
    try:
        yield
    finally:
        queue.release(force=True)


def _take_one(study: "Study", runner: TrialRunner) -> None:
    from optuna.exceptions import UpdateFinishedTrialError

    try:
        study.optimize(runner, n_trials=1, catch=(TrialFailedError, SurplusError))
    except (UpdateFinishedTrialError, ValueError, AssertionError) as error:  # the last hides one
        cause = error.__context__ if isinstance(error, AssertionError) else error
        if not (isinstance(cause, UpdateFinishedTrialError) or str(cause).startswith(_GIVEN_AWAY)):
            raise
