"""W&B's distributions: ends, middles, and what cannot be."""

import re
from typing import Any

import pytest
import yaml

from gpt2_lightning.sweeps.space import Parameter, parameters_of
from tests.conftest import ROOT

TABLE = (ROOT / "docs" / "sweeps.md").read_text()
EXAMPLES = re.findall(r"^\| `(\{.*\})` \| (.*) \|$", TABLE, re.MULTILINE)


def parameter(**settings: Any) -> Parameter:
    other = {"values": [1, 2]}
    return parameters_of({"x": settings, "other": other})[0]


@pytest.mark.parametrize(("settings", "examples"), EXAMPLES)
def test_the_docs_tell_the_first_the_middle_and_the_last_value(settings: str, examples: str):
    found = parameter(**yaml.safe_load(settings))
    assert ", ".join(str(found.example(place)) for place in (0.0, 0.5, 1.0)) == examples


def test_the_docs_have_an_example_of_each():
    assert len(EXAMPLES) == 7


@pytest.mark.parametrize(
    ("settings", "least", "middle", "most"),
    [
        ({"values": ["a", None, 3.0]}, "a", None, 3.0),
        ({"values": [["a"], ["a", "b/c.yaml"]]}, ["a"], ["a"], ["a", "b/c.yaml"]),
        ({"min": 1, "max": 5001}, 1, 2501, 5001),
        ({"distribution": "int_uniform", "min": 2, "max": 2}, 2, 2, 2),
        ({"distribution": "uniform", "min": 0.5, "max": 0.5}, 0.5, 0.5, 0.5),
        ({"distribution": "q_uniform", "min": 0.0, "max": 0.3, "q": 0.05}, 0.0, 0.15, 0.3),
        ({"distribution": "q_uniform", "min": 0.04, "max": 0.37, "q": 0.1}, 0.1, 0.2, 0.3),
        ({"distribution": "q_uniform", "min": 1.5, "max": 9, "q": 4}, 4, 4, 8),
        ({"distribution": "q_log_uniform_values", "min": 0.5, "max": 3.5}, 1, 2, 3),
        ({"distribution": "q_log_uniform_values", "min": 0.01, "max": 1, "q": 0.1}, 0.1, 0.3, 1.0),
    ],
)
def test_the_ends_and_the_middle_by_hand(settings: dict[str, Any], least: Any, middle: Any, most: Any):
    found = [parameter(**settings).example(place) for place in (0.0, 0.5, 1.0)]
    assert found == [least, middle, most]
    assert list(map(type, found)) == list(map(type, (least, middle, most)))


def test_nested_parameters_get_names_with_dots_and_constants_do_not_vary():
    nested = {"a": {"value": 3}, "b": {"parameters": {"c": {"values": [1, 2]}, "d": {"value": None}}}}
    found = parameters_of(nested)
    assert [each.name for each in found] == ["a", "b.c", "b.d"]
    assert [each.example(1) for each in found] == [3, 2, None]
    assert [each.distribution.single() for each in found] == [True, False, True]


@pytest.mark.parametrize(
    ("values", "sampled"),
    [
        ([8, 16.5], (8, 16.5)),
        ([True, False], ("True", "False")),
        ([True, 1], ("True", "1")),
        (["configs/a.yaml", "configs/b.yaml"], ("a", "b")),
        (["x/a.yaml", "y/a.yaml"], ("x/a.yaml", "y/a.yaml")),
        ([["c_attn"], ["c_attn", "c_proj"], None], ("c_attn", "c_attn,c_proj", "None")),
    ],
)
def test_numbers_are_sampled_themselves_and_other_choices_by_short_words(values: list[Any], sampled: Any):
    found = parameter(values=values)
    assert found.points == sampled
    assert list(map(type, found.points or ())) == list(map(type, sampled))
    assert [found.value(each) for each in sampled] == values


def test_what_can_be_counted():
    assert parameter(min=3, max=5).points == (3, 4, 5)
    assert parameter(distribution="q_uniform", min=0.1, max=0.3, q=0.1).points == (0.1, 0.2, 0.3)
    assert parameter(min=0.0, max=1.0).points is None
    assert parameter(min=0, max=1000).points is None


def test_a_multiple_is_what_the_trial_has_and_the_report_shows():
    found = parameter(distribution="q_log_uniform_values", min=8, max=64, q=8)
    assert (found.value(18.3), found.rounded(18.3), found.shown(18.3)) == (16, 16, "16")
    tenths = parameter(distribution="q_uniform", min=0, max=1, q=0.1)
    assert tenths.value(0.1 * 3) == 0.3


@pytest.mark.parametrize(
    ("kind", "instead"),
    [
        ("log_uniform", "log_uniform_values"),
        ("q_log_uniform", "q_log_uniform_values"),
        ("inv_log_uniform_values", "log_uniform_values"),
        ("log_normal", "log_uniform_values"),
        ("normal", "uniform"),
        ("q_beta", "q_uniform"),
    ],
)
def test_what_wandb_alone_has_gives_the_name_of_what_to_take(kind: str, instead: str):
    with pytest.raises(ValueError) as error:
        parameter(distribution=kind, mu=0, sigma=1)
    assert f"x: distribution {kind} is W&B's alone; take {instead}, whose min and max" in str(error.value)


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
        ({"x": {"values": [1, 1.0]}}, "parameters.x: values: one of them stands there twice"),
        ({"x": {"min": 3, "max": 1}}, "parameters.x: min 3 must not be above max 1"),
        ({"x": {"distribution": "gamma"}}, "parameters.x: distribution 'gamma' is none; there are: constant"),
        ({"x": {"distribution": "uniform", "min": 1}}, "parameters.x: uniform needs the field max"),
        ({"x": {"distribution": "int_uniform", "min": 1, "max": 2.5}}, "parameters.x: min and max: whole"),
        (
            {"x": {"distribution": "q_uniform", "min": 0, "max": 1, "q": 0}},
            "parameters.x: q 0.0 must be above 0",
        ),
        (
            {"x": {"distribution": "q_uniform", "min": 1, "max": 3, "q": 4}},
            "parameters.x: no multiple of q 4.0 lies from min 1 to max 3",
        ),
        (
            {"x": {"distribution": "log_uniform_values", "min": 0, "max": 1}},
            "parameters.x: min 0 must be above 0",
        ),
        (
            {"x": {"values": [1, 2], "probabilities": [0.5, 0.5]}},
            "parameters.x: probabilities: Optuna has none",
        ),
        ({"x": {"parameters": {"y": {"min": "a", "max": "b"}}}}, "parameters.x.y: "),
    ],
)
def test_what_cannot_be_is_named(given: Any, said: str):
    with pytest.raises(ValueError) as error:
        parameters_of(given)
    assert str(error.value).startswith(said)
