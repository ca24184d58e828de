"""Text that ships inside the running Python: no network."""

import ast
import os
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import Path

from gpt2_lightning.data.documents import Document
from gpt2_lightning.data.sources.base import LocalSource, TextSource
from gpt2_lightning.files.lines import Reject

_NOT_LIBRARY = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}


class _StandardLibrary(LocalSource, TextSource):
    def __init__(self) -> None:
        self._library = Path(sysconfig.get_path("stdlib"))

    def files(self) -> list[Path]:
        found: list[Path] = []
        for folder, below, names in os.walk(self._library):
            below[:] = set(below) - _NOT_LIBRARY  # what is taken out is not walked
            found += [Path(folder, name) for name in names if name.endswith(".py")]
        return sorted(found)


class PythonDocs(_StandardLibrary):
    """English documentation that ships inside the running Python: about 2 MB, no network.

    The language reference (`pydoc_data.topics`), one document per topic, and the docstrings of the
    standard library, one document per module. The modules are read with `ast`, never imported.
    """

    def documents(self, reject: Reject) -> Iterator[Document]:
        for path in self.files():
            name = path.relative_to(self._library)
            tree = _parse(path)
            if name.as_posix() == "pydoc_data/topics.py":
                for line, text in _topics(tree):
                    yield Document(text, f"{name.as_posix()}:{line}")
            elif text := "\n\n".join(_docstrings(tree, _module_name(name))):
                yield Document(text + "\n", name.as_posix())


class PythonSource(_StandardLibrary):
    """The Python code of the standard library, one document per module: about 10 MB, no network."""

    def documents(self, reject: Reject) -> Iterator[Document]:
        for path in self.files():
            with tokenize.open(path) as file:
                yield Document(file.read(), path.relative_to(self._library).as_posix())


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
