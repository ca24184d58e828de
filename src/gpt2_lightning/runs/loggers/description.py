"""What a logger learns about a run before its first metric."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from gpt2_lightning.runs.settings import leaves


@dataclass(frozen=True)
class Description:
    """A run's settings and what its owner says about it.

    Attributes:
        hyperparameters: the resolved configuration, nested, of plain JSON types.
        tags: words to find the run by.
        notes: what the run is for.
    """

    hyperparameters: dict[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    notes: str = ""

    def flat(self) -> dict[str, bool | int | float | str]:
        """The hyperparameters by their whole names, `model.optimizer.init_args.lr`; none that is not set."""
        given = {name: value for name, value in leaves(self.hyperparameters) if value is not None}
        return {name: v if isinstance(v, bool | int | float | str) else str(v) for name, v in given.items()}


@runtime_checkable
class RunLogger(Protocol):
    """A logger that knows how a run begins."""

    def begin(self, step: int, description: Description) -> None:
        """Continue after optimizer step `step`, 0 for a new run: later records of an earlier try are void."""
        ...


class WhenUsed:
    """Stands for an object that is made when something of it is first used.

    Lightning touches `logger.experiment` before it looks at the checkpoint; a run that is refused then
    has made no file.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __getattr__(self, name: str) -> Any:
        return getattr(self._make(), name)
