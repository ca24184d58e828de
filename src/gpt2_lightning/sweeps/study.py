"""Optuna's study of a sweep: its storage, and the queue that its trials come from."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpt2_lightning.assignment import load_study, pruner_of, quiet_optuna
from gpt2_lightning.errors import InputError
from gpt2_lightning.secret_options import masked
from gpt2_lightning.sweeps.definition import Sweep
from gpt2_lightning.sweeps.space import Parameter

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

SLOT = "slot"  # a trial's place in the sweep; retries have that of the first try
REASON = "reason"  # why a trial failed
RUN = "run"  # the folder of its run
VALUES = "values"  # the options' values, by name
_SWEEP = "sweep"  # its file, as a study's attribute
_RETRIES = 3  # of a trial whose worker was killed


@dataclass(frozen=True)
class Settings:
    """How a study is run, the same for every worker.

    Attributes:
        name: of the study.
        storage: Optuna's address of it.
        seed: of everything that is drawn.
        pruning: see `pruner_of`.
        heartbeat_seconds: between the signs of life of a worker; without three, its trial is another's.
    """

    name: str
    storage: str
    seed: int
    pruning: dict[str, int] | str | None
    heartbeat_seconds: int


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
    is_file = settings.storage.startswith("sqlite:")
    try:
        storage = RDBStorage(
            settings.storage,
            engine_kwargs={"connect_args": {"timeout": 60}} if is_file else {"pool_pre_ping": True},
            heartbeat_interval=settings.heartbeat_seconds,
            grace_period=3 * settings.heartbeat_seconds,
            heartbeat_stale_trial_callback=retry,
        )
        direction = "maximize" if sweep.maximize else "minimize"
        with suppress(DuplicatedStudyError):  # made by another worker, or an earlier start
            optuna.create_study(study_name=settings.name, storage=storage, direction=direction)
        study = load_study(storage, settings.name, sampler=_sampler(sweep, settings, worker))
    except (SQLAlchemyError, ArgumentError, ImportError, OSError) as error:
        reason = " ".join(masked(str(error)).split())[:200]
        raise InputError(f"--storage {masked(settings.storage)}: cannot be used: {reason}") from None
    study.pruner = pruner_of(settings.pruning)
    if study.user_attrs.get(_SWEEP, sweep.text) != sweep.text:
        raise InputError(
            f"{sweep.path}: was changed since {settings.name} was begun; give the new sweep a name of its "
            "own with NAME="
        )
    study.set_user_attr(_SWEEP, sweep.text)
    return study


def _sampler(sweep: Sweep, settings: Settings, worker: int) -> Any:
    """Of what the queue leaves open, which is everything for `bayes` and nothing for the others."""
    from optuna.samplers import RandomSampler, TPESampler

    if sweep.method == "bayes":
        return TPESampler(seed=settings.seed + worker)
    return RandomSampler(seed=settings.seed + worker)


def retry(study: "Study", trial: "FrozenTrial") -> None:
    """Put a trial back into the queue, with its values and what it has reported."""
    from optuna.storages import RetryHeartbeatStaleTrialCallback

    RetryHeartbeatStaleTrialCallback(max_retry=_RETRIES, inherit_intermediate_values=True)(study, trial)


def points(sweep: Sweep, seed: int) -> Iterator[dict[str, Any]]:
    """What is sampled for each slot of the queue, in order; for `bayes` nothing is known before.

    No point comes twice, and a grid or a space of choices ends.
    """
    if sweep.method == "grid":
        yield from _grid(sweep.varying)
    elif sweep.method == "random":
        yield from _drawn(sweep, seed)
    else:
        while True:
            yield {}


def _grid(parameters: tuple[Parameter, ...]) -> Iterator[dict[str, Any]]:
    from itertools import product

    for point in product(*(parameter.grid for parameter in parameters)):
        yield dict(zip((parameter.name for parameter in parameters), point, strict=True))


def _drawn(sweep: Sweep, seed: int) -> Iterator[dict[str, Any]]:
    import optuna

    quiet_optuna()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    known: set[tuple[Any, ...]] = set()
    misses = 0
    while misses < 1000:  # a space of choices that are all taken
        trial = study.ask({parameter.name: parameter.sampled for parameter in sweep.varying})
        study.tell(trial, 0.0)
        values = tuple(str(parameter.value(trial.params[parameter.name])) for parameter in sweep.varying)
        misses = misses + 1 if values in known else 0
        if not misses:
            known.add(values)
            yield trial.params


def enqueue(study: "Study", sweep: Sweep, seed: int, wanted: int | None) -> int:
    """Fill the queue up to so many slots; returns how many there are now.

    Args:
        study: of the sweep.
        sweep: whose points they are.
        seed: of random points.
        wanted: slots, those done included; all of a grid if not given.
    """
    taken = {trial.user_attrs[SLOT] for trial in study.get_trials(deepcopy=False) if SLOT in trial.user_attrs}
    slots = 0
    for slot, point in enumerate(points(sweep, seed)):
        if wanted is not None and slot >= wanted:
            break
        slots = slot + 1
        if slot not in taken:
            study.enqueue_trial(point, user_attrs={SLOT: slot})
    return slots


def enqueue_failed(study: "Study") -> None:
    """Give each trial that has failed another try, with its values."""
    for trial in trials_of(study):
        if trial.state.name == "FAIL":
            study.enqueue_trial(trial.params, user_attrs={SLOT: trial.user_attrs[SLOT]})


def suggested(trial: "Trial", sweep: Sweep) -> dict[str, Any]:
    """The options' values of a trial, the constants included, by name in the file's order."""
    values = {}
    for parameter in sweep.parameters:
        if parameter.is_constant:
            assert parameter.choices is not None
            values[parameter.name] = parameter.choices[0]
        else:
            values[parameter.name] = parameter.value(_suggest(trial, parameter))
    return values


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
    """One trial for each slot: its last try."""
    newest = {t.user_attrs[SLOT]: t for t in study.get_trials(deepcopy=False) if SLOT in t.user_attrs}
    return [newest[slot] for slot in sorted(newest)]


def reason_of(trial: "FrozenTrial") -> str:
    """Why a trial failed; empty if it has not."""
    if trial.state.name != "FAIL":
        return ""
    return trial.user_attrs.get(REASON) or f"its worker was killed, {_RETRIES + 1} times"
