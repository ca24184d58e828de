"""The command of a sweep: checks, workers, a live table, and the report."""

import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from threading import Thread
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

from gpt2_lightning.errors import InputError
from gpt2_lightning.ranges import PositiveFloat, PositiveInt, Seed
from gpt2_lightning.runs.folder import check_name
from gpt2_lightning.runs.secret_options import is_secret_name
from gpt2_lightning.sweeps import study as studies
from gpt2_lightning.sweeps.definition import Sweep, read
from gpt2_lightning.sweeps.progress import Table
from gpt2_lightning.sweeps.report import BEST, REPORT, write_report
from gpt2_lightning.sweeps.worker import Job

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
    _check_packages()
    definition = read(Path(file))
    if storage:
        _check_storage(storage)
    check_name("--name", name or Path(file).stem)
    folder = Path(logs) / "sweeps" / (name or Path(file).stem)
    slots = trials or definition.run_cap
    most = min(definition.size, math.inf if slots is None else slots)
    if most == math.inf and hours is None:
        raise InputError(
            "--trials: give how many (TRIALS=20), or how long (--hours); only a grid ends by itself"
        )
    pruning = {"file": definition.hyperband, "median": "median", "none": None}[pruner]
    address = storage or f"sqlite:///{folder / 'study.db'}"
    settings = studies.Settings(folder.name, address, seed, pruning, heartbeat_seconds, slots)
    study, is_over = _begin(definition, settings, folder, retry_failed, most)
    until = time.time() + hours * 3600 if hours else float("1e12")
    own = (file, str(folder), asdict(settings))
    jobs = [Job(*own, number, until, _share(number, workers)) for number in range(workers)]
    is_bounded = most < math.inf and (slots is not None or hours is None)  # else time may end it before
    table = Table(definition, int(most) if is_bounded else None, workers)
    try:
        if not is_over:
            _supervise(study, jobs, table)
    finally:
        write_report(study, definition, folder)
        now = studies.trials_of(study)
        if is_over or not table.is_live:
            print(f"\n{table.summary(now)}")
        print(folder / REPORT)
    if now and all(trial.state.name == "FAIL" for trial in now):
        raise InputError(f"every trial has failed, the first one: {studies.reason_of(now[0])}")
    if (folder / BEST).is_file():
        print(f'\nNext:  make train ARGS="--config {quote(str(folder / BEST))}"')


def _check_packages() -> None:
    if not all(map(find_spec, ("optuna", "plotly", "rich"))):
        raise InputError("sweeps need packages that are not installed: pip install -e '.[sweep]'")


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


def _begin(
    definition: Sweep, settings: studies.Settings, folder: Path, retry_failed: bool, most: float
) -> tuple["Study", bool]:
    """The study, and whether nothing is left to do; of a sweep that cannot work, nothing is left behind."""
    is_new = not folder.exists()
    if is_new:
        _check_options(definition)
    (folder / "output").mkdir(parents=True, exist_ok=True)
    try:
        study = studies.open_study(definition, settings)
    except InputError:
        if is_new:
            shutil.rmtree(folder)
        raise
    if retry_failed:
        studies.put_back_failed(study)
    states = [trial.state for trial in studies.trials_of(study)]
    is_over = len(states) >= most and all(state.is_finished() for state in states)
    if not (is_new or is_over):
        _check_options(definition)
    return study, is_over


def _check_options(definition: Sweep) -> None:
    """Try options of the sweep on `train.py`, which builds the token store by the way.

    A point of a space may be one that does not fit together; so there are three tries.

    Raises:
        InputError: with what `train.py` said of the last.
    """
    ahead = Thread(target=_import_ahead)
    ahead.start()
    said = ""
    for place in (0.0, 0.5, 1.0):
        values = {parameter.name: parameter.example(place) for parameter in definition.parameters}
        command = definition.command_of(values)
        command[command.index(definition.program) + 1] = "preflight"
        tried = subprocess.run(command, capture_output=True, text=True)
        ahead.join()
        if tried.returncode == 0:
            return
        said = (tried.stderr.strip().splitlines() or [f"exit code {tried.returncode}"])[-1]
        if "no such option" in said:  # wherever the point lies
            break
    raise InputError(f"{definition.path}: {said.removeprefix('error: ')}")


def _import_ahead() -> None:
    """Use the time in which `train.py` looks at the options for what is needed afterwards."""
    for name in ("torch", "optuna.visualization", "plotly.graph_objects", "sqlalchemy"):
        import_module(name)


def _share(number: int, workers: int) -> dict[str, str]:
    """A worker's part of the machine: threads, and a GPU where there are some.

    Two processes of torch that both take all cores are many times slower than one after the other.
    """
    from gpt2_lightning.machine.hardware import available_cores  # imports torch

    threads = max(1, available_cores() // workers)
    share = {name: _fewer(os.environ.get(name), threads) for name in _THREADS}
    if gpus := _gpus():
        share["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
    return share


def _fewer(given: str | None, threads: int) -> str:
    """The threads of a run, or what the user has set where that is less."""
    return str(min(threads, int(given)) if given and given.isdigit() and int(given) else threads)


def _gpus() -> list[str]:
    """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES takes them."""
    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [part.strip() for part in given.split(",") if part.strip()]
    return [str(number) for number in range(torch.cuda.device_count())]


def _supervise(study: "Study", jobs: list[Job], table: Table) -> None:
    """Keep the workers at work until no trial is left.

    Raises:
        InputError: if they cannot work, for a reason that they have said.
        RuntimeError: if they end with an error of ours, time and again.
        KeyboardInterrupt: if the user has stopped them.
    """
    processes = {job.number: _start(job) for job in jobs}
    restarts = over = 0
    with _stop_signals(), table:
        try:
            while any(process.poll() is None for process in processes.values()):
                trials = studies.trials_of(study)
                table.show(trials)
                if (now_over := sum(trial.state.is_finished() for trial in trials)) > over:
                    restarts, over = 0, now_over
                time.sleep(_LOOKS)
                for job in jobs:
                    if processes[job.number].poll() not in (None, 0, 2) and restarts < _RESTARTS:
                        restarts += 1
                        processes[job.number] = _start(job)
        except KeyboardInterrupt:
            _stop(list(processes.values()))
            raise
        finally:
            table.show(studies.trials_of(study))
    for job in jobs:
        _look_at_end(job, processes[job.number].returncode, restarts)


def _look_at_end(job: Job, code: int, restarts: int) -> None:
    if code < 0:
        raise InputError(
            f"workers were killed {restarts + 1} times in a row: is memory enough for their runs?"
        )
    if code:
        said = _said_by(job).read_text(errors="replace").strip() or "nothing was said"
        if code != 2:
            raise RuntimeError(f"worker {job.number} ends with an error ({_said_by(job)}):\n{said}")
        last = said.splitlines()[-1].removeprefix("error: ")
        raise InputError(f"worker {job.number} has ended ({_said_by(job)}): {last}")


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
    said = "stopping: the runs end their optimizer step and save; the same command goes on with them"
    print(f"\n{said}", file=sys.stderr)
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
