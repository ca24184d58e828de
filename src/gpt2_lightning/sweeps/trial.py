"""One trial of a sweep: an ordinary run, in a process of its own."""

import math
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gpt2_lightning.runs.run import Run
from gpt2_lightning.sweeps.assignment import Assignment
from gpt2_lightning.sweeps.definition import Sweep
from gpt2_lightning.sweeps.study import REASON, SLOT, give_back, run_of, suggested

if TYPE_CHECKING:
    from optuna.trial import Trial

LOGGER = "configs/logger/tensorboard.yaml"  # of every trial
_LOOKS = 0.2  # seconds between looks at the worker's parent
_SECONDS_TO_STOP = 120  # for a run that was asked to; it ends its optimizer step and saves
_HELD = "another process is training this run"  # what `train.py` says
_LAST_LINES = 4  # of the output of a trial that failed, kept as its reason


class TrialFailedError(Exception):
    """The run of a trial ended without its number; the message is why."""


@dataclass(frozen=True)
class TrialRunner:
    """Optuna's objective: starts the run of a trial, waits for it, and reads what it came to.

    Args:
        sweep: whose trials they are.
        job: of the worker.
        parent: the process that supervises; without it the trial is stopped and goes back to the queue.
    """

    sweep: Sweep
    job: Assignment
    parent: int

    def __call__(self, trial: "Trial") -> float:
        """The value of the sweep's metric at its best validation, or its best record."""
        from optuna import TrialPruned

        if SLOT not in trial.user_attrs:  # Optuna made it, as another worker took the last that waited
            raise TrialFailedError
        run = Path(self.job.folder) / run_of(trial)
        try:
            command = self.sweep.command_of(self.sweep.values_of(suggested(trial, self.sweep)))
            code, said = self._run(trial, run, command)
            while code and _HELD in said:  # by the run of a worker that was thought dead
                time.sleep(self.job.heartbeat_seconds)
                code, said = self._run(trial, run, command)
            if code:
                raise TrialFailedError(said)
            if Run(run).summary["status"] == "pruned":
                raise TrialPruned
            return best_of(run, self.sweep)
        except TrialFailedError as error:
            trial.set_user_attr(REASON, str(error))
            raise
        except KeyboardInterrupt:
            if trial.study.trials[trial.number].state.name == "RUNNING":  # else it was given to another
                give_back(trial.study, trial.number)
            raise

    def _run(self, trial: "Trial", run: Path, command: Sequence[str]) -> tuple[int, str]:
        """Start a run and wait for its end; its exit code, and why it failed if it has."""
        # the id names it in the storage; Optuna's own integrations take it too
        assignment = replace(self.job, process=os.getpid(), trial_id=trial._trial_id)
        output = run.parent / "output" / f"{run.name}.txt"
        output.parent.mkdir(exist_ok=True)
        with output.open("a") as file:
            began = file.tell()
            process = subprocess.Popen(
                [*command, *_own_options(run)],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | assignment.environment(),
            )
            try:
                while process.poll() is None:
                    if os.getppid() != self.parent:
                        raise KeyboardInterrupt
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(_LOOKS)
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
    recorded = [row.get(sweep.metric, math.nan) for row in Run(run).rows]
    found = [value for value in recorded if math.isfinite(value)]
    if not found:
        raise TrialFailedError(f"it has recorded no number as {sweep.metric}")
    return max(found) if sweep.maximize else min(found)
