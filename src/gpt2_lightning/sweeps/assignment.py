"""What a sweep's processes tell each other, and what they share: Optuna's storage and its pruner."""

import json
import math
import os
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback

_VARIABLE = "GPT2_LIGHTNING_ASSIGNMENT"
_MOST_RETRIES = 3  # of a trial whose worker was killed


@dataclass(frozen=True)
class Assignment:
    """What a sweep tells its workers, and a worker the run of a trial.

    Passed in the environment, as others see command lines, and the storage's address may have a password.

    Attributes:
        file: of the sweep.
        folder: of the sweep, whose name is the study's.
        storage: Optuna's address of it.
        metric: that the sweep looks at.
        pruning: how trials are ended early, see `pruner_of`.
        seed: of everything that is drawn.
        heartbeat_seconds: between the signs of life of a worker; without three, its trial is another's.
        until: seconds since the epoch; no trial is begun after it.
        is_endless: whether time alone ends the sweep; the queue is then filled as it is emptied.
        worker: its number on this machine.
        process: the worker's, which waits for the run's end; 0 before it has a trial.
        trial_id: of the run's trial in the storage; 0 before the worker has one.
    """

    file: str
    folder: str
    storage: str
    metric: str
    pruning: dict[str, int] | str | None
    seed: int
    heartbeat_seconds: int
    until: float = math.inf
    is_endless: bool = False
    worker: int = 0
    process: int = 0
    trial_id: int = 0

    @property
    def study(self) -> str:
        """The name of the study."""
        return Path(self.folder).name

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


def open_storage(address: str, heartbeat_seconds: int | None = None) -> "RDBStorage":
    """Optuna's storage, without Optuna's own lines on the terminal.

    In SQLite every transaction locks the file before it reads. Optuna's lock it when they write, and as
    SQLite has no `SELECT ... FOR UPDATE`, two workers would take one trial.

    Args:
        address: of the database.
        heartbeat_seconds: between the signs of life of a worker; without three, its trial is tried again.
            `None` where no worker is looked after.
    """
    import optuna
    from sqlalchemy import event

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a trial that fails is told by us
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # heartbeats
    options: dict[str, Any] = {"pool_pre_ping": True}
    if address.startswith("sqlite:"):
        options = {"connect_args": {"timeout": 60, "isolation_level": None}}
    elif address.startswith("postgresql"):
        options["connect_args"] = {"connect_timeout": 10}
    storage = optuna.storages.RDBStorage(
        address,
        options,
        heartbeat_interval=heartbeat_seconds,
        grace_period=3 * heartbeat_seconds if heartbeat_seconds else None,
        heartbeat_stale_trial_callback=retry() if heartbeat_seconds else None,
    )
    if address.startswith("sqlite:"):
        event.listen(storage.engine, "begin", lambda database: database.exec_driver_sql("BEGIN IMMEDIATE"))
    return storage


def retry() -> "RetryHeartbeatStaleTrialCallback":
    """What enqueues a trial once more, with its values and reports."""
    from optuna.storages import RetryHeartbeatStaleTrialCallback

    return RetryHeartbeatStaleTrialCallback(_MOST_RETRIES, inherit_intermediate_values=True)
