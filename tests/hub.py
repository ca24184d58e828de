"""A small Hugging Face hub on loopback: what `datasets` and `transformers` ask for, over real files."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class _Handler(BaseHTTPRequestHandler):
    repositories: ClassVar[dict[str, Path]]

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self._paths = self.rfile.read(length).decode()
        self._answer(body=True)

    def log_message(self, *args: object) -> None:
        pass

    def _answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        for name, folder in self.repositories.items():
            if path.startswith(f"api/{name}"):
                return self._api(path.removeprefix(f"api/{name}").strip("/"), name, folder, body)
            at = name.removeprefix("models/")
            if path.startswith(f"{at}/resolve/"):
                return self._file(folder / path.removeprefix(f"{at}/resolve/").split("/", 1)[1], body)
        return self._json(404, {"error": "Repository not found"}, body, "RepoNotFound")

    def _api(self, rest: str, name: str, folder: Path, body: bool) -> None:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        if rest.startswith(("tree", "paths-info")):
            wanted = getattr(self, "_paths", "")
            entries = [
                {
                    "type": "file",
                    "path": str(path.relative_to(folder)),
                    "size": path.stat().st_size,
                    "oid": _etag(path),
                }
                for path in files
                if rest.startswith("tree") or str(path.relative_to(folder)) in unquote(wanted)
            ]
            return self._json(200, entries, body)
        siblings = [{"rfilename": str(path.relative_to(folder))} for path in files]
        info = {
            "id": name.split("/", 1)[1],
            "sha": COMMIT,
            "siblings": siblings,
            "private": False,
            "tags": [],
        }
        info |= {"downloads": 0, "likes": 0, "gated": False, "disabled": False}
        return self._json(200, info, body)

    def _file(self, path: Path, body: bool) -> None:
        if not path.is_file():
            return self._json(404, {"error": "Entry not found"}, body)
        data = path.read_bytes()
        self.send_response(200)
        self.send_header("ETag", f'"{_etag(path)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self._end(data, body)
        return None

    def _json(self, status: int, content: object, body: bool, code: str = "EntryNotFound") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if status == 404:  # with the commit, so that a client remembers what is not there
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("X-Error-Code", code)
        self._end(json.dumps(content).encode(), body)

    def _end(self, data: bytes, body: bool) -> None:
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)


@contextmanager
def serve(repositories: dict[str, Path]) -> Iterator[str]:
    """Serve folders as repositories (`datasets/owner/name` or `models/owner/name`); gives the address."""
    handler = type("Handler", (_Handler,), {"repositories": repositories})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()
