"""The parameters of a sweep: W&B's distributions as what Optuna samples."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from gpt2_lightning.errors import InputError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_EDGE = 1e-6  # of the quantiles of distributions without ends
_MOST_VALUES = 1000  # of a range in a grid


@dataclass(frozen=True)
class Parameter:
    """One option of the command line, and what it may be.

    Optuna samples a number, or the number of a choice; `value` makes the option's value of it.

    Attributes:
        name: of the option, with dots.
        sampled: what Optuna samples from.
        value: the option's value of what was sampled.
        choices: all values, where they can be counted.
        is_log: whether the values are shown on a logarithmic axis.
    """

    name: str
    sampled: "BaseDistribution"
    value: Callable[[Any], Any]
    choices: tuple[Any, ...] | None = None
    is_log: bool = False

    @property
    def is_constant(self) -> bool:
        """Whether there is one value only."""
        return self.choices is not None and len(self.choices) == 1

    def example(self, place: float) -> Any:
        """One of the values.

        Args:
            place: from 0 (the first, or least) to 1 (the last, or most).
        """
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if isinstance(self.sampled, CategoricalDistribution):
            return self.value(round(place * (len(self.sampled.choices) - 1)))
        assert isinstance(self.sampled, FloatDistribution | IntDistribution)
        number = self.sampled.low + place * (self.sampled.high - self.sampled.low)
        return self.value(round(number) if isinstance(self.sampled, IntDistribution) else number)

    @property
    def grid(self) -> tuple[Any, ...]:
        """What is sampled for each of the choices."""
        from optuna.distributions import CategoricalDistribution

        assert self.choices is not None
        is_numbered = isinstance(self.sampled, CategoricalDistribution)
        return tuple(range(len(self.choices))) if is_numbered else self.choices

    def shown(self, value: Any) -> str:
        """One of the values, short: of a path the file's name, where that tells it from the others."""
        if isinstance(value, float):
            return f"{value:.3g}"
        stems = [_stem(choice) for choice in self.choices or ()]
        return _stem(value) if len(set(stems)) == len(stems) else str(value)


def _stem(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_stem, value))
    return value.rpartition("/")[2].removesuffix(".yaml") if isinstance(value, str) else str(value)


def parameters_of(path: Path, given: Any) -> tuple[Parameter, ...]:
    """The parameters of a sweep's file; nested ones get names with dots.

    Args:
        path: of the file, for messages.
        given: its field `parameters`.

    Raises:
        InputError: naming the parameter and what is wrong with it.
    """
    if not isinstance(given, dict) or not given:
        raise InputError(
            f"{path}: parameters: is {'no mapping' if given else 'empty'}; name options of train.py, each "
            "with values or a range"
        )
    found = tuple(_parameter(path, name, settings) for name, settings in _flat(path, "", given))
    if all(parameter.is_constant for parameter in found):
        raise InputError(f"{path}: parameters: nothing varies; give one of them several values or a range")
    return found


def _flat(path: Path, prefix: str, given: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, settings in given.items():
        if not isinstance(settings, dict):
            raise InputError(
                f"{path}: parameters.{prefix}{name}: value, values, or min and max are needed, as {{value: "
                f"{settings}}}"
            )
        if isinstance(settings.get("parameters"), dict):
            yield from _flat(path, f"{prefix}{name}.", settings["parameters"])
        else:
            yield f"{prefix}{name}", settings


def check_fields(path: Path, place: str, given: dict[Any, Any], known: set[str]) -> None:
    """Refuse a field that is none; the message names the file and the field's place in it."""
    if unknown := sorted(map(str, given.keys() - known)):
        raise InputError(f"{path}: {place}{unknown[0]}: no such field; there are: {', '.join(sorted(known))}")


def _parameter(path: Path, name: str, settings: dict[str, Any]) -> Parameter:
    kind = settings.get("distribution") or _implied(settings)
    if not isinstance(kind, str) or kind not in _KINDS:
        raise InputError(
            f"{path}: parameters.{name}: "
            + (f"distribution {kind!r} is none" if kind else "value, values, or min and max are needed")
            + f"; there are: {', '.join(_KINDS)}"
        )
    known = _FIELDS.get(kind.removeprefix("q_"), {"min", "max"}) | ({"q"} if kind.startswith("q_") else set())
    check_fields(path, f"parameters.{name}.", settings, known | {"distribution"})
    try:
        return _KINDS[kind](name, settings)
    except KeyError as missing:
        raise InputError(f"{path}: parameters.{name}: {kind} needs the field {missing.args[0]}") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: parameters.{name}: {error}") from None


def _implied(settings: dict[str, Any]) -> str | None:
    """The distribution where none is named, as W&B finds it."""
    if "value" in settings:
        return "constant"
    if "values" in settings:
        return "categorical"
    ends = [settings.get("min"), settings.get("max")]
    if None in ends:
        return None
    return "int_uniform" if all(isinstance(end, int) for end in ends) else "uniform"


def _chosen(name: str, values: Any) -> Parameter:
    from optuna.distributions import CategoricalDistribution

    if not isinstance(values, list) or not values:
        raise ValueError("values: a list of at least one is needed")
    if not all(isinstance(value, int | float | str | list | dict | None) for value in values):
        raise ValueError("values: numbers, words, true, false, null, and lists of them are allowed")
    if len(set(map(repr, values))) < len(values):
        raise ValueError("values: one of them stands there twice")
    return Parameter(
        name, CategoricalDistribution(range(len(values))), values.__getitem__, choices=tuple(values)
    )


def _constant(name: str, settings: dict[str, Any]) -> Parameter:
    return _chosen(name, [settings["value"]])


def _categorical(name: str, settings: dict[str, Any]) -> Parameter:
    if "probabilities" in settings:
        raise ValueError("probabilities: Optuna has none; leave them out")
    return _chosen(name, settings["values"])


def _int_uniform(name: str, settings: dict[str, Any]) -> Parameter:
    from optuna.distributions import IntDistribution

    low, high = _ends(settings)
    if not (float(low).is_integer() and float(high).is_integer()):
        raise ValueError("min and max: whole numbers are needed")
    low, high = int(low), int(high)
    choices = tuple(range(low, high + 1)) if high - low < _MOST_VALUES else None
    return Parameter(name, IntDistribution(low, high), int, choices)


def _ends(settings: dict[str, Any]) -> tuple[float, float]:
    low, high = float(settings["min"]), float(settings["max"])
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"min {settings['min']} must not be above max {settings['max']}")
    return low, high


