"""Each kind of source: what it reads, and what it says of a record that is none."""

import csv
import errno
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from gpt2_lightning.data.corpus import Corpus
from gpt2_lightning.data.documents import Document, Rejected
from gpt2_lightning.data.sources import (
    CSVFiles,
    HubDataset,
    JSONFiles,
    Mixture,
    ParquetFiles,
    PythonSource,
    Source,
    TextFiles,
    TokenFiles,
)
from gpt2_lightning.errors import InputError
from gpt2_lightning.files.digests import FileDigests

TEXTS = ["first text", "第二\n行", "third"]


def texts(source: Source) -> list[str]:
    return [record.text for record in source.documents() if isinstance(record, Document)]


def reasons(source: Source) -> list[str]:
    return [f"{r.origin}: {r.reason}" for r in source.documents() if isinstance(r, Rejected)]


def jsonl(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


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
    records = list(ParquetFiles(str(tmp_path)).documents())
    assert [record.text for record in records if isinstance(record, Document)] == TEXTS
    assert records[2].origin.endswith("a.parquet: row group 2, row 1")


def test_python_source_is_the_library(tmp_path: Path):
    documents = {
        record.origin: record.text for record in PythonSource().documents() if isinstance(record, Document)
    }
    assert "class JSONDecoder" in documents["json/decoder.py"]


def test_hub_dataset_from_a_local_folder_joins_rows_by_heading(tmp_path: Path):
    rows = [" = A = \n", "one\n", " = = part = = \n", " = B = \n", "two\n"]
    jsonl(tmp_path / "train.jsonl", *({"text": row} for row in rows))
    assert texts(HubDataset(str(tmp_path), heading=" = [^=]")) == ["".join(rows[:3]), "".join(rows[3:])]
    assert texts(HubDataset(str(tmp_path), streaming=True, max_documents=2)) == rows[:2]


def test_joined_rows_with_one_that_is_no_text_are_left_out_whole(tmp_path: Path):
    rows = [" = A = \n", None, " = B = \n", "two\n"]
    jsonl(tmp_path / "train.jsonl", *({"text": row} for row in rows))
    source = HubDataset(str(tmp_path), heading=" = [^=]")
    assert texts(source) == ["".join(str(row) for row in rows[2:])]
    assert len(reasons(source)) == 1


@pytest.mark.parametrize(
    "options", [{"heading": "("}, {"heading": "x", "template": "alpaca"}], ids=["pattern", "template"]
)
def test_hub_options_that_cannot_work_are_refused(options: dict[str, Any]):
    with pytest.raises(InputError, match=r"--data.corpus.test.heading"):
        Corpus(JSONFiles("a"), test=HubDataset("owner/set", **options))


@pytest.mark.parametrize("options", [{"name": "nowhere/no-such-set"}, {"split": "tset"}, {"config": "other"}])
def test_hub_dataset_that_cannot_be_read_names_the_option(
    tmp_path: Path, options: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    jsonl(tmp_path / "train.jsonl", {"text": "x"})
    source = HubDataset(**({"name": str(tmp_path)} | options))
    with pytest.raises(InputError, match=r"--data.corpus.source.name .* cannot be read: .*DATA=json"):
        list(source.documents())


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


def test_csv_row_of_another_width_names_the_line(tmp_path: Path):
    (tmp_path / "a.csv").write_text("id,text\n1,good\n2\n3,good,more\n")
    source = CSVFiles(str(tmp_path))
    assert [reason.split(": ")[0].rsplit(":")[-1] for reason in reasons(source)] == ["3", "4"]
    assert texts(source) == ["good"]


def test_csv_numbers_start_after_the_line_of_names(tmp_path: Path):
    (tmp_path / "a.csv").write_text("text\nfirst\nsecond\n")
    records = CSVFiles(str(tmp_path)).documents()
    assert [record.origin.rsplit(":")[-1] for record in records] == ["2", "3"]


def test_csv_bytes_that_are_not_utf8_cost_their_record_and_no_number(tmp_path: Path):
    (tmp_path / "a.csv").write_bytes(b'text\ngood\n"two\n\xff lines"\ngood\n\n"cut\n')
    source = CSVFiles(str(tmp_path))
    records = list(source.documents())
    assert [record.origin.rsplit(":")[-1] for record in records] == ["2", "3", "5", "7"]
    first, last = reasons(source)
    assert first.startswith(f"{tmp_path}/a.csv:3: byte 0xff is not UTF-8")
    assert last == f"{tmp_path}/a.csv:7: broken CSV: unexpected end of data"
    (tmp_path / "a.csv").write_bytes(b"te\xfft\ngood\n")
    (reason,) = reasons(source)
    assert reason.startswith(f"{tmp_path}/a.csv:1: byte 0xff")


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


@pytest.mark.parametrize("options", [{"separator": " *"}, {"min_chars": 5}])
def test_text_options_that_do_nothing_are_refused(options: dict[str, Any]):
    with pytest.raises(InputError, match=rf"--data.corpus.source.{next(iter(options))}"):
        Corpus(TextFiles("a.txt", **options))


def test_file_that_cannot_be_read_is_named(tmp_path: Path):
    path = jsonl(tmp_path / "a.jsonl", {"text": "x"})

    def denied(path: Path) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with pytest.raises(InputError, match=r"a.jsonl: cannot be read \(Permission denied\)"):
        JSONFiles(str(path)).fingerprint(denied)


def test_skipping_a_bad_document_keeps_the_next(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"\xff\n\ngood\n\nbetter\n")
    source = TextFiles(str(tmp_path), separator="")
    assert texts(source) == ["good\n\n", "better\n"]
    assert len(reasons(source)) == 1


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


def test_byte_order_mark_and_crlf_are_read_as_plain_lines(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbffirst\r\nsecond\rhalf\n")
    assert texts(TextFiles(str(tmp_path))) == ["first\nsecond\rhalf\n"]


def test_text_files_are_cut_at_blank_lines_headings_and_separators(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("one\n\n\ntwo\nmore\n\nthree\n")
    assert texts(TextFiles(str(path), separator="")) == ["one\n\n\n", "two\nmore\n\n", "three\n"]
    assert texts(TextFiles(str(path), separator="", min_chars=8)) == ["one\n\n\ntwo\nmore\n\n", "three\n"]
    path.write_text("one\n<|endoftext|>\ntwo\n<|endoftext|>\n")
    assert texts(TextFiles(str(path), separator="<|endoftext|>")) == ["one\n", "two\n"]
    path.write_text(" = A = \na\n = = part = = \n = B = \n")
    assert texts(TextFiles(str(path), heading=" = [^=]")) == [" = A = \na\n = = part = = \n", " = B = \n"]


def test_span_is_a_share_of_the_characters(tmp_path: Path):
    (tmp_path / "a.txt").write_text("abcd\nefgh\n")  # 10 characters
    assert texts(TextFiles(str(tmp_path), span=(0, 0.7))) == ["abcd\nef"]
    assert texts(TextFiles(str(tmp_path), span=(0.7, 1))) == ["gh\n"]
    with pytest.raises(InputError, match=r"--data.corpus.validation.span"):
        Corpus(TextFiles(str(tmp_path)), validation=TextFiles(str(tmp_path), span=(0.7, 0.1)))


def test_templates_mask_the_prompt(tmp_path: Path):
    def segments(template, record) -> list[tuple[str, bool]]:
        (document,) = JSONFiles(str(jsonl(tmp_path / "a.jsonl", record)), template=template).documents()
        assert isinstance(document, Document)
        assert document.text == "".join(segment.text for segment in document.segments)
        return [(segment.text, segment.learned) for segment in document.segments]

    assert segments("prompt_response", {"prompt": "1+1=", "response": "2"}) == [("1+1=", False), ("2", True)]
    alpaca = segments("alpaca", {"instruction": "Add.", "input": "1 1", "output": "2"})
    assert alpaca == [("### Instruction:\nAdd.\n\n### Input:\n1 1\n\n### Response:\n", False), ("2", True)]
    roles = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    chat = [("### User:\n", False), ("hi\n", False), ("\n### Assistant:\n", False), ("hello", True)]
    assert segments("chat", {"messages": roles}) == chat


def test_mixture_repeats_or_thins_documents_by_weight(tmp_path: Path):
    a = jsonl(tmp_path / "a.jsonl", *({"text": f"a{i}"} for i in range(400)))
    b = jsonl(tmp_path / "b.jsonl", *({"text": f"b{i}"} for i in range(10)))
    mixture = Mixture([JSONFiles(str(a)), JSONFiles(str(b))], [0.5, 2])
    records = [record for record in mixture.documents() if isinstance(record, Document)]
    found = [record.text for record in records if record.only_for != "held out"]
    assert found[-20:] == [f"b{i}" for i in range(10)] * 2
    assert 150 < len(found) - 20 < 250
    with pytest.raises(InputError, match=r"--data.corpus.source.weights"):
        Corpus(Mixture([JSONFiles(str(a))], [1, 2]))
    with pytest.raises(InputError, match=r"--data.corpus.source.sources\[1\] TokenFiles"):
        Corpus(Mixture([JSONFiles(str(a)), TokenFiles("x.bin")]))


def test_fingerprint_follows_settings_and_bytes_but_not_the_place(tmp_path: Path):
    digests = FileDigests(tmp_path / "digests.json")
    path = jsonl(tmp_path / "a.jsonl", {"text": "x", "body": "y"})
    moved = jsonl(tmp_path / "b.jsonl", {"text": "x", "body": "y"})
    first = JSONFiles(str(path)).fingerprint(digests)
    assert JSONFiles(str(moved)).fingerprint(digests) == first
    assert JSONFiles(str(path), field="body").fingerprint(digests) != first


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
