"""JSON, CSV and Parquet: what is read, and what is said of a record that is none."""

import csv
import gzip
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from gpt2_lightning.data.sources import CSVFiles, JSONFiles, ParquetFiles
from tests.data.sources.reading import jsonl, origins, reasons, texts

TEXTS = ["first text", "第二\n行", "third"]


def zstd(data: bytes) -> bytes:
    return pyarrow.Codec("zstd").compress(data, asbytes=True)


def test_json_lines_plain_and_compressed_and_json_arrays(tmp_path: Path):
    lines = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode()
    (tmp_path / "a.jsonl").write_bytes(lines)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines))
    (tmp_path / "c.jsonl.zst").write_bytes(zstd(lines))
    (tmp_path / "d.json").write_text(json.dumps([{"text": text} for text in TEXTS], indent=1))
    assert texts(JSONFiles(str(tmp_path))) == TEXTS * 4


def test_csv_and_tsv_with_line_breaks_inside_fields(tmp_path: Path):
    for name, delimiter in (("a.csv", ","), ("b.tsv", "\t")):
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter=delimiter).writerows(
                [["id", "body"], *([i, t] for i, t in enumerate(TEXTS))]
            )
    assert texts(CSVFiles(str(tmp_path), field="body")) == TEXTS * 2


def test_parquet(tmp_path: Path):
    table = pyarrow.table({"text": TEXTS, "number": [1, 2, 3]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    source = ParquetFiles(str(tmp_path))
    assert texts(source) == TEXTS
    assert origins(source)[2].endswith("a.parquet: row group 2, row 1")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"txt": "x", "id": 1}, "no field 'text'; there are: txt, id"),
        ({"text": None}, "the field 'text' is null, not text"),
        ({"text": 5}, "the field 'text' is a number, not text"),
        (["x"], "a list where a record with the field 'text' belongs"),
        ({"text": "\ud83d"}, "the field 'text' holds half of a surrogate pair, which is no text"),
    ],
)
def test_record_that_is_no_text_says_file_line_and_reason(tmp_path: Path, record: object, reason: str):
    path = jsonl(tmp_path / "a.jsonl", {"text": "good"}, record, {"text": "good too"})
    source = JSONFiles(str(path))
    assert reasons(source) == [f"{path}:2: {reason}"]
    assert texts(source) == ["good", "good too"]


