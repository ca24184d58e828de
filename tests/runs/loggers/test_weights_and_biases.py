import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb

from gpt2_lightning import metrics
from gpt2_lightning.errors import InputError
from gpt2_lightning.runs.loggers import Description, MetricsCSV, WeightsAndBiases
from tests.conftest import ROOT
from tests.wandb_file import history, messages

DESCRIPTION = Description({"model": {"lr": 0.01}}, ("a", "b"), "a try")


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    yield
    wandb.teardown()


def files(folder: Path) -> list[Path]:
    wandb.teardown()  # waits for W&B's process, which writes the last rows
    return sorted((folder / "wandb").glob("offline-run-*/run-*.wandb"))


def numbers(row: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in row.items() if isinstance(value, float | int) and name[0] != "_"}


def test_offline_without_an_account(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = tmp_path / "experiment" / "run"
    logger = WeightsAndBiases(save_dir=str(run))
    logger.begin(0, DESCRIPTION)
    logger.log_metrics({metrics.TRAIN_NLL: 3.0}, step=10)
    logger.log_metrics({metrics.VAL_NLL: 4.0}, step=10)
    logger.log_metrics({metrics.TRAIN_NLL: 2.0}, step=20)
    logger.finalize("success")
    (file,) = files(run)
    assert {step: numbers(row) for step, row in history(file).items()} == {
        10: {"train/nll": 3.0, "val/nll": 4.0},
        20: {"train/nll": 2.0},
    }
    (start,) = [message.run for message in messages(file) if message.HasField("run")]
    assert (start.project, start.run_group, start.notes) == ("gpt2-lightning", "experiment", "a try")
    assert list(start.tags) == ["a", "b"]
    assert {update.key: update.value_json for update in start.config.update}["model"] == '{"lr":0.01}'
    assert f"wandb sync {file.parent}" in capsys.readouterr().out


def test_nothing_is_made_before_something_is_written(tmp_path: Path):
    logger = WeightsAndBiases(save_dir=str(tmp_path))
    _ = logger.experiment  # as Lightning does before it looks at the checkpoint
    logger.save()
    logger.finalize("failed")
    assert list(tmp_path.iterdir()) == []


def test_a_resumed_run_has_every_row_of_its_records_once_in_its_newest_file(tmp_path: Path):
    for start, steps in ((0, (10, 20, 30)), (20, (30, 40))):
        logger, csv = WeightsAndBiases(save_dir=str(tmp_path)), MetricsCSV(str(tmp_path))
        logger.begin(start, DESCRIPTION)  # before metrics.csv has taken back what is past the step
        csv.begin(start, DESCRIPTION)
        for step in steps:
            row = {metrics.TRAIN_NLL: step + start / 100, "mine": 1.0 if step == 20 else 2.0}
            for each in (csv, logger):
                each.log_metrics(row, step=step)
            logger.log_metrics({"gradients/wte": wandb.Histogram([1.0, 2.0, 2.0])}, step=step)
        for each in (csv, logger):
            each.finalize("failed")
        wandb.teardown()
    first, second = files(tmp_path)
    assert first.name == second.name, "it is the same run of W&B's"
    rows = history(second)
    assert [(step, row["train/nll"], row["mine"]) for step, row in rows.items()] == [
        (10, 10, 2), (20, 20, 1), (30, 30.2, 2), (40, 40.2, 2),
    ]  # fmt: skip
    assert ["gradients/wte" in row for row in rows.values()] == [False, False, True, True]


def test_a_resumed_run_has_the_settings_that_it_was_resumed_with(tmp_path: Path):
    for start, rate in ((0, 0.01), (10, 0.02)):
        logger = WeightsAndBiases(save_dir=str(tmp_path))
        logger.begin(start, Description({"model": {"lr": rate}}, (), ""))
        logger.log_metrics({metrics.TRAIN_NLL: 1.0}, step=start + 10)
        logger.finalize("success")
    runs = [message.run for message in messages(files(tmp_path)[-1]) if message.HasField("run")]
    assert {update.key: update.value_json for update in runs[0].config.update}["model"] == '{"lr":0.02}'


def test_a_file_that_a_kill_has_cut_is_read_up_to_there(tmp_path: Path):
    logger = WeightsAndBiases(save_dir=str(tmp_path))
    for step in range(1, 2000):
        logger.log_metrics({metrics.TRAIN_NLL: float(step)}, step=step)
    logger.finalize("success")
    (file,) = files(tmp_path)
    content = file.read_bytes()
    assert len(content) > 5 * 32 * 1024, "several of the file's blocks"
    assert [row["train/nll"] for row in history(file).values()] == list(range(1, 2000))
    file.write_bytes(content[: len(content) // 2])
    cut = [row["train/nll"] for row in history(file).values()]
    assert 900 < len(cut) < 1100
    assert cut == list(range(1, len(cut) + 1))


@pytest.mark.parametrize("answers", [False, True])
def test_a_server_that_cannot_be_reached_within_ten_seconds_makes_it_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answers: bool
):
    """A port where nobody listens, and one where somebody does who never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if answers:
            server.listen()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
        wandb.teardown()
        logger = WeightsAndBiases(save_dir=str(tmp_path))
        started = time.monotonic()
        logger.begin(0, DESCRIPTION)
        assert time.monotonic() - started < 12, "eight seconds, and the start of two processes"
        logger.log_metrics({metrics.TRAIN_NLL: 3.0}, step=10)
        logger.finalize("success")
        (file,) = files(tmp_path)
    assert "W&B cannot be reached" in capsys.readouterr().out
    assert history(file)[10]["train/nll"] == 3.0
    assert b"a" * 40 not in b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_key_that_cannot_be_one_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_API_KEY", "short")
    wandb.teardown()
    with pytest.raises(InputError, match=r"^WANDB_API_KEY: API key must have 40\+ characters, has 5"):
        WeightsAndBiases()


@pytest.mark.parametrize("more", [38, 0])
def test_training_goes_on_when_it_dies(tmp_path: Path, more: int):
    """In the middle of a run, and between its last record and its end."""
    code = f"""
import os, signal, subprocess, time
from gpt2_lightning.runs.loggers import Description, WeightsAndBiases
logger = WeightsAndBiases(save_dir={str(tmp_path)!r})
logger.begin(0, Description())
logger.log_metrics({{"a": 1.0}}, step=1)
mine = ["pgrep", "-P", str(os.getpid()), "-f", "wandb-core"]
children = subprocess.run(mine, capture_output=True, text=True)
os.kill(int(children.stdout.split()[0]), signal.SIGKILL)
for step in range(2, 2 + {more}):
    logger.log_metrics({{"a": 1.0}}, step=step)
    time.sleep(0.02)
logger.finalize("success")
print("the end")
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120, check=True
    )
    assert result.stdout.count("W&B has died") == 1
    assert result.stdout.endswith("the end\n")
    assert "Traceback" not in result.stderr


def test_it_can_be_turned_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    wandb.teardown()
    logger = WeightsAndBiases(save_dir=str(tmp_path))
    logger.begin(0, DESCRIPTION)
    logger.log_metrics({metrics.TRAIN_NLL: 3.0}, step=10)
    logger.finalize("success")
    assert not files(tmp_path)
