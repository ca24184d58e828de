import gzip
import json
from pathlib import Path

import pyarrow
import pytest

from gpt2_lightning.errors import InputError
from gpt2_lightning.files.lines import ignore, not_utf8, read_lines, take_back


def test_lines_have_their_numbers_and_one_kind_of_end(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufefffirst\r\nsecond\rhalf\n第三".encode())
    assert list(read_lines(path, ignore)) == [(1, "first\n"), (2, "second\rhalf\n"), (3, "第三")]


def test_a_line_that_is_not_utf8_is_rejected_or_kept_as_it_is(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"good\ncaf\xe9\ngood\n")
    told: list[tuple[str, str]] = []
    assert list(read_lines(path, lambda *of: told.append(of))) == [(1, "good\n"), (2, None), (3, "good\n")]
    ((origin, reason),) = told
    assert origin == f"{path}:2"
    assert reason.startswith("byte 0xe9 is not UTF-8")
    kept = [text for _, text in read_lines(path, ignore, keep_bytes=True)]
    assert [bool(not_utf8(str(text), path)) for text in kept] == [False, True, False]


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_what_is_left_of_a_compressed_file_is_read_and_its_end_rejected(tmp_path: Path, suffix: str):
    lines = b"".join(f"{number} {'x' * 40}\n".encode() for number in range(20_000))
    whole = gzip.compress(lines) if suffix == ".gz" else pyarrow.Codec("zstd").compress(lines, asbytes=True)
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(whole)
    assert sum(1 for _ in read_lines(path, ignore)) == 20_000
    path.write_bytes(whole[: len(whole) // 2])
    told: list[tuple[str, str]] = []
    *read, last = read_lines(path, lambda *of: told.append(of))
    assert last == (len(read) + 1, None)
    assert told[0][0] == f"{path}:{len(read) + 1}"
    assert "cannot be read on" in told[0][1]


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"gone.txt: cannot be read \(No such file"):
        list(read_lines(tmp_path / "gone.txt", ignore))


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
