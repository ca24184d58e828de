"""SHA-256 of files, remembered."""

from pathlib import Path

import pytest

from gpt2_lightning.files.digests import FileDigests


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
