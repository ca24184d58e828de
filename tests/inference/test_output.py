import json
from pathlib import Path

import pytest

from gpt2_lightning.errors import InputError
from gpt2_lightning.inference.output import check_writable, write_figures


def test_looking_whether_a_file_can_be_written_leaves_it_as_it_is(tmp_path: Path):
    path = tmp_path / "figures.json"
    path.write_text("mine")
    check_writable(str(path))
    check_writable(None)
    assert path.read_text() == "mine"


def test_figures_are_json_in_their_own_letters(tmp_path: Path):
    path = tmp_path / "figures.json"
    write_figures(str(path), [{"model": "人", "nll": 1.5}])
    assert json.loads(path.read_text(encoding="utf-8")) == [{"model": "人", "nll": 1.5}]
    assert "人" in path.read_text(encoding="utf-8")
    write_figures(None, [{}])
    assert [file.name for file in tmp_path.iterdir()] == ["figures.json"]


def test_a_place_that_cannot_be_written_is_named_by_its_option(tmp_path: Path):
    with pytest.raises(InputError, match=r"--output '.*nowhere/x': cannot be written: No such file"):
        check_writable(str(tmp_path / "nowhere" / "x"))
