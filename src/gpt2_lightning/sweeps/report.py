"""What a sweep came to: `report.html`, and `best.yaml`, which trains the best configuration again."""

import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from copy import copy
from pathlib import Path
from shlex import join, quote
from typing import TYPE_CHECKING

import yaml

from gpt2_lightning import metrics
from gpt2_lightning.errors import InputError
from gpt2_lightning.files.whole import write_text
from gpt2_lightning.runs.curves import Group, curves
from gpt2_lightning.runs.page import code, figure_html, link, table_html, write_page
from gpt2_lightning.runs.run import Run
from gpt2_lightning.sweeps.definition import Sweep
from gpt2_lightning.sweeps.progress import best_trial, seconds_of
from gpt2_lightning.sweeps.study import SLOT, reason_of, run_of, trials_of
from gpt2_lightning.sweeps.trial import LOGGER

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial
    from plotly.graph_objects import Figure

REPORT, BEST = "report.html", "best.yaml"
_ENOUGH = 10  # finished trials, before importance says anything
_SLICES = 4  # options beside each other
_LABELLED = 12  # curves in the legend; of more, the best


def write_report(study: "Study", sweep: Sweep, folder: Path) -> None:
    """Write the page of a sweep, and the configuration of its best trial, into its folder."""
    trials = [trial for trial in trials_of(study) if trial.state.name != "WAITING"]
    best = best_trial(trials, sweep)
    counts = Counter(trial.state.name for trial in trials)
    lead = f"{counts['COMPLETE']} trials finished, {counts['PRUNED']} pruned, {counts['FAIL']} failed; "
    lead += f"{'most' if sweep.maximize else 'least'} {sweep.metric}, by {sweep.method}; {sweep.path}"
    sections = []
    (folder / BEST).unlink(missing_ok=True)
    if best:
        _write_best(folder, best)
        sections.append(("Best trial", _best(best, sweep, folder)))
    if counts["COMPLETE"] > 1:
        sections += [(heading, figure_html(figure)) for heading, figure in _plots(study, sweep)]
    groups = _groups(trials, sweep, folder, best)
    for metric in dict.fromkeys((sweep.metric, metrics.TRAIN_NLL)):
        if figure := curves(groups, metric):
            sections.append((f"{metric} of all trials", figure_html(figure, 520)))
    sections.append(("Trials", _table(trials, sweep, folder, best)))
    write_page(folder / REPORT, f"Sweep {folder.name}", lead, sections)


def _write_best(folder: Path, best: "FrozenTrial") -> None:
    """The resolved configuration of the best trial's run, without what makes it that run."""
    try:
        config = Run(folder / run_of(best)).config
    except InputError as error:  # the folder was removed, say
        print(f"{error}: there is no {folder / BEST}")
        return
    config |= {"experiment": f"{folder.name}_best", "run": None, "logs": "logs"}
    config |= {"auto_resume": False, "ckpt_path": None}
    config["trainer"] |= {"default_root_dir": None, "enable_progress_bar": None}
    header = f"# The best configuration of {folder}: {run_of(best)}, {best.value:.4f}\n"
    header += f'# make train ARGS="--config {folder / BEST}"\n'
    write_text(folder / BEST, header + yaml.safe_dump(config, sort_keys=False))


def _best(best: "FrozenTrial", sweep: Sweep, folder: Path) -> str:
    values, run = sweep.values_of(best.params), run_of(best)
    rows = [
        *values.items(),
        (sweep.metric, f"{best.value:.5f}"),
        ("run", link(folder / run, run, folder / REPORT)),
    ]
    words = {sys.executable: ["python"], "/usr/bin/env": []}
    given = [word for word in sweep.command_of(values) if not word.startswith("--trainer.logger=")]
    command = [part for word in given for part in words.get(word, [word])]
    command.append(f"--trainer.logger={LOGGER}")  # as the trial had it
    commands = f'make train ARGS="--config {quote(str(folder / BEST))}"\n{join(command)}'
    return table_html(["option", "value"], rows) + code(commands)


