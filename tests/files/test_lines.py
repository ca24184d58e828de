import json
from pathlib import Path

from gpt2_lightning.files.lines import take_back


def test_what_is_past_the_step_goes_and_what_is_cut_too(tmp_path: Path):
    """Separators of lines that JSON keeps as they are, and a character that a kill has cut in two."""
    path = tmp_path / "samples.jsonl"
    rows = [{"step": step, "text": "a\u2028b\x85c\x0c人"} for step in (10, 20, 30)]
    lines = [json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows]
    path.write_bytes(b"".join(lines) + lines[0][:-5])
    assert take_back(path, 20) == rows[:2]
    assert path.read_bytes() == b"".join(lines[:2])


def test_no_file_is_no_line(tmp_path: Path):
    assert take_back(tmp_path / "samples.jsonl", 20) == []
    assert not list(tmp_path.iterdir())
