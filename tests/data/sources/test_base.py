"""How files are found, fetched, and named by their content."""

import errno
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gpt2_lightning.data.sources import JSONFiles, TextFiles
from gpt2_lightning.errors import InputError
from gpt2_lightning.files.digests import FileDigests
from tests.data.sources.reading import jsonl, texts


def test_text_files_from_files_folders_and_globs_each_once(tmp_path: Path):
    for name in ("b.txt", "a.txt", "notes.md", "table.csv"):
        (tmp_path / name).write_text(name)
    entries = [str(tmp_path / "table.csv"), str(tmp_path), str(tmp_path / "*.txt")]
    assert texts(TextFiles(entries)) == ["table.csv", "a.txt", "b.txt", "notes.md"]


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
    assert texts(source) == ["from afar one", "from afar two"]
    server.shutdown()
    server.server_close()
    assert texts(source) == ["from afar one", "from afar two"]
    other = TextFiles(f"{host}/other.txt")
    with pytest.raises(InputError, match=r"^paths 'http.*other.txt': cannot be fetched"):
        texts(other)


def test_missing_text_file_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"^paths '.*nowhere'"):
        TextFiles([str(tmp_path / "nowhere")]).files()


def test_fingerprint_follows_the_bytes(tmp_path: Path):
    file = tmp_path / "a.txt"
    file.write_text("one")
    before = TextFiles([str(file)]).fingerprint(FileDigests(tmp_path / "digests.json"))
    assert TextFiles([str(tmp_path)]).fingerprint(FileDigests(tmp_path / "digests.json")) == before
    file.write_text("two")
    assert TextFiles([str(file)]).fingerprint(FileDigests(tmp_path / "digests.json")) != before


def test_fingerprint_follows_settings_and_bytes_but_not_the_place(tmp_path: Path):
    digests = FileDigests(tmp_path / "digests.json")
    path = jsonl(tmp_path / "a.jsonl", {"text": "x", "body": "y"})
    moved = jsonl(tmp_path / "b.jsonl", {"text": "x", "body": "y"})
    first = JSONFiles(str(path)).fingerprint(digests)
    assert JSONFiles(str(moved)).fingerprint(digests) == first
    assert JSONFiles(str(path), field="body").fingerprint(digests) != first


def test_file_that_cannot_be_read_is_named(tmp_path: Path):
    path = jsonl(tmp_path / "a.jsonl", {"text": "x"})

    def denied(path: Path) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with pytest.raises(InputError, match=r"a.jsonl: cannot be read \(Permission denied\)"):
        JSONFiles(str(path)).fingerprint(denied)
