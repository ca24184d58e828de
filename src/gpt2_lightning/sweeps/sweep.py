"""The command of a sweep: checks, workers, a live table, and the report."""

import math
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Literal

from gpt2_lightning.errors import InputError
from gpt2_lightning.ranges import PositiveFloat, PositiveInt, Seed
from gpt2_lightning.runs.folder import check_name
from gpt2_lightning.runs.secret_options import is_secret_name
from gpt2_lightning.sweeps.assignment import Assignment
from gpt2_lightning.sweeps.definition import Sweep, read
from gpt2_lightning.sweeps.progress import Table
from gpt2_lightning.sweeps.report import BEST, REPORT, write_report
from gpt2_lightning.sweeps.study import enqueue_missing, give_back, open_study, reason_of, trials_of

if TYPE_CHECKING:
    from optuna import Study

_LOOKS = 0.5  # seconds between looks at the study
_RESTARTS = 20  # of workers that were killed or failed, without a trial that came to its end
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
_SECONDS_TO_STOP = 150  # for workers, whose runs save


def sweep(
    file: str,
    trials: PositiveInt | None = None,
    workers: PositiveInt = 1,
    hours: PositiveFloat | None = None,
    name: str | None = None,
    storage: str | None = None,
    pruner: Literal["file", "median", "none"] = "file",
    retry_failed: bool = False,
    seed: Seed = 0,
    heartbeat_seconds: PositiveInt = 20,
    logs: str = "logs",
) -> None:
    """Run the trials of a sweep, or go on with it; then write its report.

    The same command on several machines, with one storage and one folder that all see, shares the trials.

    Args:
        file: of the sweep, in W&B's format.
        trials: how many there are to be in all, those done included; all of a grid if not given.
        workers: processes on this machine that train one trial at a time each.
        hours: no trial is begun after so long.
        name: of the sweep's folder `logs/sweeps/<name>`; that of the file if not given.
        storage: Optuna's address of a database, as postgresql+psycopg://user@host/name with the password in
            PGPASSWORD; SQLite in the sweep's folder if not given.
        pruner: what ends trials early: what `early_terminate` in the file says, the median of the others, or
            nothing.
        retry_failed: give the trials that have failed so far another try, after what was wrong is mended.
        seed: of what is drawn.
        heartbeat_seconds: between the signs of life of a worker; after three without one, its trial is
            given to another.
        logs: folder that holds the runs.
    """
    if not all(map(find_spec, ("optuna", "plotly", "rich"))):
        raise InputError("sweeps need packages that are not installed: pip install -e '.[sweep]'")
    definition = read(Path(file))
    if storage:
        _check_storage(storage)
    check_name("--name", name or Path(file).stem)
    folder = Path(logs) / "sweeps" / (name or Path(file).stem)
    slots = trials or definition.run_cap
    most = min(definition.size, slots or math.inf)
    if most == math.inf and hours is None:
        said = "give how many (TRIALS=20), or how long (--hours); only a grid ends by itself"
        raise InputError(f"--trials: {said}")
    job = Assignment(
        file=file,
        folder=str(folder),
        metric=definition.metric,
        storage=storage or f"sqlite:///{folder / 'study.db'}",
        seed=seed,
        pruning={"file": definition.hyperband, "median": "median", "none": None}[pruner],
        heartbeat_seconds=heartbeat_seconds,
        until=time.time() + hours * 3600 if hours else math.inf,
        is_endless=slots is None and hours is not None,
    )
    _run(definition, job, workers, retry_failed, most)


def _run(definition: Sweep, job: Assignment, workers: int, retry_failed: bool, most: float) -> None:
    """Train what is left to train, and report.

    Raises:
        InputError: if every trial has failed.
    """
    folder = Path(job.folder)
    study, is_over = _begin(definition, job, retry_failed, most)
    table = Table(definition, None if job.is_endless else int(most), workers)
    try:
        if not is_over:
            _supervise(study, job, workers, table)
    finally:
        write_report(study, definition, folder)
        if is_over or not table.live:
            print(f"\n{table.summary(trials_of(study))}")
        print(folder / REPORT)
    begun = [trial for trial in trials_of(study) if trial.state.name != "WAITING"]
    if begun and all(trial.state.name == "FAIL" for trial in begun):
        raise InputError(f"every trial has failed, the first one: {reason_of(begun[0])}")
    if (folder / BEST).is_file():
        print(f'\nNext:  make train ARGS="--config {quote(str(folder / BEST))}"')


def _check_storage(address: str) -> None:
    """Refuse an address with a password, which everybody on the machine could read.

    Raises:
        InputError: also if it is none.
    """
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        raise InputError(
            "--storage: is no address of a database, as postgresql+psycopg://user@host/name"
        ) from None
    if url.password is not None or any(is_secret_name(name) for name in url.query):
        raise InputError("--storage: holds a password; give it in the environment instead, as PGPASSWORD")


