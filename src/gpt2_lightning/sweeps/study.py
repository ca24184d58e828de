"""Optuna's study of a sweep, which is also the queue of its trials: one for each slot, and further tries."""

import math
import socket
import zlib
from collections.abc import Iterator
from itertools import chain, islice, product, repeat
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from gpt2_lightning.errors import InputError
from gpt2_lightning.runs.secret_options import masked
from gpt2_lightning.sweeps.assignment import Assignment, open_storage, pruner_of, retry
from gpt2_lightning.sweeps.definition import Sweep

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

SLOT = "slot"  # a trial's place in the sweep, the same in every try
REASON = "reason"  # why a trial failed
_SWEEP = "definition"  # what decides the trials, as a study's attribute
_KILLED = "retry_history"  # Optuna's own name for a trial's earlier tries
_STARTUP = 10  # points that `bayes` draws at random before it has seen enough
_MOST_REPEATS = 1_000  # draws in a row of points that are known
_MOST_LISTED = 10_000  # points of a space that are listed, to be drawn without putting back


def open_study(sweep: Sweep, job: Assignment) -> "Study":
    """The study of a sweep, made where it is not there yet.

    Raises:
        InputError: if the storage cannot be used, or the study is of another sweep.
    """
    import optuna
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    try:
        study = optuna.create_study(
            study_name=job.study,
            storage=open_storage(job.storage, job.heartbeat_seconds),
            direction="maximize" if sweep.maximize else "minimize",
            pruner=pruner_of(job.pruning),
            load_if_exists=True,
        )
    except (SQLAlchemyError, ArgumentError, ImportError, OSError, ValueError, KeyError) as error:
        reason = " ".join(masked(str(error)).split())[:200]
        raise InputError(f"--storage {job.storage}: cannot be used: {reason}") from None
    trials = study.get_trials(deepcopy=False)
    if trials and study.user_attrs.get(_SWEEP) != sweep.text:
        raise InputError(
            f"{sweep.path}: was changed since {job.study} was begun, or by an earlier version; give the new "
            "sweep a name of its own with NAME="
        )
    study.set_user_attr(_SWEEP, sweep.text)
    begun = f"{job.seed} {socket.gethostname()} {job.worker} {len(trials)}"  # no two starts draw the same
    study.sampler = optuna.samplers.TPESampler(n_startup_trials=_STARTUP, seed=zlib.crc32(begun.encode()))
    return study


def points(sweep: Sweep, seed: int) -> Iterator[dict[str, Any]]:
    """What is sampled for each slot, in order; after its first ones, `bayes` leaves it to the sampler.

    A grid or a space of choices ends; no point that is known comes twice.
    """
    if sweep.method == "grid":
        return _grid(sweep)
    drawn = _random(sweep, seed)
    if sweep.method == "bayes":
        drawn = chain(islice(drawn, _STARTUP), repeat({}))
    return drawn if math.isinf(sweep.size) else islice(drawn, int(sweep.size))


def _grid(sweep: Sweep) -> Iterator[dict[str, Any]]:
    names = [parameter.short for parameter in sweep.parameters]
    for point in product(*(parameter.points or () for parameter in sweep.parameters)):
        yield dict(zip(names, point, strict=True))


def _random(sweep: Sweep, seed: int) -> Iterator[dict[str, Any]]:
    """Points in random order, each once."""
    if sweep.size <= _MOST_LISTED:
        listed = list(_grid(sweep))
        yield from Random(seed).sample(listed, len(listed))
        return
    import optuna

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    known: set[str] = set()
    repeats = 0
    while repeats < _MOST_REPEATS:  # a range with few values that cannot be listed is used up
        point = study.ask({each.short: each.distribution for each in sweep.parameters}).params
        repeats += 1
        if (values := str(sweep.values_of(point))) not in known:
            known.add(values)
            repeats = 0
            yield point


def enqueue_missing(study: "Study", sweep: Sweep, job: Assignment, slots: int) -> None:
    """Enqueue a trial for each of so many slots that has none, as far as there are points."""
    with FileLock(Path(job.folder) / "queue.lock"):
        taken = {trial.user_attrs.get(SLOT) for trial in study.get_trials(deepcopy=False)}
        for slot, point in enumerate(islice(points(sweep, job.seed), slots)):
            if slot not in taken:
                study.enqueue_trial(point, {SLOT: slot})


def give_back(study: "Study", number: int) -> None:
    """Enqueue the trial of that number once more, as if no worker of it had been killed before."""
    trial = study.trials[number]  # a copy
    trial.user_attrs.pop(REASON, None)
    trial.system_attrs.pop(_KILLED, None)
    retry()(study, trial)


def suggested(trial: "Trial", sweep: Sweep) -> dict[str, Any]:
    """What is sampled for a trial, by the options' short names."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    for each in sweep.parameters:
        sampled = each.distribution
        if isinstance(sampled, CategoricalDistribution):
            trial.suggest_categorical(each.short, sampled.choices)
        elif isinstance(sampled, IntDistribution):
            trial.suggest_int(each.short, sampled.low, sampled.high, step=sampled.step, log=sampled.log)
        else:
            trial.suggest_float(each.short, sampled.low, sampled.high, step=sampled.step, log=sampled.log)
    return trial.params


def trials_of(study: "Study") -> list["FrozenTrial"]:
    """One trial for each slot: its last try that has not failed, or its last."""
    found: dict[int, FrozenTrial] = {}
    for trial in study.get_trials(deepcopy=False):
        if (slot := trial.user_attrs.get(SLOT)) is None:
            continue
        if trial.state.name != "FAIL" or slot not in found or found[slot].state.name == "FAIL":
            found[slot] = trial
    return [found[slot] for slot in sorted(found)]


def run_of(trial: "FrozenTrial | Trial") -> str:
    """The name of a trial's run, the same in every try."""
    return f"trial-{trial.user_attrs[SLOT]:04d}"


def reason_of(trial: "FrozenTrial") -> str:
    """Why a trial failed; empty if it has not."""
    if trial.state.name != "FAIL":
        return ""
    tries = 1 + len(trial.system_attrs.get(_KILLED, []))
    return trial.user_attrs.get(REASON) or f"its worker was killed {tries} time{'s' if tries > 1 else ''}"
