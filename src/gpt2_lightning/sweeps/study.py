"""Optuna's study of a sweep: its storage, and its trials, one after the other and again."""

import math
import socket
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count, islice, product, takewhile
from typing import TYPE_CHECKING, Any

import numpy as np

from gpt2_lightning.errors import InputError
from gpt2_lightning.runs.secret_options import masked
from gpt2_lightning.sweeps.assignment import engine_options, load_study, pruner_of, quiet_optuna
from gpt2_lightning.sweeps.definition import Sweep
from gpt2_lightning.sweeps.space import Parameter

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

SLOT = "slot"  # a trial's place in the sweep; later tries have that of the first
REASON = "reason"  # why a trial failed
RUN = "run"  # the folder of its run
VALUES = "values"  # the options' values, by name
_SWEEP = "sweep"  # its file, as a study's attribute
_KILLS = "kills"  # how often the worker of a trial was killed
_MOST_KILLS = 3  # after which a trial is tried again
_STARTUP = 10  # points that `bayes` draws at random before it has seen enough
_MOST_LISTED = 10_000  # points of a space that are listed, to be drawn without putting back


@dataclass(frozen=True)
class Settings:
    """How a study is run, the same for every worker.

    Attributes:
        name: of the study.
        storage: Optuna's address of it.
        seed: of everything that is drawn.
        pruning: see `pruner_of`.
        heartbeat_seconds: between the signs of life of a worker; without three, its trial is another's.
        slots: how many trials there are to be; without a number, as many as there are points and time.
    """

    name: str
    storage: str
    seed: int
    pruning: dict[str, int] | str | None
    heartbeat_seconds: int
    slots: int | None = None


def open_study(sweep: Sweep, settings: Settings, worker: int = 0) -> "Study":
    """The study of a sweep, made where it is not there yet.

    Raises:
        InputError: if the storage cannot be used, or the study is of another sweep.
    """
    import optuna
    from optuna.exceptions import DuplicatedStudyError
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    quiet_optuna()
    try:
        storage = RDBStorage(
            settings.storage,
            engine_kwargs=engine_options(settings.storage),
            heartbeat_interval=settings.heartbeat_seconds,
            grace_period=3 * settings.heartbeat_seconds,
            heartbeat_stale_trial_callback=_killed,
        )
        direction = "maximize" if sweep.maximize else "minimize"
        with suppress(DuplicatedStudyError):  # made by another worker, or an earlier start
            optuna.create_study(study_name=settings.name, storage=storage, direction=direction)
        study = load_study(storage, settings.name)
    except (SQLAlchemyError, ArgumentError, ImportError, OSError, ValueError, KeyError) as error:
        reason = " ".join(masked(str(error)).split())[:200]
        raise InputError(f"--storage {shown_address(settings.storage)}: cannot be used: {reason}") from None
    study.sampler = _sampler(study, sweep, settings.seed, worker)
    study.pruner = pruner_of(settings.pruning)
    if study.user_attrs.get(_SWEEP, sweep.text) != sweep.text and study.get_trials(deepcopy=False):
        raise InputError(
            f"{sweep.path}: was changed since {settings.name} was begun; give the new sweep a name of its "
            "own with NAME="
        )
    study.set_user_attr(_SWEEP, sweep.text)
    return study


