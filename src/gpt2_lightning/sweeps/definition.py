"""A sweep's file, in W&B's own format, checked before anything runs."""

import json
import math
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from gpt2_lightning import metrics
from gpt2_lightning.errors import InputError
from gpt2_lightning.files.yaml_file import read_mapping
from gpt2_lightning.runs.settings import short_names
from gpt2_lightning.sweeps.space import Parameter, check_fields, parameters_of

Method = Literal["grid", "random", "bayes"]

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
    method: Method
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
        return tuple(parameter for parameter in self.parameters if not parameter.is_constant)

    @property
    def size(self) -> float:
        """Number of points; infinity where they cannot be counted."""
        return math.prod(len(each.choices) if each.choices else math.inf for each in self.parameters)

    def label_of(self, values: dict[str, Any]) -> str:
        """What tells a trial from the others, short.

        Args:
            values: of the parameters, by name.
        """
        names = short_names(parameter.name for parameter in self.varying)
        known = [parameter for parameter in self.varying if parameter.name in values]
        return " ".join(f"{names[each.name]}={each.shown(values[each.name])}" for each in known)

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
    check_fields(path, "", content, _FIELDS)
    method = content.get("method")
    if method not in ("grid", "random", "bayes"):
        raise InputError(f"{path}: method: {method!r} is none; there are: grid, random, bayes")
    metric, maximize = _metric(path, content.get("metric"))
    parameters = parameters_of(path, content.get("parameters"))
    if method == "grid":
        for parameter in parameters:
            if parameter.choices is None:
                raise InputError(
                    f"{path}: parameters.{parameter.name}: a grid needs values; list them (values: [...]), "
                    "or take method: random or bayes"
                )
    return Sweep(
        path=path,
        method=cast(Method, method),
        metric=metric,
        maximize=maximize,
        parameters=parameters,
        hyperband=_hyperband(path, content.get("early_terminate"), metric),
        program=_program(path, content.get("program", "train.py")),
        command=_command(path, content.get("command")),
        run_cap=_whole(path, "run_cap", content["run_cap"]) if "run_cap" in content else None,
        text=json.dumps({name: content.get(name) for name in _DECISIVE}, sort_keys=True, default=str),
    )


def _metric(path: Path, metric: Any) -> tuple[str, bool]:
    if not isinstance(metric, dict) or not isinstance(metric.get("name"), str):
        raise InputError(
            f"{path}: metric: a name and a goal are needed, as {{name: val/nll, goal: minimize}}"
        )
    check_fields(path, "metric.", metric, {"name", "goal", "target"})
    if metric["name"] not in metrics.NAMES:
        raise InputError(
            f"{path}: metric.name: no run writes {metric['name']!r}; there are: {', '.join(metrics.NAMES)}"
        )
    goal = metric.get("goal", "minimize")
    if goal not in ("minimize", "maximize"):
        raise InputError(f"{path}: metric.goal: {goal!r} is none; there are: minimize, maximize")
    return metric["name"], goal == "maximize"


def _hyperband(path: Path, given: Any, metric: str) -> dict[str, int] | None:
    if given is None:
        return None
    if not isinstance(given, dict) or given.get("type") != "hyperband":
        raise InputError(f"{path}: early_terminate.type: must be hyperband, the one that W&B has")
    if not metric.startswith(metrics.VAL_PREFIX):
        raise InputError(
            f"{path}: early_terminate: {metric} is not measured at validations; take one of val/"
        )
    check_fields(path, "early_terminate.", given, {"type", "min_iter", "max_iter", "s", "eta", "strict"})
    if "min_iter" not in given and "max_iter" not in given:
        raise InputError(f"{path}: early_terminate: min_iter or max_iter is needed, in validations")
    least = {"min_iter": 1, "max_iter": given.get("min_iter", 1), "s": 1, "eta": 2}
    return {
        name: _whole(path, f"early_terminate.{name}", given[name], most)
        for name, most in least.items()
        if name in given
    }


def _whole(path: Path, field: str, value: Any, least: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(f"{path}: {field}: {value!r} is no whole number from {least}")
    return value


def _program(path: Path, program: Any) -> str:
    if not isinstance(program, str) or not Path(program).is_file():
        raise InputError(f"{path}: program: {program!r} is no file here; start the sweep where train.py lies")
    return program


def _command(path: Path, command: Any) -> tuple[str, ...]:
    words = tuple(map(str, command)) if isinstance(command, list) else ()
    if "${args}" not in words:
        raise InputError(
            f"{path}: command: a list with ${{args}} in it is needed, which a trial's options fill; as "
            "[${env}, ${interpreter}, ${program}, fit, ${args}]"
        )
    if "${program}" not in words or words[words.index("${program}") + 1 :][:1] != ("fit",):
        raise InputError(f"{path}: command: ${{program}} and then fit are needed in it")
    known = {"${env}", "${interpreter}", "${program}", "${args}"}
    for word in words:
        if word.startswith("${") and word not in known and not _ENVIRONMENT.fullmatch(word):
            raise InputError(
                f"{path}: command: {word} is not known here; there are: {', '.join(sorted(known))}"
            )
    return words
