"""The make targets, as a person types them, in the environment that runs the tests."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.test_configs import TEXT, TOY, options, run_folder


def make(*arguments: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    """`make VENV= ...`: with the active environment's Python."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    environment |= {"PATH": path, "OMP_NUM_THREADS": "1"} | variables
    return subprocess.run(["make", *arguments], cwd=cwd, capture_output=True, text=True, env=environment)


def test_train_then_sample_then_plain_transformers(tmp_path: Path):
    arguments = shlex.join([*options(tmp_path)[2:], *TEXT, *TOY, "--model.architecture.n_positions=64"])
    trained = make("VENV=", "train", f"ARGS={arguments}")
    assert trained.returncode == 0, trained.stderr
    assert trained.stderr == ""
    folder = run_folder(tmp_path)
    assert json.loads((folder / "summary.json").read_text())["status"] == "finished"
    sampled = make("VENV=", "sample", f"RUN={folder}", "PROMPT=Bread needs")
    assert sampled.returncode == 0, sampled.stderr
    assert sampled.stdout.startswith("Bread needs")
    assert sampled.stderr == f"[{folder}/export]\n"
    given = make("VENV=", "sample", f"MODEL={folder}/export", "PROMPT=costs $5", "ARGS=--max_new_tokens 1")
    assert given.stdout.startswith("costs $5")
    load = f"import transformers as t; f = {str(folder / 'export')!r}; t.pipeline('text-generation', f)('A')"
    subprocess.run([sys.executable, "-c", load], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("variable", "existing"),
    [
        ("EXPERIMENT", "finetune_chinese_lora finetune_full"),
        ("MODEL", "large medium small tiny xl"),
        ("DATA", "alpaca book csv examples_chinese"),
    ],
)
def test_an_unknown_name_lists_those_that_exist(variable: str, existing: str):
    result = make("VENV=nowhere", "train", f"{variable}=nonsense")
    assert result.returncode == 2
    assert f"{variable}=nonsense is unknown; there are: {existing}" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_resume_asks_for_the_run():
    result = make("VENV=", "resume")
    assert result.returncode == 2
    assert "give the run: make resume RUN=logs/<experiment>/<run>" in result.stderr


def test_resume_of_a_run_that_is_not_there_names_it():
    result = make("VENV=", "resume", "RUN=logs/nowhere")
    assert result.returncode == 2
    assert "RUN=logs/nowhere is no run with a checkpoint" in result.stderr


def test_help_lists_every_target():
    targets = {
        line.split(":")[0]
        for line in (ROOT / "Makefile").read_text().splitlines()
        if ": " in line and " ## " in line
    }
    shown = {line.split()[1] for line in make("help").stdout.splitlines() if line.startswith("  make ")}
    assert shown == targets
    assert {"train", "resume", "sample", "tensorboard", "test", "check", "clean"} <= shown


def test_a_failed_installation_leaves_nothing_half_made(tmp_path: Path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "requirements.lock").write_text("no-such-package==1.0\n")
    result = make("test", cwd=tmp_path, PIP_NO_INDEX="1")
    assert result.returncode == 2
    assert "Installing the packages of requirements.lock into .venv" in result.stdout
    assert "no-such-package" in result.stdout
    assert not (tmp_path / ".venv").exists()


def test_a_folder_that_is_no_environment_is_not_overwritten(tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (tmp_path / "mine" / "pyvenv.cfg").write_text("")
    result = make("test", f"VENV={tmp_path / 'mine'}")
    assert result.returncode == 2
    assert "was not made by this Makefile and is left alone" in result.stdout
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_tensorboard_says_that_its_port_is_in_use():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        result = make("VENV=", "tensorboard", f"PORT={port}")
    assert result.returncode == 2
    assert f"port {port}, it was already in use" in result.stderr
    assert "Traceback" not in result.stderr


def test_clean_asks_first(tmp_path: Path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    for folder in ("logs", "data"):
        (tmp_path / folder / "run").mkdir(parents=True)
        (tmp_path / folder / "README.md").write_text("")
    for answer, left in (("n", True), ("y", False)):
        subprocess.run(["make", "clean"], cwd=tmp_path, input=f"{answer}\n", text=True, capture_output=True)
        assert (tmp_path / "logs" / "run").exists() == (tmp_path / "data" / "run").exists() == left
    assert (tmp_path / "logs" / "README.md").exists()


@pytest.mark.parametrize(
    "given",
    [
        "train MODLE=small",
        "train BATCH_SIZE=8",
        "sample TEMPERATURE=0.1",
        "train RUN=logs/a/1",
        "chat DATA=book",
    ],
)
def test_a_variable_that_a_target_does_not_read_is_refused(given: str):
    target, assigned = given.split()
    result = make(target, assigned)
    assert result.returncode == 2
    assert f"{assigned.split('=')[0]}= is nothing that make {target} reads: " in result.stderr


def test_every_variable_of_the_help_is_read_by_its_target():
    for line in make("help").stdout.splitlines():
        words = re.match(r"  make (\S+) (.*)", line)
        for name in re.findall(r"\b([A-Z]{3,})=", words[2].split("ARGS=")[0]) if words else ():
            result = make("-n", words[1] if words else "", f"{name}=x")
            assert "is nothing that" not in result.stderr, (line, name)
