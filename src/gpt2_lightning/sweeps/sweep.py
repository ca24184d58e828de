"""The command of a sweep: checks, workers, a live table, and the report."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

from gpt2_lightning.errors import InputError
from gpt2_lightning.ranges import PositiveFloat, PositiveInt, Seed
from gpt2_lightning.runs.folder import check_name
from gpt2_lightning.secret_options import masked
from gpt2_lightning.sweeps import study as studies
from gpt2_lightning.sweeps.definition import Sweep, read
from gpt2_lightning.sweeps.progress import Table
from gpt2_lightning.sweeps.report import BEST, REPORT, write_report
from gpt2_lightning.sweeps.worker import Job

if TYPE_CHECKING:
    from optuna import Study

_MOST_BY_TIME = 300  # trials of a sweep that only time ends
_LOOKS = 1.0  # seconds between looks at the study
_RESTARTS = 20  # of workers that were killed, without a trial that came to its end
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
    if not find_spec("optuna") or not find_spec("plotly") or not find_spec("rich"):
        raise InputError("sweeps need packages that are not installed: pip install -e '.[sweep]'")
    definition = read(Path(file))
    if storage and masked(storage) != storage:
        raise InputError("--storage: holds a password; give it in the environment instead, as PGPASSWORD")
    check_name("--name", name or Path(file).stem)
    folder = Path(logs) / "sweeps" / (name or Path(file).stem)
    wanted = trials or definition.run_cap
    if definition.method != "grid" and wanted is None and hours is None:
        raise InputError(
            "--trials: give how many (TRIALS=20), or how long (--hours); only a grid ends by itself"
        )
    pruning = {"file": definition.hyperband, "median": "median", "none": None}[pruner]
    settings = studies.Settings(
        folder.name, storage or f"sqlite:///{folder / 'study.db'}", seed, pruning, heartbeat_seconds
    )
    if is_new := not folder.exists():  # of options that cannot work, nothing is left behind
        _check_options(definition)
    (folder / "output").mkdir(parents=True, exist_ok=True)
    study = studies.open_study(definition, settings)
    most = wanted or (_MOST_BY_TIME if hours else None)
    slots = studies.enqueue(study, definition, seed, most)
    if retry_failed:
        studies.enqueue_failed(study)
    is_over = all(trial.state.is_finished() for trial in studies.trials_of(study))
    if not (is_new or is_over):
        _check_options(definition)
    until = time.time() + hours * 3600 if hours else float("1e12")
    jobs = [
        Job(file, str(folder), asdict(settings), number, until, _share(number, workers))
        for number in range(workers)
    ]
    table = Table(definition, None if hours and not wanted else slots, workers)
    stopped = not is_over and _supervise(study, jobs, table)
    write_report(study, definition, folder)
    print(f"\n{table.summary(studies.trials_of(study))}\n{folder / REPORT}")
    if (folder / BEST).is_file():
        print(f'\nNext:  make train ARGS="--config {folder / BEST}"')
    if stopped:
        print("stopped; the same command goes on with it")
        raise KeyboardInterrupt


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
    """A worker's part of the machine: threads, and a GPU where there are some.

    Two processes of torch that both take all cores are many times slower than one after the other.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = str(max(1, cores // workers))
    share: dict[str, str] = dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), threads
    )
    if gpus := _gpus():
        share["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
    return share


def _gpus() -> list[str]:
    """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES takes them."""
    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [part.strip() for part in given.split(",") if part.strip()]
    return [str(number) for number in range(torch.cuda.device_count())]


def _supervise(study: "Study", jobs: list[Job], table: Table) -> bool:
    """Keep the workers at work until the queue is empty; whether the user stopped them.

    Raises:
        InputError: if workers cannot work at all.
    """
    processes = {job.number: _start(job) for job in jobs}
    restarts = over = 0
    try:
        with _stop_signals(), table:
            while any(process.poll() is None for process in processes.values()):
                trials = studies.trials_of(study)
                table.show(trials)
                if (now_over := sum(trial.state.is_finished() for trial in trials)) > over:
                    restarts, over = 0, now_over
                time.sleep(_LOOKS)
                for job in jobs:
                    if (processes[job.number].poll() or 0) < 0 and restarts < _RESTARTS:  # it was killed
                        restarts += 1
                        processes[job.number] = _start(job)
            table.show(studies.trials_of(study))
    except KeyboardInterrupt:
        _stop(list(processes.values()))
        return True
    for job in jobs:
        code = processes[job.number].returncode
        if code > 0:
            said = _said_by(job).read_text(errors="replace").strip().splitlines() or ["nothing was said"]
            raise InputError(f"worker {job.number} has ended ({_said_by(job)}): {said[-1]}")
        if code < 0:
            raise InputError(
                f"workers were killed {restarts + 1} times in a row: is memory enough for {len(jobs)} runs?"
            )
    return False


def _start(job: Job) -> subprocess.Popen[bytes]:
    with _said_by(job).open("w") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "gpt2_lightning.sweeps.worker"],
            env=os.environ | job.variable(),
            stdout=file,
            stderr=file,
            start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on once
        )


def _said_by(job: Job) -> Path:
    return Path(job.folder) / "output" / f"worker-{job.number}.txt"


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    print("\nstopping: the runs end their optimizer step and save", file=sys.stderr)
    for process in processes:
        if process.poll() is None:
            process.terminate()  # a job in the background passes on that Ctrl-C is not heard
    for process in processes:
        try:
            process.wait(_SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            process.kill()


@contextmanager
def _stop_signals() -> Iterator[None]:
    """SIGTERM ends the sweep as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> Any:
        raise KeyboardInterrupt

    earlier = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)
