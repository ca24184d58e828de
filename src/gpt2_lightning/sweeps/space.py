"""The parameters of a sweep: W&B's distributions as Optuna's own."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from gpt2_lightning.runs.settings import short_names

if TYPE_CHECKING:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

_MOST_POINTS = 1000  # of a range that is counted
_FIELDS = {
    "constant": {"value"},
    "categorical": {"values", "probabilities"},
    "int_uniform": {"min", "max"},
    "uniform": {"min", "max"},
    "q_uniform": {"min", "max", "q"},
    "log_uniform_values": {"min", "max"},
    "q_log_uniform_values": {"min", "max", "q"},
}  # of each distribution
_WANDB_ALONE = {"log_uniform", "inv_log_uniform", "inv_log_uniform_values", "normal", "log_normal", "beta"}


@dataclass(frozen=True)
class Parameter:
    """One option of the command line, and what it may be.

    Optuna samples the values themselves; words, lists and mappings by short words, as it takes plain choices.

    Attributes:
        name: of the option, with dots.
        short: the last words of the name that tell it from the others: its name in the study.
        distribution: what Optuna samples from.
        choices: the option's value of each choice that is sampled; empty for ranges.
        q: the option's values are multiples of it.
    """

    name: str
    short: str
    distribution: "CategoricalDistribution | FloatDistribution | IntDistribution"
    choices: dict[Any, Any] = field(default_factory=dict)
    q: float | None = None

    @cached_property
    def points(self) -> tuple[Any, ...] | None:
        """All that can be sampled; `None` where it cannot be counted."""
        if self.choices:
            return tuple(self.choices)
        low, high = self._range.low, self._range.high
        step = None if self._range.log else self._range.step  # of a list, all would be equally likely
        steps = 0 if low == high else (high - low) / step if step else math.inf
        if steps >= _MOST_POINTS:
            return None
        return tuple(self.rounded(low + number * (step or 0)) for number in range(round(steps) + 1))

    @property
    def _range(self) -> "FloatDistribution | IntDistribution":
        return cast("FloatDistribution | IntDistribution", self.distribution)

    def rounded(self, sampled: Any) -> Any:
        """What was sampled, or the multiple of `q` that is next to it."""
        return sampled if self.q is None else _multiple(sampled / self.q, self.q)

    def value(self, sampled: Any) -> Any:
        """The option's value of what was sampled."""
        return self.choices[sampled] if self.choices else self.rounded(sampled)

    def shown(self, sampled: Any) -> str:
        """What was sampled, short."""
        rounded = self.rounded(sampled)
        return f"{rounded:.3g}" if isinstance(rounded, float) else str(rounded)

    def example(self, place: float) -> Any:
        """One of the option's values.

        Args:
            place: from 0 (the first, or least) to 1 (the last, or most).
        """
        if self.points:
            return self.value(self.points[round(place * (len(self.points) - 1))])
        low, high = self._range.low, self._range.high
        return self.value(low * (high / low) ** place if self._range.log else low + place * (high - low))


def _multiple(times: float, q: float) -> float:
    """A multiple of `q`, without the last digits that a product of floats has."""
    return round(times) * int(q) if q.is_integer() else float(f"{round(times) * q:.12g}")


def parameters_of(given: Any) -> tuple[Parameter, ...]:
    """The parameters of a sweep's file; nested ones get names with dots.

    Args:
        given: the file's field `parameters`.

    Raises:
        ValueError: naming the parameter and what is wrong with it.
    """
    if not isinstance(given, dict) or not given:
        what = "no mapping" if given else "empty"
        raise ValueError(f"parameters: is {what}; name options of train.py, each with values or a range")
    flat = dict(_flat("", given))
    found = tuple(_parameter(name, short, flat[name]) for name, short in short_names(flat).items())
    if all(each.distribution.single() for each in found):
        raise ValueError("parameters: nothing varies; give one of them several values or a range")
    return found