def shown_address(storage: str) -> str:
    """The address of a storage, without a password."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(storage).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        return masked(storage)


def _sampler(study: "Study", sweep: Sweep, seed: int, worker: int) -> Any:
    """Of what the points leave open: everything after the first of `bayes`, else nothing.

    No two workers of any machine begin with one seed, nor does one that begins again.
    """
    from optuna.samplers import RandomSampler, TPESampler

    begun = f"{seed} {socket.gethostname()} {worker} {len(study.get_trials(deepcopy=False))}"
    own = zlib.crc32(begun.encode())
    return TPESampler(n_startup_trials=_STARTUP, seed=own) if sweep.method == "bayes" else RandomSampler(own)


def points(sweep: Sweep, seed: int) -> Iterator[dict[str, Any]]:
    """What is sampled for each slot, in order; after its first ones, nothing is known before for `bayes`.

    No point comes twice, and a grid or a space of choices ends.
    """
    if sweep.method == "grid":
        yield from _grid(sweep)
    elif sweep.method == "random":
        yield from _random(sweep, seed)
    else:
        first = list(islice(_random(sweep, seed), _STARTUP))
        yield from first
        yield from ({} for _ in takewhile(lambda slot: slot < sweep.size, count(len(first))))


def _grid(sweep: Sweep) -> Iterator[dict[str, Any]]:
    for point in product(*(parameter.grid for parameter in sweep.varying)):
        yield dict(zip((parameter.name for parameter in sweep.varying), point, strict=True))


def _random(sweep: Sweep, seed: int) -> Iterator[dict[str, Any]]:
    """Points in random order, each once."""
    if sweep.size <= _MOST_LISTED:
        listed = list(_grid(sweep))
        yield from (listed[number] for number in np.random.default_rng(seed).permutation(len(listed)))
        return
    import optuna

    quiet_optuna()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    known: set[str] = set()
    while True:
        trial = study.ask({parameter.name: parameter.sampled for parameter in sweep.varying})
        study.tell(trial, 0.0)
        values = str([parameter.value(trial.params[parameter.name]) for parameter in sweep.varying])
        if values not in known:
            known.add(values)
            yield trial.params


def enqueue_next(study: "Study", sweep: Sweep, settings: Settings) -> bool:
    """Add a trial for the first slot that has none; whether there was one to add.

    To be called by one worker at a time.
    """
    taken = {trial.user_attrs[SLOT] for trial in study.get_trials(deepcopy=False) if SLOT in trial.user_attrs}
    most = math.inf if settings.slots is None else settings.slots
    for slot, point in enumerate(points(sweep, settings.seed)):
        if slot >= most:
            break
        if slot not in taken:
            study.enqueue_trial(point, user_attrs={SLOT: slot})
            return True
    return False


def enqueue_other(study: "Study", sweep: Sweep, seed: int, slot: int) -> bool:
    """Give a slot, whose point came twice, a random one that nobody has tried; whether there is one."""
    tried = [trial.user_attrs.get(VALUES) for trial in study.get_trials(deepcopy=False)]
    for point in islice(_random(sweep, zlib.crc32(f"{seed} {slot}".encode())), _MOST_LISTED):
        if {parameter.name: _value(parameter, point) for parameter in sweep.parameters} not in tried:
            study.enqueue_trial(point, user_attrs={SLOT: slot})
            return True
    return False


def _value(parameter: Parameter, point: dict[str, Any]) -> Any:
    if parameter.is_constant:
        assert parameter.choices is not None
        return parameter.choices[0]
    return parameter.value(point[parameter.name])


def put_back(study: "Study", trial: "FrozenTrial", kills: int = 0) -> None:
    """Try a trial once more, with its values and what it has reported.

    Args:
        study: of the sweep.
        trial: that has failed.
        kills: how often its worker was killed so far.
    """
    import optuna

    own = (REASON, VALUES, RUN)  # of the try: a trial without values has not begun
    known = {name: value for name, value in trial.user_attrs.items() if name not in own}
    study.add_trial(
        optuna.create_trial(
            state=optuna.trial.TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs=known | {_KILLS: kills},
            system_attrs=trial.system_attrs,
            intermediate_values=trial.intermediate_values,
        )
    )


def _killed(study: "Study", trial: "FrozenTrial") -> None:
    """A trial whose worker gives no sign of life: it is tried again, up to three times."""
    kills = 1 + trial.user_attrs.get(_KILLS, 0)
    if kills <= _MOST_KILLS:
        put_back(study, trial, kills)


def put_back_unbegun(study: "Study", seconds: float) -> None:
    """Free the slots of trials whose worker was killed before its first sign of life.

    Optuna knows nothing of them.

    Args:
        study: of the sweep.
        seconds: for which a trial has been taken, and has no values yet.
    """
    from optuna.exceptions import UpdateFinishedTrialError
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False):
        if trial.state.name != "RUNNING" or VALUES in trial.user_attrs or not trial.datetime_start:
            continue
        if time.time() - trial.datetime_start.timestamp() > seconds:
            with suppress(UpdateFinishedTrialError, ValueError):  # another worker was faster
                study.tell(trial.number, state=TrialState.FAIL)
                put_back(study, trial)


def put_back_failed(study: "Study") -> None:
    """Give each trial that has failed another try, with its values."""
    for trial in trials_of(study):
        if trial.state.name == "FAIL":
            put_back(study, trial)


def suggested(trial: "Trial", sweep: Sweep) -> dict[str, Any]:
    """The options' values of a trial, the constants included, by name in the file's order."""
    point = {parameter.name: _suggest(trial, parameter) for parameter in sweep.varying}
    return {parameter.name: _value(parameter, point) for parameter in sweep.parameters}


def _suggest(trial: "Trial", parameter: Parameter) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    sampled = parameter.sampled
    if isinstance(sampled, CategoricalDistribution):
        return trial.suggest_categorical(parameter.name, sampled.choices)
    if isinstance(sampled, IntDistribution):
        return trial.suggest_int(parameter.name, sampled.low, sampled.high)
    assert isinstance(sampled, FloatDistribution)
    return trial.suggest_float(parameter.name, sampled.low, sampled.high, log=sampled.log)


def trials_of(study: "Study") -> list["FrozenTrial"]:
    """One trial for each slot: its last try that has not failed, or its last."""
    found: dict[int, FrozenTrial] = {}
    for trial in study.get_trials(deepcopy=False):
        if (slot := trial.user_attrs.get(SLOT)) is None:
            continue
        if trial.state.name != "FAIL" or slot not in found or found[slot].state.name == "FAIL":
            found[slot] = trial
    return [found[slot] for slot in sorted(found)]


def reason_of(trial: "FrozenTrial") -> str:
    """Why a trial failed; empty if it has not."""
    if trial.state.name != "FAIL":
        return ""
    return (
        trial.user_attrs.get(REASON) or f"its worker was killed {1 + trial.user_attrs.get(_KILLS, 0)} times"
    )