def _ranged(change: Callable[[float], float], is_log: bool, logarithmic: bool) -> Callable[..., Parameter]:
    """A distribution between two ends, of which `change` makes the value.

    Args:
        change: of what was sampled.
        is_log: whether values spread over orders of magnitude.
        logarithmic: whether the sampled number does.
    """

    def make(name: str, settings: dict[str, Any]) -> Parameter:
        from optuna.distributions import FloatDistribution

        low, high = _ends(settings)
        if change is _inverse and logarithmic:  # its ends are those of the value
            low, high = 1 / high, 1 / low
        return _stepped(name, settings, FloatDistribution(low, high, log=logarithmic), change, is_log)

    return make


def _stepped(
    name: str,
    settings: dict[str, Any],
    sampled: "BaseDistribution",
    change: Callable[[Any], float],
    is_log: bool,
) -> Parameter:
    """The values of a distribution, in multiples of `q` where it has one."""
    if "distribution" not in settings or not settings["distribution"].startswith("q_"):
        return Parameter(name, sampled, change, is_log=is_log)
    q = float(settings.get("q", 1))
    if not q > 0:
        raise ValueError(f"q {q} must be above 0")

    def value(number: Any) -> float:
        stepped = round(change(number) / q) * q
        return int(stepped) if q.is_integer() else float(f"{stepped:.12g}")

    choices = None
    if settings["distribution"] == "q_uniform":
        low, high = _ends(settings)
        if (high - low) / q < _MOST_VALUES and math.isclose(low / q, round(low / q)):
            choices = tuple(dict.fromkeys(map(value, np.arange(low, high + q / 2, q).tolist())))
    return Parameter(name, sampled, value, choices, is_log)


def _quantiles(quantile: Callable[[dict[str, Any], float], float], is_log: bool) -> Callable[..., Parameter]:
    """A distribution without ends, by its quantile function."""

    def make(name: str, settings: dict[str, Any]) -> Parameter:
        from optuna.distributions import FloatDistribution

        quantile(settings, 0.5)  # looks at the fields
        sampled = FloatDistribution(_EDGE, 1 - _EDGE)
        return _stepped(name, settings, sampled, lambda share: quantile(settings, share), is_log)

    return make


def _normal(settings: dict[str, Any], share: float) -> float:
    sigma = float(settings.get("sigma", 1))
    if not sigma > 0:
        raise ValueError(f"sigma {sigma} must be above 0")
    return NormalDist(float(settings.get("mu", 0)), sigma).inv_cdf(share)


def _log_normal(settings: dict[str, Any], share: float) -> float:
    return math.exp(_normal(settings, share))


def _beta(settings: dict[str, Any], share: float) -> float:
    """By the integral of the density on a fine grid, which is right to four digits."""
    a, b = float(settings.get("a", 1)), float(settings.get("b", 1))
    if not (a > 0 and b > 0):
        raise ValueError(f"a {a} and b {b} must be above 0")
    angle = np.linspace(0, math.pi / 2, 20_001)[1:-1]  # x = sin², whose density has no poles for a, b ≥ 1/2
    density = np.sin(angle) ** (2 * a - 1) * np.cos(angle) ** (2 * b - 1)
    total = density.cumsum()
    return float(np.sin(np.interp(share * total[-1], total, angle)) ** 2)


def _same(number: float) -> float:
    return number


def _inverse(number: float) -> float:
    return 1 / number


def _inverse_exponential(number: float) -> float:
    return math.exp(-number)


_FIELDS = {
    "constant": {"value"},
    "categorical": {"values", "probabilities"},
    "normal": {"mu", "sigma"},
    "log_normal": {"mu", "sigma"},
    "beta": {"a", "b"},
}  # of those that have others than `min` and `max`
_KINDS: dict[str, Callable[..., Parameter]] = {
    "constant": _constant,
    "categorical": _categorical,
    "int_uniform": _int_uniform,
    "uniform": _ranged(_same, is_log=False, logarithmic=False),
    "q_uniform": _ranged(_same, is_log=False, logarithmic=False),
    "log_uniform": _ranged(math.exp, is_log=True, logarithmic=False),
    "q_log_uniform": _ranged(math.exp, is_log=True, logarithmic=False),
    "inv_log_uniform": _ranged(_inverse_exponential, is_log=True, logarithmic=False),
    "log_uniform_values": _ranged(_same, is_log=True, logarithmic=True),
    "q_log_uniform_values": _ranged(_same, is_log=True, logarithmic=True),
    "inv_log_uniform_values": _ranged(_inverse, is_log=True, logarithmic=True),
    "normal": _quantiles(_normal, is_log=False),
    "q_normal": _quantiles(_normal, is_log=False),
    "log_normal": _quantiles(_log_normal, is_log=True),
    "q_log_normal": _quantiles(_log_normal, is_log=True),
    "beta": _quantiles(_beta, is_log=False),
    "q_beta": _quantiles(_beta, is_log=False),
}
