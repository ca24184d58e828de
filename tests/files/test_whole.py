import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gpt2_lightning.files.whole import remove_parts, replacing, replacing_folder, write_json, write_text

KILLED = """
import os, signal, sys
from pathlib import Path
from gpt2_lightning.files.whole import replacing

with replacing(Path(sys.argv[1])) as file:
    file.write("new" * 100_000)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_text_is_as_it_was_written(tmp_path: Path):
    write_text(tmp_path / "a", "one\r\ntwo\n人")
    assert (tmp_path / "a").read_bytes() == "one\r\ntwo\n人".encode()
    write_text(tmp_path / "a", "other")
    assert (tmp_path / "a").read_text() == "other"
    assert names(tmp_path) == {"a"}


def test_json_is_for_people(tmp_path: Path):
    write_json(tmp_path / "a.json", {"name": "人"})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "name": "人"\n}\n'
    assert json.loads((tmp_path / "a.json").read_bytes()) == {"name": "人"}


def test_after_an_error_everything_is_as_before(tmp_path: Path):
    write_text(tmp_path / "a.json", "old")
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"bad": object()})
    with pytest.raises(TypeError), replacing(tmp_path / "a.json", "wb") as file:
        file.writelines([b"half", "no bytes"])
    assert (tmp_path / "a.json").read_text() == "old"
    assert names(tmp_path) == {"a.json"}


def test_a_kill_leaves_the_file_before_and_a_part_that_is_removed(tmp_path: Path):
    write_text(tmp_path / "a", "old")
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "a")])
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "a").read_text() == "old"
    assert len(names(tmp_path)) == 2
    (tmp_path / "folder.part").mkdir()  # not a file's
    remove_parts(tmp_path)
    assert names(tmp_path) == {"a", "folder.part"}


def test_a_file_is_on_the_disk_before_it_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (calls.append("fsync"), fsync(file))[1])
    monkeypatch.setattr(Path, "replace", lambda one, other: (calls.append("rename"), replace(one, other))[1])
    write_text(tmp_path / "a", "text")
    assert calls == ["fsync", "rename", "fsync"]  # the file, its name, the folder


def test_a_folder_takes_the_place_of_another(tmp_path: Path):
    for content in ("one", "two"):
        with replacing_folder(tmp_path / "to" / "folder") as part:
            (part / content).touch()
    assert names(tmp_path / "to" / "folder") == {"two"}
    with pytest.raises(KeyError), replacing_folder(tmp_path / "to" / "folder"):
        raise KeyError
    assert names(tmp_path / "to" / "folder") == {"two"}
    assert names(tmp_path / "to") == {"folder"}
