"""What a sweep came to: `report.html`, and `best.yaml`, which trains the best configuration again."""

import sys
import warnings
from contextlib import suppress
from pathlib import Path
from shlex import join, quote
from typing import TYPE_CHECKING, Any

import yaml

from gpt2_lightning import metrics
from gpt2_lightning.errors import InputError
from gpt2_lightning.files.whole import write_text
from gpt2_lightning.files.yaml_file import read_mapping
from gpt2_lightning.runs.curves import Group, curves
from gpt2_lightning.runs.page import code, figure_html, link, table_html, write_page
from gpt2_lightning.runs.run import Run
from gpt2_lightning.runs.settings import short_names
from gpt2_lightning.sweeps.assignment import quiet_optuna
from gpt2_lightning.sweeps.definition import Sweep
from gpt2_lightning.sweeps.progress import best_trial, seconds_of
from gpt2_lightning.sweeps.space import Parameter
from gpt2_lightning.sweeps.study import RUN, SLOT, VALUES, reason_of, trials_of
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
    """Write the page of a sweep, and the configuration of its best trial.

    Args:
        study: of the sweep.
        sweep: its file.
        folder: of the sweep, with the runs of its trials.
    """
    trials = [trial for trial in trials_of(study) if trial.state.name != "WAITING"]
    best = best_trial(trials, sweep)
    counts = {
        state: sum(trial.state.name == state for trial in trials) for state in ("COMPLETE", "PRUNED", "FAIL")
    }
    lead = f"{counts['COMPLETE']} trials finished, {counts['PRUNED']} pruned, {counts['FAIL']} failed; "
    lead += f"{'most' if sweep.maximize else 'least'} {sweep.metric}, by {sweep.method}; {sweep.path}"
    sections = []
    (folder / BEST).unlink(missing_ok=True)
    if best:
        _write_best(folder, best)
        sections.append(("Best trial", _best(best, sweep, folder)))
    sections += _plots(trials, sweep)
    if figure := curves(_groups(trials, sweep, folder, best), sweep.metric):
        sections.append((f"{sweep.metric} of all trials", figure_html(figure, 520)))
    if sweep.metric != metrics.TRAIN_NLL and (
        figure := curves(_groups(trials, sweep, folder, best), metrics.TRAIN_NLL)
    ):
        sections.append((f"{metrics.TRAIN_NLL} of all trials", figure_html(figure, 520)))
    sections.append(("Trials", _table(trials, sweep, folder, best)))
    write_page(folder / REPORT, f"Sweep {folder.name}", lead, sections)


def _write_best(folder: Path, best: "FrozenTrial") -> None:
    """The resolved configuration of the best trial's run, without what makes it that run."""
    try:
        config = read_mapping(folder / best.user_attrs[RUN] / "config.yaml", "configuration")
    except InputError as error:  # the folder was removed, say
        print(f"{error}: there is no {folder / BEST}")
        return
    config |= {"experiment": f"{folder.name}_best", "run": None, "logs": "logs"}
    config |= {"auto_resume": False, "ckpt_path": None}
    config["trainer"] |= {"default_root_dir": None, "enable_progress_bar": None}
    header = f"# The best configuration of {folder}: {best.user_attrs[RUN]}, {best.value:.4f}\n"
    header += f'# make train ARGS="--config {folder / BEST}"\n'
    write_text(folder / BEST, header + yaml.safe_dump(config, sort_keys=False))


def _best(best: "FrozenTrial", sweep: Sweep, folder: Path) -> str:
    values = best.user_attrs[VALUES]
    rows = list(values.items())
    rows.append((sweep.metric, f"{best.value:.5f}"))
    rows.append(("run", link(folder / best.user_attrs[RUN], best.user_attrs[RUN], folder / REPORT)))
    words = {sys.executable: ["python"], "/usr/bin/env": []}
    given = [word for word in sweep.command_of(values) if not word.startswith("--trainer.logger=")]
    command = [part for word in given for part in words.get(word, [word])]
    command.append(f"--trainer.logger={LOGGER}")  # as the trial had it
    commands = f'make train ARGS="--config {quote(str(folder / BEST))}"\n{join(command)}'
    return table_html(["option", "value"], rows) + code(commands)


def _plots(trials: list["FrozenTrial"], sweep: Sweep) -> list[tuple[str, str]]:
    """Optuna's own figures of the finished trials, of values instead of what was sampled for them."""
    from optuna import visualization

    done = [trial for trial in trials if trial.state.name == "COMPLETE"]
    if len(done) < 2:
        return []
    study = _shown_study(trials, done, sweep)
    shown_trials = [trial for trial in study.trials if trial.value is not None]
    names = shown_trials[0].params
    varied = [name for name in names if len({str(trial.params[name]) for trial in shown_trials}) > 1]
    name = sweep.metric
    found = [("History", visualization.plot_optimization_history(study, target_name=name))]
    if len(varied) > 1:
        figure = visualization.plot_parallel_coordinate(study, params=varied, target_name=name)
        figure.update_layout(plot_bgcolor="#e3e8ee")  # on which the palest line is seen
        found.append(("Parallel coordinates", figure))
    if varied and len(done) >= _ENOUGH and (figure := _importance(study, varied, name)):
        found.append(("Importance: what tells the best trials from the others (PED-ANOVA)", figure))
    for first in range(0, len(varied), _SLICES):
        some = varied[first : first + _SLICES]
        figure = visualization.plot_slice(study, params=some, target_name=name)
        figure.update_traces({"marker": {"colorscale": "Viridis"}}, selector={"mode": "markers"})
        found.append(("Slices", figure))
    return [(heading, figure_html(figure)) for heading, figure in found]


