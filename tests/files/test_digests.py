import subprocess
from pathlib import Path

import pytest

from gpt2_lightning.errors import InputError
from gpt2_lightning.files.digests import SUMS, FileDigests, check_sums, write_sums


def folder_of_two(tmp_path: Path) -> Path:
    for name in ("a", "b c"):
        (tmp_path / name).write_bytes(name.encode() * 100)
    write_sums(tmp_path)
    return tmp_path


def test_what_is_whole_passes_here_and_with_sha256sum(tmp_path: Path):
    check_sums(tmp_path)  # nothing is known
    check_sums(folder_of_two(tmp_path))
    subprocess.run(["sha256sum", "--check", "--quiet", SUMS], cwd=tmp_path, check=True)
    write_sums(tmp_path)
    assert SUMS not in (tmp_path / SUMS).read_text()


def test_an_altered_or_missing_file_is_named(tmp_path: Path):
    path = folder_of_two(tmp_path) / "b c"
    path.write_bytes(path.read_bytes()[:-1] + b"d")
    with pytest.raises(InputError, match=r"b c: was altered after it was written"):
        check_sums(tmp_path)
    path.unlink()
    with pytest.raises(InputError, match=r"b c: is missing"):
        check_sums(tmp_path)


def test_digests_are_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.txt"
    path.write_text("one")
    monkeypatch.setattr("gpt2_lightning.files.digests._SETTLED_SECONDS", -1)
    digests = FileDigests(tmp_path / "digests.json")
    first = digests(path)
    digests.save()
    monkeypatch.setattr("hashlib.file_digest", None)  # reading again would fail
    assert FileDigests(tmp_path / "digests.json")(path) == first
    monkeypatch.undo()
    path.write_text("two")
    assert FileDigests(tmp_path / "digests.json")(path) != first
