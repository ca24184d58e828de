"""One trial of a sweep: an ordinary run, in a process of its own."""

import csv
import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from gpt2_lightning.assignment import Assignment
from gpt2_lightning.sweeps.definition import Sweep
from gpt2_lightning.sweeps.study import REASON, RUN, SLOT, VALUES, Settings, retry, suggested

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

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
        queue: held while a trial is taken, which Optuna would give to two workers at once on SQLite.
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

        self.queue.release()
        if SLOT not in trial.user_attrs or _is_taken(trial):
            raise SurplusError
        values = suggested(trial, self.sweep)
        run = self.folder / f"trial-{trial.user_attrs[SLOT]:04d}"
        trial.set_user_attr(VALUES, values)
        trial.set_user_attr(RUN, run.name)
        if (same := _same_values(trial, values)) and same.value is not None:
            trial.set_user_attr(RUN, same.user_attrs[RUN])
            return same.value
        try:
            code, output = self._run(trial, run, self.sweep.command_of(values))
            while code and _HELD in _reason(code, output):  # by a worker that was thought dead
                time.sleep(self.settings.heartbeat_seconds)
                code, output = self._run(trial, run, self.sweep.command_of(values))
        except KeyboardInterrupt:
            trial.set_user_attr(REASON, "interrupted")
            retry(trial.study, trial.study.get_trials(deepcopy=True)[trial.number])
            raise
        if code:
            reason = _reason(code, output)
            trial.set_user_attr(REASON, reason)
            raise TrialFailedError(reason)
        if json.loads((run / "summary.json").read_text())["status"] == "pruned":
            raise TrialPruned
        return best_of(run, self.sweep)

    def _run(self, trial: "Trial", run: Path, command: Sequence[str]) -> tuple[int, Path]:
        """Start a run and wait for its end; its exit code, and the file with what it printed."""
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
        return process.returncode, output


def _own_options(run: Path) -> list[str]:
    """What makes a run a trial: its folder, going on where an earlier try stopped, no second dashboard."""
    return [
        f"--logs={run.parent.parent}",
        f"--experiment={run.parent.name}",
        f"--run={run.name}",
        "--auto_resume=true",
        "--trainer.enable_progress_bar=false",
        "--trainer.logger=configs/logger/tensorboard.yaml",
    ]


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        process.kill()


def _is_taken(trial: "Trial") -> bool:
    """Whether the same slot stands in the queue before it, as two machines have filled it at once."""
    return any(
        other.user_attrs.get(SLOT) == trial.user_attrs[SLOT] and other.state.name != "FAIL"
        for other in trial.study.get_trials(deepcopy=False)[: trial.number]
    )


def _same_values(trial: "Trial", values: dict[str, object]) -> "FrozenTrial | None":
    """A trial of the same values that is done: chance draws some twice where there are few."""
    done = (other for other in trial.study.get_trials(deepcopy=False) if other.state.name == "COMPLETE")
    return next((other for other in done if other.user_attrs.get(VALUES) == values), None)


def _reason(code: int, output: Path) -> str:
    lines = [line.strip() for line in output.read_text(errors="replace").splitlines() if line.strip()]
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
    if not found:
        raise TrialFailedError(f"it has not recorded {sweep.metric}")
    return max(found) if sweep.maximize else min(found)


def work(study: "Study", runner: TrialRunner, until: float) -> None:
    """Take trials from the queue until it is empty and nobody trains one, or the time is over.

    A worker that stood still for so long that its trial was given to another lets that have it.

    Args:
        study: of the sweep.
        runner: its objective.
        until: seconds since the epoch; no trial is begun after it.
    """
    import optuna
    from optuna.exceptions import UpdateFinishedTrialError

    while time.time() < until:
        optuna.storages.fail_stale_trials(study)
        states = [trial.state.name for trial in study.get_trials(deepcopy=False)]
        if "WAITING" in states:
            try:
                runner.queue.acquire()
                study.optimize(runner, n_trials=1, catch=(TrialFailedError, SurplusError))
            except (UpdateFinishedTrialError, ValueError, AssertionError) as error:  # the last hides one
                cause = error.__context__ if isinstance(error, AssertionError) else error
                if not (isinstance(cause, UpdateFinishedTrialError) or str(cause).startswith(_GIVEN_AWAY)):
                    raise
            finally:
                runner.queue.release()
        elif "RUNNING" in states:  # another worker's; should that be killed, the trial is for us
            time.sleep(1)
            if os.getppid() != runner.parent:
                return
        else:
            return
