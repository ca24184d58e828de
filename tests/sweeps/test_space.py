"""W&B's distributions: ends, middles, and what cannot be."""

import math
from pathlib import Path
from typing import Any

import pytest

from gpt2_lightning.errors import InputError
from gpt2_lightning.sweeps.space import Parameter, parameters_of

FILE = Path("sweep.yaml")


def parameter(**settings: Any) -> Parameter:
    other = {"values": [1, 2]}
    return parameters_of(FILE, {"x": settings, "other": other})[0]


@pytest.mark.parametrize(
    ("settings", "least", "middle", "most"),
    [
        ({"values": ["a", None, 3.0]}, "a", None, 3.0),
        ({"min": 1, "max": 5}, 1, 3, 5),
        ({"min": 1.0, "max": 5}, 1.0, 3.0, 5.0),
        ({"distribution": "int_uniform", "min": 2, "max": 2}, 2, 2, 2),
        ({"distribution": "q_uniform", "min": 0.0, "max": 0.3, "q": 0.05}, 0.0, 0.15, 0.3),
        ({"distribution": "q_uniform", "min": 0, "max": 8, "q": 4}, 0, 4, 8),
        ({"distribution": "log_uniform", "min": -2, "max": 2}, math.exp(-2), 1.0, math.exp(2)),
        ({"distribution": "q_log_uniform", "min": 0, "max": 2, "q": 2}, 0, 2, 8),
        ({"distribution": "inv_log_uniform", "min": -2, "max": 2}, math.exp(2), 1.0, math.exp(-2)),
        ({"distribution": "log_uniform_values", "min": 0.01, "max": 1.0}, 0.01, 0.505, 1.0),
        ({"distribution": "q_log_uniform_values", "min": 8, "max": 64, "q": 8}, 8, 32, 64),
        ({"distribution": "inv_log_uniform_values", "min": 0.5, "max": 2.0}, 2.0, 0.8, 0.5),
        ({"distribution": "normal", "mu": 3, "sigma": 2}, -6.507, 3.0, 12.507),
        ({"distribution": "q_normal", "mu": 3, "sigma": 2, "q": 1}, -7, 3, 13),
        ({"distribution": "log_normal"}, math.exp(-4.7534), 1.0, math.exp(4.7534)),
        ({"distribution": "beta", "a": 2, "b": 2}, 0.0005, 0.5, 0.9995),
        ({"distribution": "beta", "a": 1, "b": 1}, 0.0, 0.5, 1.0),
        ({"distribution": "q_beta", "a": 5, "b": 1, "q": 0.1}, 0.1, 0.9, 1.0),
    ],
)
def test_the_ends_and_the_middle_by_hand(settings: dict[str, Any], least: Any, middle: Any, most: Any):
    found = [parameter(**settings).example(place) for place in (0.0, 0.5, 1.0)]
    for value, expected in zip(found, (least, middle, most), strict=True):
        assert value == (
            pytest.approx(expected, rel=1e-3, abs=1e-3) if isinstance(expected, float) else expected
        )
        assert type(value) is type(expected)


def test_the_quantile_of_a_beta_distribution_by_hand():
    """Of a = 2, b = 1 it is the square root; of a = 1, b = 3 it is 1 − (1 − share)^(1/3)."""
    for share in (0.1, 0.3, 0.5, 0.9):
        root = parameter(distribution="beta", a=2, b=1).value(share)
        assert root == pytest.approx(math.sqrt(share), abs=2e-4)
        cube = parameter(distribution="beta", a=1, b=3).value(share)
        assert cube == pytest.approx(1 - (1 - share) ** (1 / 3), abs=2e-4)


def test_nested_parameters_get_names_with_dots_and_constants_do_not_vary():
    nested = {"a": {"value": 3}, "b": {"parameters": {"c": {"values": [1, 2]}, "d": {"value": None}}}}
    found = parameters_of(FILE, nested)
    assert [(each.name, each.choices) for each in found] == [("a", (3,)), ("b.c", (1, 2)), ("b.d", (None,))]
    assert [each.is_constant for each in found] == [True, False, True]


def test_a_grid_has_the_values_themselves_and_the_places_of_choices():
    assert parameter(values=["a", "b"]).grid == (0, 1)
    assert parameter(min=3, max=5).grid == (3, 4, 5)
    stepped = parameter(distribution="q_uniform", min=0.1, max=0.3, q=0.1)
    assert [stepped.value(number) for number in stepped.grid] == [0.1, 0.2, 0.3]
    assert parameter(min=0.0, max=1.0).choices is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "parameters: is empty"),
        (None, "parameters: is empty"),
        ({"x": {"value": 3}}, "parameters: nothing varies"),
        ({"x": {"values": [3]}}, "parameters: nothing varies"),
        ({"x": 3}, "parameters.x: value, values, or min and max are needed"),
        ({"x": {"min": 3}}, "parameters.x: value, values, or min and max are needed"),
        ({"x": {"values": []}}, "parameters.x: values: a list of at least one"),
        ({"x": {"values": [1, 2, 1]}}, "parameters.x: values: one of them stands there twice"),
        ({"x": {"min": 3, "max": 1}}, "parameters.x: min 3 must not be above max 1"),
        ({"x": {"distribution": "gamma"}}, "parameters.x: distribution 'gamma' is none; there are: constant"),
        ({"x": {"distribution": "uniform", "min": 1}}, "parameters.x: uniform needs the field max"),
        ({"x": {"distribution": "normal", "sigma": -1}}, "parameters.x: sigma -1.0 must be above 0"),
        ({"x": {"distribution": "beta", "a": 0}}, "parameters.x: a 0.0 and b 1.0 must be above 0"),
        (
            {"x": {"distribution": "q_uniform", "min": 0, "max": 1, "q": 0}},
            "parameters.x: q 0.0 must be above 0",
        ),
        ({"x": {"distribution": "log_uniform_values", "min": 0, "max": 1}}, "parameters.x: "),
        (
            {"x": {"values": [1, 2], "probabilities": [0.5, 0.5]}},
            "parameters.x: probabilities: Optuna has none",
        ),
        ({"x": {"parameters": {"y": {"min": "a", "max": "b"}}}}, "parameters.x.y: "),
    ],
)
def test_what_cannot_be_is_named(given: Any, said: str):
    with pytest.raises(InputError) as error:
        parameters_of(FILE, given)
    assert str(error.value).startswith(f"sweep.yaml: {said}")
