"""The table of a sweep's trials in the terminal, as they come."""

import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table as RichTable
from rich.text import Text

from gpt2_lightning.runs.settings import short_names
from gpt2_lightning.sweeps.definition import Sweep
from gpt2_lightning.sweeps.space import Parameter
from gpt2_lightning.sweeps.study import SLOT, VALUES, reason_of

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

_AROUND = 6  # lines of the table besides its rows, and the line below it
_OVER = {"COMPLETE", "PRUNED", "FAIL"}


class Table:
    """Rows of trials with what varies, how they stand and their value; below it the time left.

    On a terminal it is written anew where it stands; elsewhere each trial that is over gets a line.

    Args:
        sweep: whose trials they are.
        slots: how many there will be; `None` where only time ends the sweep.
        workers: that train at once.
    """

    def __init__(self, sweep: Sweep, slots: int | None, workers: int) -> None:
        self._sweep, self._slots, self._workers = sweep, slots, workers
        self._console = Console(soft_wrap=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=False)
        self._said: set[tuple[int, int]] = set()
        self._is_first = True

    @property
    def is_live(self) -> bool:
        """Whether it is written anew where it stands."""
        return self._console.is_terminal

    def __enter__(self) -> "Table":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def show(self, trials: list["FrozenTrial"]) -> None:
        """Show how the trials stand now.

        Args:
            trials: one of each slot.
        """
        if self._console.is_terminal:
            self._live.update(Group(self._table(trials), Text(self.summary(trials))), refresh=True)
            return
        for trial in trials:
            state = (trial.user_attrs[SLOT], trial.number)
            if trial.state.name in _OVER and state not in self._said:
                self._said.add(state)
                if not self._is_first:
                    print(self._line(trial), flush=True)
        if self._is_first and self._said:
            done = len(self._said)
            print(f"{done} trial{'s are' if done > 1 else ' is'} done already", flush=True)
        self._is_first = False

    def _line(self, trial: "FrozenTrial") -> str:
        values = self._sweep.label_of(trial.user_attrs.get(VALUES, {}))
        number, outcome = trial.user_attrs[SLOT], _outcome(trial)
        said = f"  {reason}" if (reason := reason_of(trial)) else ""
        return f"trial {number:>4}  {outcome:<10} {seconds_of(trial):>5.0f} s  {values}{said}"

    def _table(self, trials: list["FrozenTrial"]) -> RichTable:
        """The best trial and the newest ones, as many as there is room for."""
        table = RichTable(box=SIMPLE_HEAD)
        table.add_column("trial", justify="right", no_wrap=True, min_width=5)
        shown = self._options_with_room()
        for _, name in shown:
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column(self._sweep.metric, justify="right", no_wrap=True, min_width=14)
        table.add_column("seconds", justify="right", no_wrap=True, min_width=7)
        best = best_trial(trials, self._sweep)
        begun = [trial for trial in trials if trial.state.name != "WAITING"]
        newest = begun[-max(3, self._console.size.height - _AROUND) :]
        for trial in newest if best is None or best in newest else [best, *newest[1:]]:
            values = trial.user_attrs.get(VALUES, {})
            cells = [p.shown(values[p.name]) if p.name in values else "" for p, _ in shown]
            style = "bold green" if trial is best else {"FAIL": "red", "PRUNED": "dim"}.get(trial.state.name)
            slot = str(trial.user_attrs[SLOT])
            table.add_row(slot, *cells, _outcome(trial), f"{seconds_of(trial):.0f}", style=style)
        return table

    def _options_with_room(self) -> list[tuple[Parameter, str]]:
        """The headings of the first options, as many as stand beside the other columns."""
        names = short_names(parameter.name for parameter in self._sweep.varying)
        room = self._console.size.width - 36
        found: list[tuple[Parameter, str]] = []
        for parameter in self._sweep.varying:
            room -= 2 + max(len(names[parameter.name]), 8)
            if room >= 0 or not found:
                found.append((parameter, names[parameter.name]))
        return found

    def summary(self, trials: list["FrozenTrial"]) -> str:
        """One line: how many are done, the best value, and the time left."""
        over = [trial for trial in trials if trial.state.name in _OVER]
        slots = max(self._slots, len(trials)) if self._slots else None
        parts = [f"{len(over)} of {slots} trials" if slots else f"{len(over)} trials"]
        for state, said in (("RUNNING", "running"), ("PRUNED", "pruned"), ("FAIL", "failed")):
            if count := sum(trial.state.name == state for trial in trials):
                parts.append(f"{count} {said}")
        if best := best_trial(trials, self._sweep):
            parts.append(f"best {self._sweep.metric} {best.value:.4f}, trial {best.user_attrs[SLOT]}")
        if slots and over:
            each = sum(map(seconds_of, over)) / len(over)
            under_way = sum(min(each, seconds_of(t)) for t in trials if t.state.name == "RUNNING")
            left = max(0.0, (slots - len(over)) * each - under_way) / self._workers
            if left >= 1:
                parts.append(f"about {left / 60:.0f} min left" if left >= 90 else f"about {left:.0f} s left")
        return " · ".join(parts)


def best_trial(trials: list["FrozenTrial"], sweep: Sweep) -> "FrozenTrial | None":
    """The finished trial with the best value."""
    done = [trial for trial in trials if trial.state.name == "COMPLETE"]
    sign = -1 if sweep.maximize else 1
    return min(done, key=lambda trial: sign * (trial.value or 0.0), default=None)


def seconds_of(trial: "FrozenTrial") -> float:
    """How long a trial took, or takes so far."""
    if trial.datetime_start is None:
        return 0.0
    end = trial.datetime_complete.timestamp() if trial.datetime_complete else time.time()
    return max(0.0, end - trial.datetime_start.timestamp())


def _outcome(trial: "FrozenTrial") -> str:
    if trial.state.name == "COMPLETE":
        return f"{trial.value:.4f}"
    values = trial.intermediate_values
    newest = f" {values[max(values)]:.4f}" if values else ""
    return {"PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}[trial.state.name] + newest
