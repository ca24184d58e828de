"""Where text comes from: each source yields documents, and knows the files they are made of."""

import ast
import glob
import hashlib
import sysconfig
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gpt2_lightning.errors import InputError

_NOT_DOCUMENTATION = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}


@dataclass(frozen=True)
class Document:
    """One text, and where it came from (`file` or `file:line`)."""

    text: str
    origin: str


class Source(ABC):
    """A corpus: documents in a fixed order, and the files that decide them."""

    @abstractmethod
    def files(self) -> list[Path]:
        """The files whose bytes decide the documents, in a fixed order."""

    @abstractmethod
    def documents(self) -> Iterator[Document]:
        """Every document of the corpus, in a fixed order."""

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the source's kind and its files' bytes: it changes when the text does."""
        digest = hashlib.sha256(type(self).__name__.encode())
        for path in self.files():
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()


class PythonDocs(Source):
    """English documentation that ships inside the running Python: about 2 MB, no network.

    The language reference (`pydoc_data.topics`), one document per topic, and the docstrings of the
    standard library, one document per module. The modules are read with `ast`, never imported.
    """

    def __init__(self) -> None:
        self._library = Path(sysconfig.get_path("stdlib"))

    def files(self) -> list[Path]:
        return [
            path
            for path in sorted(self._library.rglob("*.py"))
            if not _NOT_DOCUMENTATION.intersection(path.relative_to(self._library).parts)
        ]

    def documents(self) -> Iterator[Document]:
        for path in self.files():
            name = path.relative_to(self._library)
            tree = _parse(path)
            if name.as_posix() == "pydoc_data/topics.py":
                for line, text in _topics(tree):
                    yield Document(text, f"{name.as_posix()}:{line}")
            elif text := "\n\n".join(_docstrings(tree, _module_name(name))):
                yield Document(text + "\n", name.as_posix())


class TextFiles(Source):
    """UTF-8 text files, one document per file.

    Args:
        paths: files, folders (every `*.txt` and `*.md` below them) or globs such as `books/**/*.txt`.
    """

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def files(self) -> list[Path]:
        """The files that `paths` name, each once, in the order of `paths` and then of their names.

        Raises:
            InputError: if an entry of `paths` names no file.
        """
        found: dict[Path, None] = {}
        for entry in self.paths:
            matches = _expand(entry)
            if not matches:
                raise InputError(
                    f"--data.corpus.source.paths {entry!r}: no such file, no *.txt or *.md below such a "
                    "folder, and no file matches it as a glob"
                )
            found.update(dict.fromkeys(matches))
        return list(found)

    def documents(self) -> Iterator[Document]:
        for path in self.files():
            data = path.read_bytes()
            try:
                yield Document(data.decode("utf-8"), str(path))
            except UnicodeDecodeError as error:
                line = data.count(b"\n", 0, error.start) + 1
                raise InputError(
                    f"{path}:{line}: byte 0x{data[error.start]:02x} is not UTF-8; convert the file, "
                    f"for example with: iconv -f LATIN1 -t UTF-8 {path}"
                ) from None


def _expand(entry: str) -> list[Path]:
    path = Path(entry)
    if path.is_file():
        return [path]
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if p.suffix in {".txt", ".md"} and p.is_file())
    return sorted(path for path in map(Path, glob.glob(entry, recursive=True)) if path.is_file())  # noqa: PTH207


def _parse(path: Path) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in old library modules
        return ast.parse(path.read_bytes(), filename=str(path))


def _topics(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of each entry of the dictionary literal in `pydoc_data/topics.py`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            for value in node.values:
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield value.lineno, value.value


def _docstrings(node: ast.AST, name: str) -> Iterator[str]:
    """The docstrings of a module, class or function and of what it defines, each under its name."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        if text := ast.get_docstring(node):
            yield f"{name}\n{text}"
        for child in node.body:
            yield from _docstrings(child, f"{name}.{getattr(child, 'name', '')}")


def _module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