def _importance(study: "Study", varied: list[str], metric: str) -> "Figure | None":
    """Optuna's figure; `None` where it finds nothing to tell the options by, as all values are equal."""
    from optuna.exceptions import OptunaError
    from optuna.importance import PedAnovaImportanceEvaluator
    from optuna.visualization import plot_param_importances

    evaluator = PedAnovaImportanceEvaluator()
    with warnings.catch_warnings(), suppress(ValueError, RuntimeError, OptunaError):
        warnings.simplefilter("ignore", UserWarning)  # of few trials
        return plot_param_importances(study, evaluator=evaluator, params=varied, target_name=metric)


def _shown_study(trials: list["FrozenTrial"], done: list["FrozenTrial"], sweep: Sweep) -> "Study":
    """The trials under their numbers, with the values of the options under short names."""
    import optuna
    from optuna.trial import TrialState

    quiet_optuna()
    study = optuna.create_study(direction="maximize" if sweep.maximize else "minimize")
    names = short_names(parameter.name for parameter in sweep.varying)
    columns = [(each, [trial.user_attrs[VALUES][each.name] for trial in done]) for each in sweep.varying]
    axes = {names[each.name]: _axis(each, given) for each, given in columns}
    finished = {trial.user_attrs[SLOT]: number for number, trial in enumerate(done)}
    for slot in range(1 + max(trial.user_attrs[SLOT] for trial in trials)):
        if (number := finished.get(slot)) is None:
            study.add_trial(optuna.create_trial(state=TrialState.FAIL))
            continue
        params = {
            (name := names[each.name]): given[number]
            if hasattr(axes[name], "low")
            else each.shown(given[number])
            for each, given in columns
        }
        value = done[number].value
        study.add_trial(optuna.create_trial(params=params, distributions=axes, value=value))
    return study


def _axis(parameter: Parameter, given: list[Any]) -> Any:
    """An axis for values: of numbers, or of words."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in given):
        return CategoricalDistribution(list(dict.fromkeys(map(parameter.shown, parameter.choices or given))))
    return FloatDistribution(
        min(given), max(given), log=min(given) > 0 and (parameter.is_log or _is_ladder(parameter))
    )


def _is_ladder(parameter: Parameter) -> bool:
    """Whether the values were listed, over more than one order of magnitude."""
    values = parameter.choices or ()
    return 0 < len(values) <= _LABELLED and min(values) > 0 and max(values) >= 10 * min(values)


def _groups(
    trials: list["FrozenTrial"], sweep: Sweep, folder: Path, best: "FrozenTrial | None"
) -> list[Group]:
    found = []
    for trial in trials:
        try:
            run = Run(folder / trial.user_attrs[RUN])
            assert run.summary
            assert run.rows
        except (InputError, KeyError):
            continue  # it failed before it was a run
        label = f"{trial.user_attrs[SLOT]}: {sweep.label_of(trial.user_attrs[VALUES])}"
        label = f"best, {label}" if trial is best else label
        found.append(Group(label, (run,), len(trials) > _LABELLED and trial is not best))
    return sorted(found, key=lambda group: not group.is_faint)  # the best is drawn over the others


def _table(trials: list["FrozenTrial"], sweep: Sweep, folder: Path, best: "FrozenTrial | None") -> str:
    header = [
        "trial",
        *short_names(parameter.name for parameter in sweep.varying).values(),
        sweep.metric,
        "seconds",
        "state",
        "reason",
    ]
    sign = -1 if sweep.maximize else 1
    ordered = sorted(
        trials, key=lambda t: (t.state.name != "COMPLETE", sign * (t.value or 0), t.user_attrs[SLOT])
    )
    rows, classes = [], []
    for trial in ordered:
        values: dict[str, Any] = trial.user_attrs.get(VALUES, {})
        run = trial.user_attrs.get(RUN)
        cells = [link(folder / run, run, folder / REPORT) if run and (folder / run).is_dir() else run or ""]
        cells += [each.shown(values[each.name]) if each.name in values else "" for each in sweep.varying]
        value = trial.value if trial.state.name == "COMPLETE" else None
        cells += [
            "" if value is None else f"{value:.5f}",
            f"{seconds_of(trial):.0f}",
            trial.state.name.lower(),
        ]
        cells.append(reason_of(trial))
        rows.append(cells)
        classes.append(
            "best" if trial is best else {"FAIL": "failed", "PRUNED": "pruned"}.get(trial.state.name, "")
        )
    return table_html(header, rows, classes)
