import os
from pathlib import Path

import pytest

from gpt2_lightning.errors import InputError
from gpt2_lightning.locations import locate


def export(run: Path, age: int = 0) -> Path:
    folder = run / "export"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    os.utime(folder, (1000 - age, 1000 - age))
    return folder


def test_a_run_an_export_and_the_latest_of_an_experiment_or_of_all(tmp_path: Path):
    old = export(tmp_path / "logs" / "one" / "1", age=10)
    new = export(tmp_path / "logs" / "two" / "1")
    (tmp_path / "logs" / "two" / "2" / "export").mkdir(parents=True)  # not a model yet
    assert locate(str(old.parent), "--x") == locate(str(old), "--x") == str(old)
    assert locate(str(tmp_path / "logs" / "one" / "latest"), "--x") == str(old)
    assert locate(str(tmp_path / "logs" / "latest"), "--x") == str(new)


@pytest.mark.parametrize("name", ["gpt2", "openai-community/gpt2"])
def test_what_is_no_folder_is_a_name_on_the_hub(name: str):
    assert locate(name, "--x") == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("logs/pretrain_tiny/latest", r"--x .*make train EXPERIMENT=pretrain_tiny"),
        ("logs/pretrain_tiny", "--x 'logs/pretrain_tiny': no such folder"),
        ("./nowhere", "--x './nowhere': no such folder"),
        (".", "--x '.': the folder holds no model"),
    ],
)
def test_folders_that_hold_nothing_are_named(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        locate(name, "--x")
