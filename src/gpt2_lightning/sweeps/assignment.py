"""What ties a run to the trial of a sweep, in the sweep's process and in the run's."""

import json
import os
import warnings
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Study
    from optuna.pruners import BasePruner
    from optuna.storages import RDBStorage

_VARIABLE = "GPT2_LIGHTNING_TRIAL"


@dataclass(frozen=True)
class Assignment:
    """Which trial a process trains; passed in the environment, as the storage's address may have a password.

    Attributes:
        storage: of Optuna.
        study: its name.
        trial_id: in the storage.
        metric: that the sweep looks at.
        pruning: how trials are ended early, see `pruner_of`.
        worker: the process that waits for this one's end.
    """

    storage: str
    study: str
    trial_id: int
    metric: str
    pruning: dict[str, int] | str | None
    worker: int

    @classmethod
    def given(cls) -> "Assignment | None":
        """That of this process; `None` outside of a sweep."""
        text = os.environ.get(_VARIABLE)
        return cls(**json.loads(text)) if text else None

    def environment(self) -> dict[str, str]:
        """What passes it on."""
        return {_VARIABLE: json.dumps(asdict(self))}


def pruner_of(pruning: dict[str, int] | str | None) -> "BasePruner":
    """Optuna's pruner.

    Args:
        pruning: W&B's settings of hyperband (`min_iter` or `max_iter` with `s`, `eta`; in validations),
            `median`, or nothing.
    """
    from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner

    if pruning is None:
        return NopPruner()
    if isinstance(pruning, str):
        return MedianPruner()
    eta, most = pruning.get("eta", 3), pruning.get("max_iter")
    least = pruning.get("min_iter") or max(1, round((most or 1) / eta ** pruning.get("s", 1)))
    return HyperbandPruner(least, most or "auto", eta)


def load_study(storage: "RDBStorage", name: str) -> "Study":
    """A study that is there.

    Args:
        storage: that holds it.
        name: of the study.
    """
    import optuna

    quiet_optuna()
    return optuna.load_study(study_name=name, storage=storage, sampler=optuna.samplers.RandomSampler())


def engine_options(storage: str) -> dict[str, Any]:
    """How SQLAlchemy waits for a storage: long for a file in use, not for a server that does not answer."""
    if storage.startswith("sqlite:"):
        return {"connect_args": {"timeout": 60}}
    is_postgres = storage.startswith("postgresql")
    return {"pool_pre_ping": True} | ({"connect_args": {"connect_timeout": 10}} if is_postgres else {})


def quiet_optuna() -> None:
    """Leave out Optuna's own lines on the terminal, and its word that heartbeats are experimental."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a trial that fails is told by us
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