def _begin(definition: Sweep, job: Assignment, retry_failed: bool, most: float) -> tuple["Study", bool]:
    """The study with its queue, and whether all is done; a sweep that cannot work leaves nothing behind."""
    folder = Path(job.folder)
    is_new = not folder.exists()
    if is_new:
        _check_options(definition)
    (folder / "output").mkdir(parents=True, exist_ok=True)
    try:
        study = open_study(definition, job)
    except InputError:
        if is_new:
            shutil.rmtree(folder)
        raise
    for trial in trials_of(study) if retry_failed else ():
        if trial.state.name == "FAIL":
            give_back(study, trial.number)
    if not job.is_endless:
        enqueue_missing(study, definition, job, int(most))
    trials = trials_of(study)
    is_over = len(trials) >= most and all(trial.state.is_finished() for trial in trials)
    if not (is_new or is_over):
        _check_options(definition)
    return study, is_over


def _check_options(definition: Sweep) -> None:
    """Try options of the sweep on `train.py`, which builds the token store by the way.

    A point of a space may be one that does not fit together; so there are three tries.

    Raises:
        InputError: with what `train.py` said of the last.
    """
    said = ""
    for place in (0.0, 0.5, 1.0):
        values = {parameter.name: parameter.example(place) for parameter in definition.parameters}
        command = definition.command_of(values)
        command[command.index(definition.program) + 1] = "preflight"
        tried = subprocess.run(command, capture_output=True, text=True)
        if tried.returncode == 0:
            return
        said = (tried.stderr.strip().splitlines() or [f"exit code {tried.returncode}"])[-1]
        if "no such option" in said:  # wherever the point lies
            break
    raise InputError(f"{definition.path}: {said.removeprefix('error: ')}")


def _share(number: int, workers: int) -> dict[str, str]:
    """A worker's part of the machine: threads, no more than the user has set, and a GPU where there are some.

    Two processes of torch that both take all cores are many times slower than one after the other.
    """
    import torch

    from gpt2_lightning.machine.hardware import available_cores

    share = {}
    for name in _THREADS:
        given, fair = os.environ.get(name, ""), available_cores() // workers
        share[name] = str(max(1, min(fair, int(given)) if given.isdigit() else fair))
    there = ",".join(map(str, range(torch.cuda.device_count())))
    gpus = [part for part in os.environ.get("CUDA_VISIBLE_DEVICES", there).split(",") if part.strip()]
    return share | ({"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)].strip()} if gpus else {})


def _supervise(study: "Study", job: Assignment, workers: int, table: Table) -> None:
    """Keep the workers at work until no trial is left.

    Raises:
        InputError: if they cannot work, for a reason that they have said.
        RuntimeError: if they end with an error of ours, time and again.
        KeyboardInterrupt: if the user has stopped them, by Ctrl-C or SIGTERM.
    """
    earlier = signal.signal(signal.SIGTERM, signal.default_int_handler)
    outputs = [Path(job.folder) / "output" / f"worker-{number}.txt" for number in range(workers)]
    starts = [
        partial(_start, replace(job, worker=number), output, _share(number, workers))
        for number, output in enumerate(outputs)
    ]
    processes = [start() for start in starts]
    restarts = over = 0
    with table.live or nullcontext():
        try:
            while any(process.poll() is None for process in processes):
                trials = trials_of(study)
                table.show(trials)
                if (now_over := sum(trial.state.is_finished() for trial in trials)) > over:
                    restarts, over = 0, now_over
                time.sleep(_LOOKS)
                for number, start in enumerate(starts):
                    if processes[number].poll() not in (None, 0, 2) and restarts < _RESTARTS:
                        restarts += 1
                        processes[number] = start()
        except KeyboardInterrupt:
            said = "stopping: the runs end their optimizer step and save; the same command goes on with them"
            print(f"\n{said}", file=sys.stderr)
            _stop(processes)
            raise
        finally:
            signal.signal(signal.SIGTERM, earlier)
            table.show(trials_of(study))
    for number, process in enumerate(processes):
        _look_at_end(number, process.returncode, restarts, outputs[number])


def _look_at_end(number: int, code: int, restarts: int, output: Path) -> None:
    if code < 0:
        raise InputError(
            f"workers were killed {restarts + 1} times in a row: is memory enough for their runs?"
        )
    if code:
        said = output.read_text(errors="replace").strip() or "nothing was said"
        if code != 2:
            raise RuntimeError(f"worker {number} ends with an error ({output}):\n{said}")
        last = said.splitlines()[-1].removeprefix("error: ")
        raise InputError(f"worker {number} has ended ({output}): {last}")


def _start(job: Assignment, output: Path, share: dict[str, str]) -> subprocess.Popen[bytes]:
    with output.open("w") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "gpt2_lightning.sweeps.worker"],
            env=os.environ | share | job.environment(),
            stdout=file,
            stderr=file,
            start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on once
        )


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()  # a job in the background passes on that Ctrl-C is not heard
    for process in processes:
        try:
            process.wait(_SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            process.kill()