def _plots(study: "Study", sweep: Sweep) -> Iterator[tuple[str, "Figure"]]:
    """Optuna's own figures of the trials that have finished."""
    import optuna
    from optuna import visualization

    numbered = optuna.create_study(direction=study.direction)  # by slots, as the table of trials
    for trial in map(copy, trials_of(study)):
        known = [each for each in sweep.parameters if each.short in trial.params]
        trial.params = {each.short: each.rounded(trial.params[each.short]) for each in known}
        numbered.add_trial(trial)
    study, metric = numbered, sweep.metric
    done = [trial.params for trial in study.trials if trial.state.name == "COMPLETE"]
    varied = [name for name in done[0] if len({params[name] for params in done}) > 1]
    yield "History", visualization.plot_optimization_history(study, target_name=metric)
    if len(varied) > 1:
        figure = visualization.plot_parallel_coordinate(study, params=varied, target_name=metric)
        figure.update_layout(plot_bgcolor="#e3e8ee")  # on which the palest line is seen
        yield "Parallel coordinates", figure
    if varied and len(done) >= _ENOUGH and (figure := _importance(study, varied, metric)):
        yield "Importance: what tells the best trials from the others (PED-ANOVA)", figure
    for first in range(0, len(varied), _SLICES):
        figure = visualization.plot_slice(study, params=varied[first : first + _SLICES], target_name=metric)
        figure.update_traces({"marker": {"colorscale": "Viridis"}}, selector={"mode": "markers"})
        yield "Slices", figure


def _importance(study: "Study", varied: list[str], metric: str) -> "Figure | None":
    """Optuna's figure; `None` where it finds nothing to tell the options by, as all values are equal."""
    from optuna.exceptions import OptunaError
    from optuna.importance import PedAnovaImportanceEvaluator
    from optuna.visualization import plot_param_importances

    evaluator = PedAnovaImportanceEvaluator()
    with warnings.catch_warnings(), suppress(ValueError, RuntimeError, OptunaError):
        warnings.simplefilter("ignore", UserWarning)  # of few trials
        return plot_param_importances(study, evaluator=evaluator, params=varied, target_name=metric)


def _groups(
    trials: list["FrozenTrial"], sweep: Sweep, folder: Path, best: "FrozenTrial | None"
) -> list[Group]:
    found = []
    for trial in trials:
        run = Run(folder / run_of(trial))
        if not run.is_readable:
            continue  # it failed before it was a run
        label = f"{trial.user_attrs[SLOT]}: {sweep.label_of(trial.params)}"
        label = f"best, {label}" if trial is best else label
        found.append(Group(label, (run,), len(trials) > _LABELLED and trial is not best))
    return sorted(found, key=lambda group: not group.is_faint)  # the best is drawn over the others


def _table(trials: list["FrozenTrial"], sweep: Sweep, folder: Path, best: "FrozenTrial | None") -> str:
    sign = -1 if sweep.maximize else 1
    rows, classes = [], []
    for trial in sorted(
        trials, key=lambda t: (t.state.name != "COMPLETE", sign * (t.value or 0), t.user_attrs[SLOT])
    ):
        run, shown = run_of(trial), sweep.shown(trial.params)
        cells = [link(folder / run, run, folder / REPORT) if (folder / run).is_dir() else run]
        cells += [shown.get(each.short, "") for each in sweep.varying]
        cells.append(f"{trial.value:.5f}" if trial.state.name == "COMPLETE" else "")
        rows.append([*cells, f"{seconds_of(trial):.0f}", trial.state.name.lower(), reason_of(trial)])
        style = {"FAIL": "failed", "PRUNED": "pruned"}.get(trial.state.name, "")
        classes.append("best" if trial is best else style)
    names = [each.short for each in sweep.varying]
    header = ["trial", *names, sweep.metric, "seconds", "state", "reason"]
    return table_html(header, rows, classes)
