"""A sweep of short real runs, and a PostgreSQL of the test's own."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpt2_lightning.sweeps.assignment import Assignment
from gpt2_lightning.sweeps.definition import Sweep, read
from tests.conftest import ROOT
from tests.test_configs import TEXT, TOY

SHORT = ["--trainer.accelerator=cpu", "--samples.every_n_steps=0", "--histograms.every_n_steps=0"]


@pytest.fixture
def sweep_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a sweep's file whose trials take a few seconds, from where train.py lies."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def write(parameters: dict[str, Any], options: tuple[str, ...] = (), **fields: Any) -> Path:
        command = ["${env}", "${interpreter}", "${program}", "fit"]
        command += ["--config=configs/experiment/pretrain_tiny.yaml", f"--data.folder={tmp_path / 'data'}"]
        command += [*TEXT, *TOY, *SHORT, "--trainer.max_steps=4", "--trainer.val_check_interval=2"]
        content = {
            "program": "train.py",
            "method": "grid",
            "metric": {"name": "val/nll", "goal": "minimize"},
            "parameters": parameters,
            "command": [*command, *options, "${args}"],
        }
        path = tmp_path / "toy.yaml"
        path.write_text(yaml.safe_dump(content | fields, sort_keys=False))
        return path

    return write


QUICK = """
import json, sys
from pathlib import Path

options = dict(word[2:].split("=", 1) for word in sys.argv[2:])
if sys.argv[1] == "fit":
    run = Path(options["logs"], options["experiment"], options["run"])
    run.mkdir(parents=True, exist_ok=True)
    (run / "metrics.csv").write_text(f"step,val/nll\\n1,{options['x']}\\n")
    (run / "summary.json").write_text(json.dumps({"status": "finished"}))
    with (run / "times").open("a") as file:
        file.write("once ")
    if float(options["x"]) < 0:
        sys.exit("error: below zero")
"""


@pytest.fixture
def quick_sweep(sweep_file: Callable[..., Path], tmp_path: Path) -> Callable[..., Sweep]:
    """Reads a sweep whose runs take no time: their number is that of the option x."""
    program = tmp_path / "quick.py"
    program.write_text(QUICK)
    command = ["${interpreter}", "${program}", "fit", "${args}"]

    def make(parameters: dict[str, Any], **fields: Any) -> Sweep:
        return read(sweep_file(parameters, program=str(program), command=command, **fields))

    return make


@pytest.fixture
def job(tmp_path: Path) -> Assignment:
    """Of a worker on SQLite, for half a minute."""
    folder = tmp_path / "toy"
    folder.mkdir()
    storage = f"sqlite:///{folder / 'study.db'}"
    file = str(tmp_path / "toy.yaml")
    return Assignment(
        file, str(folder), storage, "val/nll", None, 0, heartbeat_seconds=1, until=time.time() + 30
    )


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@pytest.fixture
def postgres() -> Iterator[str]:
    """The address of an empty PostgreSQL database on loopback."""
    pytest.importorskip("psycopg")
    programs = _programs()
    if programs is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="postgres"))  # pytest's own is closed to other users
    as_user: list[str] = []
    if os.getuid() == 0:  # which PostgreSQL refuses to run as
        shutil.chown(folder, "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = folder / "data"
    made = [programs / "initdb", "-D", place, "-A", "trust", "-U", "tester", "--no-sync"]
    subprocess.run([*as_user, *map(str, made)], check=True, capture_output=True, cwd="/")
    options = ["-D", place, "-p", port, "-h", "127.0.0.1", "-k", folder, "-c", "fsync=off"]
    server = subprocess.Popen(
        [*as_user, *map(str, [programs / "postgres", *options])],
        cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(100):
            ready = [programs / "pg_isready", "-h", "127.0.0.1", "-p", port]
            if subprocess.run(list(map(str, ready)), capture_output=True).returncode == 0:
                break
            time.sleep(0.1)
        yield f"postgresql+psycopg://tester@127.0.0.1:{port}/postgres"
    finally:
        server.terminate()
        server.wait(20)
        shutil.rmtree(folder, ignore_errors=True)
