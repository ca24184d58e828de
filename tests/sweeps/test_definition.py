"""A sweep's file: what is refused, and the command of a trial as W&B's agent makes it."""

import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from gpt2_lightning.errors import InputError
from gpt2_lightning.sweeps.definition import read
from tests.conftest import ROOT

READY = sorted((ROOT / "configs" / "sweep").glob("*.yaml"))
RATES = {"model.optimizer.init_args.lr": {"values": [0.001, 0.01]}}


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_ready_sweeps_give_the_command_of_wandb_s_agent(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    sweep = read(path)
    for place in (0.0, 0.5, 1.0):
        values = {parameter.name: parameter.example(place) for parameter in sweep.parameters}
        arguments = create_sweep_command_args({"args": {name: {"value": v} for name, v in values.items()}})
        arguments |= {"env": ["/usr/bin/env"], "interpreter": [sys.executable], "program": ["train.py"]}
        theirs = []
        for word in create_sweep_command(list(sweep.command)):
            theirs += arguments[word[2:-1]] if word.startswith("${") else [word]
        assert sweep.command_of(values) == theirs


def test_environment_variables_are_filled_in_as_wandb_does(
    sweep_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("STEPS", "7")
    word = "--trainer.max_steps=${envvar:STEPS}"
    sweep = read(sweep_file(RATES, options=(word,)))
    assert "--trainer.max_steps=7" in sweep.command_of({})
    assert create_sweep_command([word]) == ["--trainer.max_steps=7"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"method": "guess"}, "method: 'guess' is none; there are: grid, random, bayes"),
        ({"metric": "val/nll"}, "metric: a name and a goal are needed"),
        ({"metric": {"name": "val/loss"}}, "metric.name: no run writes 'val/loss'; there are: train/nll"),
        ({"metric": {"name": "val/nll", "goal": "less"}}, "metric.goal: 'less' is none"),
        ({"paramters": {}}, "paramters: no such field; there are: command"),
        ({"program": "nowhere.py"}, "program: 'nowhere.py' is no file here"),
        ({"command": ["${program}", "fit"]}, "command: a list with ${args} in it is needed"),
        ({"command": ["${program}", "${args}"]}, "command: ${program} and then fit are needed"),
        ({"command": ["${program}", "fit", "${args}", "${arg}"]}, "command: ${arg} is not known here"),
        ({"early_terminate": {"type": "median"}}, "early_terminate.type: must be hyperband"),
        ({"early_terminate": {"type": "hyperband"}}, "early_terminate: min_iter or max_iter is needed"),
        (
            {"early_terminate": {"type": "hyperband", "min_iter": 0}},
            "early_terminate.min_iter: 0 is no whole",
        ),
        (
            {"metric": {"name": "train/nll"}, "early_terminate": {"type": "hyperband", "min_iter": 1}},
            "early_terminate: train/nll is not measured at validations",
        ),
        ({"run_cap": "ten"}, "run_cap: 'ten' is no whole number from 1"),
        ({"command": None}, "command: a list with ${args} in it is needed"),
        ({"metric": {"name": "val/nll", "gaol": "maximize"}}, "metric.gaol: no such field"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 1, "eta": 1}}, "early_terminate.eta: 1 is no"),
        (
            {"early_terminate": {"type": "hyperband", "min_iter": 4, "max_iter": 3}},
            "early_terminate.max_iter: 3 is no whole number from 4",
        ),
        ({"parameters": {"x": {"distribution": ["uniform"]}}}, "parameters.x: distribution ['uniform'] is"),
        (
            {"parameters": {"x": {"distribution": "uniform", "mean": 5}}},
            "parameters.x.mean: no such field; there are: distribution, max, min",
        ),
        ({"parameters": {"x": {"values": [date(2026, 1, 2), 1]}}}, "parameters.x: values: numbers, words"),
    ],
)
def test_what_is_refused(sweep_file: Callable[..., Path], fields: dict[str, Any], said: str):
    path = sweep_file(**{"parameters": RATES} | fields)
    with pytest.raises(InputError) as error:
        read(path)
    assert str(error.value).startswith(f"{path}: {said}")


def test_what_tells_trials_apart_is_short(sweep_file: Callable[..., Path]):
    files = {"values": ["configs/a.yaml", "configs/b.yaml"]}
    sweep = read(sweep_file({"config": files, "a.lr": {"values": [0.001234, 1]}, "b.lr": {"value": 3}}))
    sampled = {"config": "b", "a.lr": 0.001234, "b.lr": 3}
    assert sweep.shown(sampled) == {"config": "b", "a.lr": "0.00123"}
    assert sweep.label_of({"a.lr": 1}) == "a.lr=1"
    assert sweep.values_of(sampled) == {"config": "configs/b.yaml", "a.lr": 0.001234, "b.lr": 3}
    assert sweep.size == 4


def test_a_grid_of_a_continuous_distribution_is_refused(sweep_file: Callable[..., Path]):
    path = sweep_file({"x": {"min": 0.0, "max": 1.0}})
    with pytest.raises(InputError, match=r"parameters\.x: a grid needs values"):
        read(path)


def test_broken_files_are_named_with_their_line(tmp_path: Path):
    path = tmp_path / "sweep.yaml"
    for content, said in (
        (b"method: grid\nmetric: [", f"{path}:2: is no YAML"),
        (b"- a", f"{path}: is no sweep"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError) as error:
            read(path)
        assert str(error.value).startswith(said)
    for name, content in (("latin.yaml", b"\xff"), ("nowhere.yaml", None)):
        if content:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match="cannot be read"):
            read(tmp_path / name)
