"""Signals to stop, from Ctrl-C or a scheduler."""

import os
import signal
import subprocess
from typing import Any

_SIGUSR1: signal.Signals | None = getattr(signal, "SIGUSR1", None)  # Windows has none
_SIGHUP: signal.Signals | None = getattr(signal, "SIGHUP", None)
_EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143} | ({_SIGUSR1: 143} if _SIGUSR1 else {})
_EXIT_CODES |= {_SIGHUP: 129} if _SIGHUP else {}


class RunInterrupted(BaseException):
    """The run was asked to stop, and `last.ckpt` is of its last whole optimizer step.

    Attributes:
        exit_code: of the process: 130 after Ctrl-C, 143 after SIGTERM and SIGUSR1, 129 after SIGHUP, 0 where
            it was planned.
    """

    def __init__(self, exit_code: int = 130) -> None:
        super().__init__()
        self.exit_code = exit_code


class StopSignals:
    """Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP, kept until the optimizer step has finished.

    A second one ends the process at once. SIGHUP, which a terminal sends that is closed, stays ignored under
    `nohup`. SLURM announces the end of a job's time by the signal of `#SBATCH --signal=USR1@120`; a job
    stopped by it is put back into the queue.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._earlier: dict[int, Any] = {}
        self._is_talking = True

    def install(self, is_talking: bool) -> None:
        """Take the signals; with `is_talking`, print when one arrives."""
        self._is_talking = is_talking
        numbers = set(_EXIT_CODES)
        if _SIGHUP and signal.getsignal(_SIGHUP) == signal.SIG_IGN:
            numbers.remove(_SIGHUP)
        self._earlier = {number: signal.signal(number, self._take) for number in numbers}

    def restore(self) -> None:
        """Put the earlier handlers back."""
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
        self._earlier = {}

    def interruption(self) -> RunInterrupted:
        """What to raise once the run is saved; a SLURM job that got SIGUSR1 is queued again."""
        number = signal.Signals(self.received or signal.SIGTERM)  # if another rank got it
        job = os.environ.get("SLURM_JOB_ID")
        if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
            job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
        if number == _SIGUSR1 and job and self._is_talking:
            try:
                subprocess.run(["scontrol", "requeue", job], check=True)
            except (OSError, subprocess.SubprocessError) as error:
                print(f"the job cannot be put back into the queue: {error}", flush=True)
        return RunInterrupted(_EXIT_CODES[number])

    def _take(self, number: int, frame: Any) -> None:
        if self.received is not None:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.received = number
        if self._is_talking:  # written past Python's buffers, which a signal may find in use
            again = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
            os.write(2, f"\nfinishing this optimizer step; {again} again stops at once\n".encode())
