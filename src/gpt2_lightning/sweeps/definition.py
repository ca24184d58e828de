"""A sweep's file, in W&B's own format, checked before anything runs."""

import json
import math
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2_lightning import metrics
from gpt2_lightning.errors import InputError
from gpt2_lightning.files.yaml_file import read_mapping
from gpt2_lightning.sweeps.space import Parameter, check_fields, parameters_of

_FIELDS = {"name", "description", "program", "method", "metric", "parameters", "early_terminate", "command"}
_FIELDS |= {"project", "entity", "run_cap"}
_DECISIVE = ("method", "metric", "parameters", "command", "program")
_ENVIRONMENT = re.compile(r"\$\{envvar:(\w*)\}")


@dataclass(frozen=True)
class Sweep:
    """What a sweep's file says.

    Attributes:
        path: of the file.
        method: how configurations are chosen.
        metric: its name among those that runs record.
        maximize: whether more of it is better.
        parameters: what varies, and what is fixed for all trials.
        hyperband: the settings of early termination; `None` without.
        program: the script that trains.
        command: what starts a trial, with W&B's macros.
        run_cap: most trials; `None` if the file does not say.
        text: what decides the trials, as JSON.
    """

    path: Path
    method: str
    metric: str
    maximize: bool
    parameters: tuple[Parameter, ...]
    hyperband: dict[str, int] | None
    program: str
    command: tuple[str, ...]
    run_cap: int | None
    text: str

    @property
    def varying(self) -> tuple[Parameter, ...]:
        """The parameters that have more than one value."""
        return tuple(parameter for parameter in self.parameters if not parameter.distribution.single())

    @property
    def size(self) -> float:
        """Number of points; infinity where they cannot be counted."""
        return math.prod(len(each.points) if each.points else math.inf for each in self.parameters)

    def shown(self, sampled: dict[str, Any]) -> dict[str, str]:
        """What tells a trial from the others, as words by short names; nothing of what is not sampled yet."""
        return {each.short: each.shown(sampled[each.short]) for each in self.varying if each.short in sampled}

    def label_of(self, sampled: dict[str, Any]) -> str:
        """The same in one line."""
        return " ".join(f"{short}={word}" for short, word in self.shown(sampled).items())

    def values_of(self, sampled: dict[str, Any]) -> dict[str, Any]:
        """The options' values of what Optuna has sampled, by the options' names in the file's order."""
        return {each.name: each.value(sampled[each.short]) for each in self.parameters}

    def command_of(self, values: dict[str, Any]) -> list[str]:
        """The command of a trial, as a W&B agent would call it.

        Args:
            values: of the parameters, by name.
        """
        arguments = [f"--{name}={_shown(value)}" for name, value in values.items()]
        macros = {
            "${env}": ["/usr/bin/env"],
            "${interpreter}": [sys.executable],
            "${program}": [self.program],
            "${args}": arguments,
        }
        words: list[str] = []
        for word in self.command:
            words += macros.get(word) or [_ENVIRONMENT.sub(lambda m: os.environ.get(m[1], m[1]), word)]
        return words


def _shown(value: Any) -> str:
    """As W&B writes it, but for what would be read as the word None."""
    return "null" if value is None else str(value)


def read(path: Path) -> Sweep:
    """A sweep's file.

    Raises:
        InputError: naming the file, the field, and what it should be.
    """
    content = read_mapping(path, "sweep: the fields method, metric and parameters are needed")
    try:
        check_fields("", content, _FIELDS)
        method = content.get("method")
        if method not in ("grid", "random", "bayes"):
            raise ValueError(f"method: {method!r} is none; there are: grid, random, bayes")
        metric, maximize = _metric(content.get("metric"))
        parameters = parameters_of(content.get("parameters"))
        for each in parameters if method == "grid" else ():
            if each.points is None:
                needed = "a grid needs values; list them (values: [...]), or take method: random or bayes"
                raise ValueError(f"parameters.{each.name}: {needed}")
        return Sweep(
            path=path,
            method=method,
            metric=metric,
            maximize=maximize,
            parameters=parameters,
            hyperband=_hyperband(content.get("early_terminate"), metric),
            program=_program(content.get("program", "train.py")),
            command=_command(content.get("command")),
            run_cap=_whole("run_cap", content["run_cap"]) if "run_cap" in content else None,
            text=json.dumps({name: content.get(name) for name in _DECISIVE}, sort_keys=True, default=str),
        )
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None


def _metric(metric: Any) -> tuple[str, bool]:
    if not isinstance(metric, dict) or not isinstance(metric.get("name"), str):
        raise ValueError("metric: a name and a goal are needed, as {name: val/nll, goal: minimize}")
    check_fields("metric.", metric, {"name", "goal", "target"})
    name, goal = metric["name"], metric.get("goal", "minimize")
    if name not in metrics.NAMES:
        raise ValueError(f"metric.name: no run writes {name!r}; there are: {', '.join(metrics.NAMES)}")
    if goal not in ("minimize", "maximize"):
        raise ValueError(f"metric.goal: {goal!r} is none; there are: minimize, maximize")
    return name, goal == "maximize"


def _hyperband(given: Any, metric: str) -> dict[str, int] | None:
    if given is None:
        return None
    if not isinstance(given, dict) or given.get("type") != "hyperband":
        raise ValueError("early_terminate.type: must be hyperband, the one that W&B has")
    if not metric.startswith(metrics.VAL_PREFIX):
        raise ValueError(f"early_terminate: {metric} is not measured at validations; take one of val/")
    least = {"min_iter": 1, "max_iter": given.get("min_iter", 1), "s": 1, "eta": 2}
    check_fields("early_terminate.", given, {"type", "strict", *least})
    if "min_iter" not in given and "max_iter" not in given:
        raise ValueError("early_terminate: min_iter or max_iter is needed, in validations")
    known = [name for name in least if name in given]
    return {name: _whole(f"early_terminate.{name}", given[name], least[name]) for name in known}


def _whole(field: str, value: Any, least: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{field}: {value!r} is no whole number from {least}")
    return value


def _program(program: Any) -> str:
    if not isinstance(program, str) or not Path(program).is_file():
        raise ValueError(f"program: {program!r} is no file here; start the sweep where train.py lies")
    return program


def _command(command: Any) -> tuple[str, ...]:
    words = tuple(map(str, command)) if isinstance(command, list) else ()
    if "${args}" not in words:
        raise ValueError(
            "command: a list with ${args} in it is needed, which a trial's options fill; as "
            "[${env}, ${interpreter}, ${program}, fit, ${args}]"
        )
    if "${program}" not in words or words[words.index("${program}") + 1 :][:1] != ("fit",):
        raise ValueError("command: ${program} and then fit are needed in it")
    known = {"${env}", "${interpreter}", "${program}", "${args}"}
    for word in words:
        if word.startswith("${") and word not in known and not _ENVIRONMENT.fullmatch(word):
            raise ValueError(f"command: {word} is not known here; there are: {', '.join(sorted(known))}")
    return words
