"""The verbs that do not train."""

from pathlib import Path

import pytest

from tests.commandline.conftest import fit
from tests.test_configs import TEXT, TOY, main, options


def test_preflight_builds_the_store_ahead_of_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main("preflight", *options(tmp_path)[1:], *TEXT, *TOY, "--measure=false") == 0
    assert "TextFiles" in (out := capsys.readouterr().out)
    assert "time " not in out
    assert fit(tmp_path) == 0
    assert "Reading and tokenizing" not in capsys.readouterr().out


def test_export_overwrites_no_foreign_folder(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    run = ["export", f"--config={finished}/config.yaml", f"--ckpt_path={finished}/checkpoints/best.ckpt"]
    with pytest.raises(SystemExit) as stop:
        main(*run, f"--folder={tmp_path / 'mine'}")
    assert stop.value.code == 2
    assert "is no earlier export" in capsys.readouterr().err
    assert (tmp_path / "mine" / "thesis.txt").exists()
    for _ in range(2):  # an earlier export is replaced
        assert main(*run, f"--folder={tmp_path / 'new'}") == 0


def test_export_replaces_what_it_has_written_and_nothing_else(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """A checkout of one's repository on the hub, say."""
    run = ["export", f"--config={finished}/config.yaml", f"--ckpt_path={finished}/checkpoints/best.ckpt"]
    assert main(*run, f"--folder={tmp_path / 'repo'}") == 0
    (tmp_path / "repo" / ".git").mkdir()
    (tmp_path / "repo" / ".git" / "HEAD").write_text("ref")
    with pytest.raises(SystemExit) as stop:
        main(*run, f"--folder={tmp_path / 'repo'}")
    assert stop.value.code == 2
    assert "holds '.git/HEAD', which is of no earlier export" in capsys.readouterr().err
    assert (tmp_path / "repo" / ".git" / "HEAD").read_text() == "ref"
