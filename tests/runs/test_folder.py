from pathlib import Path

import pytest

from gpt2_lightning.errors import InputError
from gpt2_lightning.runs import folder as run_folder


def test_runs_of_one_second_get_different_folders(tmp_path: Path):
    folders = [run_folder.create(tmp_path, "try") for _ in range(5)]
    assert len(set(folders)) == 5
    assert all(folder.parent == tmp_path / "try" and folder.is_dir() for folder in folders)


@pytest.mark.parametrize("name", ["../up", "a/b", "", "x" * 101, "new\nline", ".hidden"])
def test_names_that_could_leave_the_logs_folder_are_refused(tmp_path: Path, name: str):
    with pytest.raises(InputError, match=r"--experiment"):
        run_folder.create(tmp_path / "logs", name)
    assert not (tmp_path / "logs").exists()


def test_logs_that_cannot_be_written_are_named(tmp_path: Path):
    (tmp_path / "logs").write_text("")
    with pytest.raises(InputError, match=r"--logs '.*logs': cannot be written"):
        run_folder.create(tmp_path / "logs", "try")
