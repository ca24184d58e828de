"""Which folder a run writes, and who may."""

import os
from pathlib import Path
from unittest import mock

import pytest
from filelock import FileLock
from jsonargparse import Namespace

from gpt2_lightning.commandline import place
from gpt2_lightning.commandline.said import Said
from tests.commandline.conftest import NAMED, last, quiet_fit, refusal
from tests.conftest import read_metrics
from tests.test_configs import CONFIGS, run_folder


def test_the_same_command_goes_on_where_it_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert quiet_fit(tmp_path, *NAMED, "--trainer.max_steps=2") == 0
    assert quiet_fit(tmp_path, *NAMED, "--trainer.max_steps=4") == 0
    assert run_folder(tmp_path).name == "mine"
    assert last(tmp_path)["global_step"] == 4
    checkpoint = run_folder(tmp_path) / "checkpoints" / "last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
    assert quiet_fit(tmp_path, *NAMED, "--trainer.max_steps=6") == 0
    assert "goes on from best.ckpt" in capsys.readouterr().out
    assert last(tmp_path)["global_step"] == 6


def test_a_run_that_was_stopped_before_its_first_checkpoint_begins_again(tmp_path: Path):
    folder = tmp_path / "logs" / "pretrain_tiny" / "mine"
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text("step,train/nll\n1,9.0\n")
    extra = [option for option in NAMED if "logger" not in option]
    logger = "--trainer.logger=gpt2_lightning.runs.loggers.MetricsCSV"
    assert quiet_fit(tmp_path, *extra, logger, "--trainer.log_every_n_steps=1") == 0
    assert [row["train/nll"] == "9.0" for row in read_metrics(folder)] == [False]


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ([], "pretrain_tiny"),
        (["--trainer.max_steps=2", "--model.optimizer.lr=1"], "pretrain_tiny"),
        (["--model.architecture.resid_pdrop=0.1", "--data.corpus.on_error=skip"], "pretrain_tiny"),
        ([f"--data.corpus={CONFIGS}/data/book.yaml"], "pretrain_tiny-book"),
        (
            [f"--data.corpus={CONFIGS}/data/book.yaml", f"--model.architecture={CONFIGS}/model/small.yaml"],
            "pretrain_tiny-book-small",
        ),
        (
            ["--data.corpus.source=TextFiles", "--data.corpus.source.paths=['a b/my novel.txt']"],
            "pretrain_tiny-my_novel",
        ),
        (["--data.corpus.source.paths=books/*.txt"], "pretrain_tiny-books"),
        (["--data.corpus.source=PythonSource"], "pretrain_tiny-PythonSource"),
        (["--data.corpus.validation_fraction=0.2"], "pretrain_tiny-data"),
        (["--data.corpus.tokenizer.vocab_size=500"], "pretrain_tiny-tokenizer"),
        (["--model.architecture.n_layer=2"], "pretrain_tiny-n_layer2"),
        (
            ["--model.pretrained=openai-community/gpt2", "--data.corpus.tokenizer.path=x"],
            "pretrain_tiny-gpt2",
        ),
        (["--model.pretrained=logs/mine/latest"], "pretrain_tiny-mine"),
        ([f"--model.adapter={CONFIGS}/adapter/prefix.yaml"], "pretrain_tiny-prefix"),
        (["--experiment=mine", "--data.corpus.source=PythonSource"], "mine"),
    ],
)
def test_other_data_or_another_model_has_a_name_of_its_own(typed: list[str], name: str):
    """So that the newest `pretrain_tiny` is always one."""
    config = Namespace(experiment="mine" if name == "mine" else None, config=["configs/pretrain_tiny.yaml"])
    assert place._experiment(config, Said(typed)) == name


def test_a_slurm_job_is_found_again_by_its_number(tmp_path: Path):
    with mock.patch.dict(os.environ, {"SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": "3"}):
        assert quiet_fit(tmp_path, "--auto_resume=true") == 0
    assert run_folder(tmp_path).name == "slurm-77-3"


def test_names_that_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert "name the run with --run" in refusal(capsys, tmp_path, "--auto_resume=true")
    for name in ("../../x", "a" * 300, "a\nb", ""):
        assert "--run" in refusal(capsys, tmp_path, f"--run={name}")
    assert not (tmp_path / "logs").exists()
    assert quiet_fit(tmp_path, "--run=mine") == 0
    assert "exists; continue it with make resume RUN=" in refusal(capsys, tmp_path, "--run=mine")


def test_a_run_is_trained_by_one_process_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert quiet_fit(tmp_path, *NAMED) == 0
    with FileLock(run_folder(tmp_path) / "run.lock"):
        assert "another process is training this run" in refusal(capsys, tmp_path, *NAMED)
    assert quiet_fit(tmp_path, *NAMED, "--trainer.max_steps=2") == 0, "a lock that nobody holds is free"


def test_a_refused_start_leaves_the_folder_of_the_run_that_is_starting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path / "logs" / "pretrain_tiny" / "mine"
    folder.mkdir(parents=True)
    with FileLock(folder / "run.lock"):
        assert "another process is training this run" in refusal(capsys, tmp_path, *NAMED)
        assert folder.is_dir()
