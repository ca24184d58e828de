import json
from pathlib import Path

import pytest

from gpt2_lightning.errors import InputError
from gpt2_lightning.runs.run import Run, runs_of
from tests.runs.conftest import Write


def test_tokens_and_seconds_of_a_step(write_run: Write):
    """Half of the tokens at 5 a second, all of them at 10."""
    series = {name: each.tolist() for name, each in Run(write_run()).series("train/nll").items()}
    assert series == {"value": [3.0, 2.0], "step": [2.0, 4.0], "tokens": [20.0, 40.0], "seconds": [4.0, 4.0]}
    assert Run(write_run("other")).series("val/nothing")["value"].tolist() == []


def test_a_run_whose_process_is_gone_was_killed(write_run: Write):
    folder = write_run(status="running")
    with Run(folder).lock():
        assert Run(folder).is_training
        assert Run(folder).summary["status"] == "running"
    assert not Run(folder).is_training
    assert Run(folder).summary["status"] == "killed"


def test_the_lock_is_one_process_s(write_run: Write):
    run = Run(write_run())
    with (
        run.lock(),
        pytest.raises(InputError, match="first: another process is training this run"),
        run.lock(),
    ):
        pass


def test_the_lock_removes_what_a_killed_process_was_writing(write_run: Write):
    run = Run(write_run())
    run.checkpoints.mkdir()
    parts = [run.folder / "metrics.csv.1.part", run.checkpoints / "last.ckpt.1.part"]
    for part in parts:
        part.write_text("half")
    with run.lock():
        assert not any(part.exists() for part in parts)
    assert (run.folder / "metrics.csv").exists()


def test_samples_are_lines_of_json_and_half_a_line_is_none(write_run: Write):
    """Separators of lines that JSON keeps as they are do not cut a sample in two."""
    folder = write_run()
    assert Run(folder).samples == []
    sample = {"step": 1, "prompt": "", "text": "a\u2028b\x85人"}
    line = json.dumps(sample, ensure_ascii=False) + "\n"
    (folder / "samples.jsonl").write_text(line + line[:-5], encoding="utf-8")
    assert Run(folder).samples == [sample]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("summary.json", None, "is no run that has begun \\(summary.json is missing\\)"),
        ("config.yaml", "a: [", "cannot be read"),
        ("config.yaml", "- a", "cannot be read"),
        ("summary.json", "{", "cannot be read"),
        ("summary.json", "{}", "summary.json: cannot be read"),
        ("summary.json", "[]", "summary.json: cannot be read"),
        ("metrics.csv", "step,train/nll\n1,x\n", "cannot be read"),
        ("samples.jsonl", "{\n", "cannot be read"),
    ],
)
def test_a_damaged_file_is_said(write_run: Write, name: str, content: str | None, said: str):
    folder = write_run()
    (folder / name).unlink() if content is None else (folder / name).write_text(content)
    run = Run(folder)
    with pytest.raises(InputError, match=said):
        print(run.settings, run.summary, run.rows, run.samples)


def test_the_run_of_a_model_or_a_checkpoint(write_run: Write, tmp_path: Path):
    run = Run(write_run())
    checkpoint = run.checkpoints / "last.ckpt"
    for found in (Run.of_model(run.folder), Run.of_model(run.export), Run.of_checkpoint(checkpoint)):
        assert found is not None
        assert found.folder == run.folder
    assert Run.of_model(tmp_path / "elsewhere" / "export") is None
    assert Run.of_checkpoint(run.folder / "best.ckpt") is None, "beside a configuration, not of its run"


def test_the_runs_of_names_folders_and_globs(write_run: Write, tmp_path: Path):
    first, second, odd = write_run("first"), write_run("second"), write_run("run [1]")
    (tmp_path / "logs" / "toy" / "not-begun").mkdir()
    every = [run.folder for run in runs_of([str(first.parent / "*"), str(first)])]
    assert every == [first, odd, second], "each once"
    assert [run.folder for run in runs_of([str(first.parent)])] == every
    assert [run.folder for run in runs_of([str(odd)])] == [odd], "as it is named"
    with pytest.raises(InputError, match="nowhere: no run is there"):
        runs_of([str(tmp_path / "nowhere")])


def test_names_of_runs_and_of_trials(write_run: Write, tmp_path: Path):
    assert Run(write_run()).name == "toy/first"
    write_run("trial-0001").parent.rename(tmp_path / "logs" / "sweeps")
    (tmp_path / "logs" / "sweeps" / "lr").mkdir()
    trial = tmp_path / "logs" / "sweeps" / "trial-0001"
    trial.rename(tmp_path / "logs" / "sweeps" / "lr" / "trial-0001")
    assert Run(tmp_path / "logs" / "sweeps" / "lr" / "trial-0001").name == "sweeps/lr/trial-0001"
