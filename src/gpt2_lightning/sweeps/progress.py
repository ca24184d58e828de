"""The table of a sweep's trials in the terminal, as they come."""

import time
from itertools import accumulate
from typing import TYPE_CHECKING

from gpt2_lightning.sweeps.definition import Sweep
from gpt2_lightning.sweeps.study import SLOT, reason_of

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial
    from rich.table import Table as RichTable

_AROUND = 6  # lines of the table besides its rows, and the line below it


class Table:
    """Rows of trials with what varies, how they stand and their value; below it the time left.

    On a terminal it is updated in place; elsewhere each trial that is over gets a line.

    Args:
        sweep: whose trials they are.
        slots: how many there will be; `None` where only time ends the sweep.
        workers: that train at once.

    Attributes:
        live: to be entered while it is shown on a terminal; `None` elsewhere.
    """

    def __init__(self, sweep: Sweep, slots: int | None, workers: int) -> None:
        from rich.console import Console
        from rich.live import Live

        self._sweep, self._slots, self._workers = sweep, slots, workers
        self._console = Console(soft_wrap=False)
        self._said: set[int] | None = None
        self.live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None

    def show(self, trials: list["FrozenTrial"]) -> None:
        """Show how the trials stand now, one of each slot."""
        if self.live:
            from rich.console import Group
            from rich.text import Text

            self.live.update(Group(self._table(trials), Text(self.summary(trials))), refresh=True)
            return
        over = {trial.number: trial for trial in trials if trial.state.is_finished()}
        if self._said is None and over:
            print(f"{len(over)} trial{'s are' if len(over) > 1 else ' is'} done already", flush=True)
        for number in sorted(over.keys() - (over if self._said is None else self._said)):
            print(self._line(over[number]), flush=True)
        self._said = set(over)

    def _line(self, trial: "FrozenTrial") -> str:
        number, outcome, label = trial.user_attrs[SLOT], _outcome(trial), self._sweep.label_of(trial.params)
        said = f"  {reason}" if (reason := reason_of(trial)) else ""
        return f"trial {number:>4}  {outcome:<10} {seconds_of(trial):>5.0f} s  {label}{said}"

    def _table(self, trials: list["FrozenTrial"]) -> "RichTable":
        """The best trial and the newest ones, as many as there is room for."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table as RichTable

        table = RichTable(box=SIMPLE_HEAD)
        options = self._options_with_room()
        widths = {"trial": 5} | dict.fromkeys(options, 0) | {self._sweep.metric: 14, "seconds": 7}
        for heading, width in widths.items():
            table.add_column(heading, justify="right", no_wrap=True, min_width=width)
        best = best_trial(trials, self._sweep)
        begun = [trial for trial in trials if trial.state.name != "WAITING"]
        newest = begun[-max(3, self._console.size.height - _AROUND) :]
        for trial in newest if best is None or best in newest else [best, *newest[1:]]:
            shown = self._sweep.shown(trial.params)
            cells = [str(trial.user_attrs[SLOT]), *(shown.get(name, "") for name in options)]
            style = "bold green" if trial is best else {"FAIL": "red", "PRUNED": "dim"}.get(trial.state.name)
            table.add_row(*cells, _outcome(trial), f"{seconds_of(trial):.0f}", style=style)
        return table

    def _options_with_room(self) -> list[str]:
        """Short names of the first options, as many as stand beside the other columns."""
        names = [each.short for each in self._sweep.varying]
        widths = accumulate(2 + max(len(name), 8) for name in names)
        return names[: max(1, sum(width <= self._console.size.width - 36 for width in widths))]

    def summary(self, trials: list["FrozenTrial"]) -> str:
        """One line: how many are done, the best value, and the time left."""
        over = [trial for trial in trials if trial.state.is_finished()]
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
