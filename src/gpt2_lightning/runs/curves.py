"""Curves of several runs in one figure, over steps, tokens or seconds; seeds as mean and band."""

from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from gpt2_lightning.runs.run import AXES, Run

if TYPE_CHECKING:
    from plotly.graph_objects import Figure, Scatter

_COLORS = ("#1f77b4", "#d95f02", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#17becf", "#7f7f7f", "#bcbd22")
_LONG = 40  # characters of a label, beside which the curves would be narrow
_FAINT = "#9aa5b1"
_TITLES = {"step": "optimizer step", "tokens": "tokens of training text", "seconds": "seconds of training"}


@dataclass(frozen=True)
class Group:
    """Runs of one configuration, which differ in their seed at most.

    Attributes:
        label: for the legend.
        runs: one or more.
        is_faint: whether it is one of many in the background, which are told apart by pointing at them.
    """

    label: str
    runs: tuple[Run, ...]
    is_faint: bool = False


def groups_of(runs: list[Run], labels: list[str]) -> list[Group]:
    """Runs of one configuration together.

    Args:
        runs: to group.
        labels: of each, were it alone; a group has that of its first run.
    """
    together: dict[str, list[int]] = {}
    for number, run in enumerate(runs):
        together.setdefault(run.configuration, []).append(number)
    return [
        Group(
            labels[numbers[0]] + _counted([runs[number] for number in numbers]),
            tuple(runs[number] for number in numbers),
        )
        for numbers in together.values()
    ]


def _counted(runs: list[Run]) -> str:
    """How many runs stand behind a curve; one seed can have run twice."""
    if len(runs) == 1:
        return ""
    seeds = len({run.seed for run in runs})
    if seeds == len(runs):
        return f" ({seeds} seeds)"
    return f" ({len(runs)} runs of {seeds} seed{'s' if seeds > 1 else ''})"


def curves(groups: list[Group], metric: str) -> "Figure | None":
    """A metric of all runs, with buttons for the x-axis; `None` if no run has recorded it.

    A group of several runs is drawn as the mean and a band from the least to the most, where all of them
    have a record.
    """
    from plotly.graph_objects import Figure

    figure, axes, colors = Figure(), [], cycle(_COLORS)
    for group in groups:
        traces = _traces(group, metric, _FAINT if group.is_faint else next(colors))
        figure.add_traces([trace for trace, _ in traces])
        axes += [axis for _, axis in traces]
    if not axes:
        return None
    buttons = [
        {
            "label": name,
            "method": "update",
            "args": [{"x": [axis[name] for axis in axes]}, {"xaxis.title.text": _TITLES[name]}],
        }
        for name in AXES
    ]
    menu = {"type": "buttons", "direction": "right", "buttons": buttons, "x": 0, "y": 1.13, "xanchor": "left"}
    figure.update_layout(updatemenus=[menu], xaxis_title=_TITLES["step"], yaxis_title=metric)
    if max(len(group.label) for group in groups) > _LONG:
        figure.update_layout(legend={"orientation": "h", "y": -0.2})
    return figure


def _traces(group: Group, metric: str, color: str) -> "list[tuple[Scatter, dict[str, list[float]]]]":
    """What is drawn of a group, and the x of each piece on every axis."""
    from plotly.graph_objects import Scatter

    series = [each for each in (run.series(metric) for run in group.runs) if len(each["value"])]
    if not series:
        return []
    common = sorted(set.intersection(*(set(each["step"].tolist()) for each in series)))
    picked = [
        {name: values[np.isin(each["step"], common)] for name, values in each.items()} for each in series
    ]
    values = np.stack([each["value"] for each in picked])
    axis = {name: np.mean([each[name] for each in picked], axis=0).tolist() for name in AXES}
    line = {"color": color, "width": 1 if group.is_faint else 2}
    mean = Scatter(
        x=axis["step"], y=values.mean(axis=0).tolist(), name=group.label, line=line,
        mode="lines+markers" if len(common) < 30 else "lines", legendgroup=group.label,
        showlegend=not group.is_faint, opacity=0.5 if group.is_faint else 1.0,
    )  # fmt: skip
    if len(series) == 1:
        return [(mean, axis)]
    band = {"mode": "lines", "line": {"width": 0, "color": color}, "legendgroup": group.label}
    band |= {"showlegend": False, "hoverinfo": "skip"}
    least = Scatter(x=axis["step"], y=values.min(axis=0).tolist(), **band)
    most = Scatter(
        x=axis["step"], y=values.max(axis=0).tolist(), fill="tonexty", fillcolor=_transparent(color), **band
    )
    return [(least, axis), (most, axis), (mean, axis)]


def _transparent(color: str) -> str:
    red, green, blue = (int(color[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, 0.18)"
