"""Plain text: where documents begin and end."""

from pathlib import Path
from typing import Any

import pytest

from gpt2_lightning.data.corpus import Corpus
from gpt2_lightning.data.sources import TextFiles
from gpt2_lightning.errors import InputError
from tests.data.sources.reading import origins, reasons, texts


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


def test_documents_are_named_by_their_file_and_first_line(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("one\n\ntwo\n")
    assert origins(TextFiles(str(path))) == [str(path)]
    assert origins(TextFiles(str(path), separator="")) == [f"{path}:1", f"{path}:3"]


def test_span_is_a_share_of_the_characters(tmp_path: Path):
    (tmp_path / "a.txt").write_text("abcd\nefgh\n")  # 10 characters
    assert texts(TextFiles(str(tmp_path), span=(0, 0.7))) == ["abcd\nef"]
    assert texts(TextFiles(str(tmp_path), span=(0.7, 1))) == ["gh\n"]
    with pytest.raises(InputError, match=r"--data.corpus.validation.span"):
        Corpus(TextFiles(str(tmp_path)), validation=TextFiles(str(tmp_path), span=(0.7, 0.1)))


def test_text_that_is_not_utf8_names_file_line_and_byte(tmp_path: Path):
    (tmp_path / "latin.txt").write_bytes(b"first\nsecond caf\xe9\n")
    (reason,) = reasons(TextFiles(str(tmp_path)))
    assert reason.startswith(f"{tmp_path}/latin.txt:2: byte 0xe9 is not UTF-8")
    assert texts(TextFiles(str(tmp_path))) == []


def test_a_bad_line_costs_the_document_it_stands_in_and_no_other(tmp_path: Path):
    path = tmp_path / "a.txt"
    for bad in range(3):
        pieces = [b"one\nmore\n\n", b"two\nmore\n\n", b"three\nmore\n"]
        pieces[bad] = pieces[bad].replace(b"more", b"\xff")
        path.write_bytes(b"".join(pieces))
        for options in ({}, {"span": (0, 0.999)}):
            source = TextFiles(str(path), separator="", **options)
            kept = [text.strip()[:3] for text in texts(source)]
            assert kept == [text for n, text in enumerate(("one", "two", "thr")) if n != bad]
            assert len(reasons(source)) == 1


@pytest.mark.parametrize("options", [{"separator": " *"}, {"min_chars": 5}])
def test_text_options_that_do_nothing_are_refused(options: dict[str, Any]):
    with pytest.raises(InputError, match=rf"--data.corpus.source.{next(iter(options))}"):
        Corpus(TextFiles("a.txt", **options))