def test_broken_json_names_the_line(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"text": "good"}\n{"text": \n')
    (tmp_path / "b.json").write_text('[{"text": "good"},\n{"text"]')
    first, second = reasons(JSONFiles(str(tmp_path)))
    assert first.startswith(f"{tmp_path}/a.jsonl:2: broken JSON")
    assert second.startswith(f"{tmp_path}/b.json:2: broken JSON")


def test_a_json_array_with_a_bad_line_counts_once(tmp_path: Path):
    (tmp_path / "a.json").write_bytes(b'[{"text": "good"},\n{"text": "\xff"},\n{"text": "\xff"}]')
    source = JSONFiles(str(tmp_path))
    assert texts(source) == []
    (reason,) = reasons(source)
    assert reason.startswith(f"{tmp_path}/a.json:2: byte 0xff is not UTF-8")


def test_csv_row_of_another_width_names_the_line(tmp_path: Path):
    (tmp_path / "a.csv").write_text("id,text\n1,good\n2\n3,good,more\n")
    source = CSVFiles(str(tmp_path))
    assert [reason.split(": ")[0].rsplit(":")[-1] for reason in reasons(source)] == ["3", "4"]
    assert texts(source) == ["good"]


def test_csv_numbers_start_after_the_line_of_names(tmp_path: Path):
    (tmp_path / "a.csv").write_text("text\nfirst\nsecond\n")
    assert origins(CSVFiles(str(tmp_path))) == [f"{tmp_path}/a.csv:2", f"{tmp_path}/a.csv:3"]


def test_csv_bytes_that_are_not_utf8_cost_their_record_and_no_number(tmp_path: Path):
    (tmp_path / "a.csv").write_bytes(b'text\ngood\n"two\n\xff lines"\ngood\n\n"cut\n')
    source = CSVFiles(str(tmp_path))
    assert origins(source) == [f"{tmp_path}/a.csv:2", f"{tmp_path}/a.csv:5"]
    first, last = reasons(source)
    assert first.startswith(f"{tmp_path}/a.csv:3: byte 0xff is not UTF-8")
    assert last == f"{tmp_path}/a.csv:7: broken CSV: unexpected end of data"
    (tmp_path / "a.csv").write_bytes(b"te\xfft\ngood\n")
    (reason,) = reasons(source)
    assert reason.startswith(f"{tmp_path}/a.csv:1: byte 0xff")


def test_a_compressed_csv_that_breaks_off_inside_a_row_says_both(tmp_path: Path):
    rows = "text\n" + "".join(f'"{number} and\nmore"\n' for number in range(20000))
    half = gzip.compress(rows.encode() + b'"half\nmore', compresslevel=0)
    (tmp_path / "a.csv.gz").write_bytes(half[:-8])  # what tells the end is missing
    source = CSVFiles(str(tmp_path))
    row, rest = reasons(source)
    assert row.endswith("a.csv.gz:40002: broken CSV: unexpected end of data")
    assert "the compressed file cannot be read on" in rest
    assert len(texts(source)) == 20000


@pytest.mark.parametrize(
    ("header", "reason"), [(b"text\rid\n", "broken CSV"), (b"text,text\n", "two columns of the first line")]
)
def test_csv_without_usable_names_says_so(tmp_path: Path, header: bytes, reason: str):
    (tmp_path / "a.csv").write_bytes(header)
    assert reasons(CSVFiles(str(tmp_path)))[0].startswith(f"{tmp_path}/a.csv:1: {reason}")


def test_rows_of_parquet_that_are_not_utf8_cost_themselves_alone(tmp_path: Path):
    raw = pyarrow.array([b"good", b"\xff", b"good too"], pyarrow.binary())
    text = pyarrow.Array.from_buffers(pyarrow.string(), 3, raw.buffers())
    pyarrow.parquet.write_table(pyarrow.table({"text": text}), tmp_path / "a.parquet")
    source = ParquetFiles(str(tmp_path))
    assert texts(source) == ["good", "good too"]
    assert [reason.split(": is not")[0] for reason in reasons(source)] == [
        f"{tmp_path}/a.parquet: row group 1, row 2"
    ]


@pytest.mark.parametrize("text", ["1" * 5000, "[" * 100_000], ids=["digits", "depth"])
def test_json_that_python_cannot_hold_is_broken_too(tmp_path: Path, text: str):
    (tmp_path / "a.json").write_text("[" + text)
    (tmp_path / "b.jsonl").write_text(text)
    found = reasons(JSONFiles(str(tmp_path)))
    assert len(found) == 2
    assert all("broken JSON" in reason or "belongs" in reason for reason in found)


def test_truncated_files_say_so(tmp_path: Path):
    lines = "".join(json.dumps({"text": str(i) * 50}) + "\n" for i in range(5000)).encode()
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines)[:-2000])
    (tmp_path / "b.jsonl.zst").write_bytes(zstd(lines)[:-2000])
    found = reasons(JSONFiles(str(tmp_path)))
    assert "a.jsonl.gz:" in found[0]
    assert "cannot be read on" in found[0]
    assert "b.jsonl.zst:" in found[-1]
    assert "cannot be read on" in found[-1]
    pyarrow.parquet.write_table(pyarrow.table({"text": TEXTS}), tmp_path / "whole.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "whole.parquet").read_bytes()[:-20])
    (reason,) = reasons(ParquetFiles(str(tmp_path / "cut.parquet")))
    assert "cut.parquet: no whole Parquet file" in reason