def _flat(prefix: str, given: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, settings in given.items():
        if not isinstance(settings, dict):
            needed = "value, values, or min and max are needed"
            raise ValueError(f"parameters.{prefix}{name}: {needed}, as {{value: {settings}}}")
        if isinstance(settings.get("parameters"), dict):
            yield from _flat(f"{prefix}{name}.", settings["parameters"])
        else:
            yield f"{prefix}{name}", settings


def check_fields(place: str, given: dict[Any, Any], known: set[str]) -> None:
    """Refuse a field that is none; the message names its place in the file."""
    if unknown := sorted(map(str, given.keys() - known)):
        raise ValueError(f"{place}{unknown[0]}: no such field; there are: {', '.join(sorted(known))}")


def _parameter(name: str, short: str, settings: dict[str, Any]) -> Parameter:
    kind = settings.get("distribution") or _implied(settings)
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise ValueError(f"parameters.{name}: {_no_distribution(kind)}")
    check_fields(f"parameters.{name}.", settings, _FIELDS[kind] | {"distribution"})
    try:
        if "probabilities" in settings:
            raise ValueError("probabilities: Optuna has none; leave them out")
        if kind in ("constant", "categorical"):
            return Parameter(
                name, short, *_chosen([settings["value"]] if kind == "constant" else settings["values"])
            )
        distribution, q = _range(kind, settings)
        return Parameter(name, short, distribution, q=q)
    except KeyError as missing:
        raise ValueError(f"parameters.{name}: {kind} needs the field {missing.args[0]}") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"parameters.{name}: {error}") from None


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


def _no_distribution(kind: Any) -> str:
    if isinstance(kind, str) and kind.removeprefix("q_") in _WANDB_ALONE:
        similar = "log_uniform_values" if "log" in kind else "uniform"
        return (
            f"distribution {kind} is W&B's alone; take {'q_' * kind.startswith('q_')}{similar}, "
            "whose min and max are the least and the greatest value"
        )
    said = f"distribution {kind!r} is none" if kind else "value, values, or min and max are needed"
    return f"{said}; there are: {', '.join(_FIELDS)}"


def _chosen(values: Any) -> tuple["CategoricalDistribution", dict[Any, Any]]:
    from optuna.distributions import CategoricalDistribution

    if not isinstance(values, list) or not values:
        raise ValueError("values: a list of at least one is needed")
    if not all(isinstance(value, int | float | str | list | dict | None) for value in values):
        raise ValueError("values: numbers, words, true, false, null, and lists of them are allowed")
    choices = dict(zip(_labels(values), values, strict=True))
    if len(choices) < len(values):
        raise ValueError("values: one of them stands there twice")
    return CategoricalDistribution(tuple(choices)), choices


def _labels(values: list[Any]) -> list[Any]:
    """What Optuna keeps of choices: numbers as they are, else words; of paths the files' names."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return values
    stems = list(map(_stem, values))
    return stems if len(set(stems)) == len(stems) else list(map(str, values))


def _stem(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_stem, value))
    return value.rpartition("/")[2].removesuffix(".yaml") if isinstance(value, str) else str(value)


def _range(kind: str, settings: dict[str, Any]) -> tuple["FloatDistribution | IntDistribution", float | None]:
    from optuna.distributions import FloatDistribution, IntDistribution

    low, high = float(settings["min"]), float(settings["max"])
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"min {settings['min']} must not be above max {settings['max']}")
    if kind == "int_uniform" and not (low.is_integer() and high.is_integer()):
        raise ValueError("min and max: whole numbers are needed")
    is_log, q = "log" in kind, 1.0 if kind == "int_uniform" else None
    if is_log and low <= 0:
        raise ValueError(f"min {settings['min']} must be above 0")
    if kind.startswith("q_"):
        q = float(settings.get("q", 1))
        if not q > 0:
            raise ValueError(f"q {q} must be above 0")
        low, high = _multiple(math.ceil(round(low / q, 9)), q), _multiple(math.floor(round(high / q, 9)), q)
        if low > high:
            raise ValueError(f"no multiple of q {q} lies from min {settings['min']} to max {settings['max']}")
    if q and q.is_integer() and (q == 1 or not is_log):
        return IntDistribution(int(low), int(high), is_log, int(q)), q
    return FloatDistribution(low, high, is_log, None if is_log else q), q
