import ast
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gpt2_lightning.data.documents import Rejected
from gpt2_lightning.data.sources import PythonDocs, TextFiles
from gpt2_lightning.data.sources.python import _docstrings
from gpt2_lightning.errors import InputError
from gpt2_lightning.files.digests import FileDigests


def test_python_docs_hold_the_reference_manual_and_docstrings():
    documents = {document.origin: document.text for document in PythonDocs().documents()}
    assert sum(len(text.encode()) for text in documents.values()) > 1_000_000
    assert documents["json/decoder.py"].startswith("json.decoder\nImplementation of JSONDecoder")
    topics = [text for origin, text in documents.items() if origin.startswith("pydoc_data/topics.py:")]
    assert any(text.startswith('The "with" statement') for text in topics)
    assert not any("/test/" in origin or "site-packages" in origin for origin in documents)


def test_docstrings_are_named_and_in_the_order_of_the_source():
    source = '''
"""Module."""
class A:
    """Class."""
    x = 1
    def f(self):
        """Method."""
        def hidden():
            """Inner."""
async def g():
    """Coroutine."""
'''
    names = ["m", "m.A", "m.A.f", "m.A.f.hidden", "m.g"]
    texts = ["Module.", "Class.", "Method.", "Inner.", "Coroutine."]
    expected = [f"{name}\n{text}" for name, text in zip(names, texts, strict=True)]
    assert list(_docstrings(ast.parse(source), "m")) == expected


def test_text_files_from_files_folders_and_globs_each_once(tmp_path: Path):
    for name in ("b.txt", "a.txt", "notes.md", "table.csv"):
        (tmp_path / name).write_text(name)
    entries = [str(tmp_path / "table.csv"), str(tmp_path), str(tmp_path / "*.txt")]
    texts = [document.text for document in TextFiles(entries).documents()]
    assert texts == ["table.csv", "a.txt", "b.txt", "notes.md"]


def test_an_address_is_fetched_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        (tmp_path / "web" / name).mkdir(parents=True)
        (tmp_path / "web" / name / "input.txt").write_text(f"from afar {name}")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "web")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"http://127.0.0.1:{server.server_port}"
    source = TextFiles([f"{host}/one/input.txt", f"{host}/two/input.txt?raw=1"])
    assert [document.text for document in source.documents()] == ["from afar one", "from afar two"]
    server.shutdown()
    server.server_close()
    assert [document.text for document in source.documents()] == ["from afar one", "from afar two"]
    other = TextFiles(f"{host}/other.txt")
    with pytest.raises(InputError, match=r"--data.corpus.source.paths 'http.*other.txt': cannot be fetched"):
        list(other.documents())


def test_missing_text_file_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"--data.corpus.source.paths '.*nowhere'"):
        TextFiles([str(tmp_path / "nowhere")]).files()


def test_text_that_is_not_utf8_names_file_line_and_byte(tmp_path: Path):
    (tmp_path / "latin.txt").write_bytes(b"first\nsecond caf\xe9\n")
    (record,) = TextFiles(str(tmp_path)).documents()
    assert isinstance(record, Rejected)
    assert record.origin.endswith("latin.txt:2")
    assert record.reason.startswith("byte 0xe9 is not UTF-8")


def test_fingerprint_follows_the_bytes(tmp_path: Path):
    file = tmp_path / "a.txt"
    file.write_text("one")
    before = TextFiles([str(file)]).fingerprint(FileDigests(tmp_path / "digests.json"))
    assert TextFiles([str(tmp_path)]).fingerprint(FileDigests(tmp_path / "digests.json")) == before
    file.write_text("two")
    assert TextFiles([str(file)]).fingerprint(FileDigests(tmp_path / "digests.json")) != before
