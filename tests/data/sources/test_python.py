"""Text inside the running Python."""

import ast

from gpt2_lightning.data.sources import PythonDocs, PythonSource
from gpt2_lightning.data.sources.python import _docstrings
from gpt2_lightning.files.lines import ignore


def test_python_docs_hold_the_reference_manual_and_docstrings():
    documents = {document.origin: document.text for document in PythonDocs().documents(ignore)}
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


def test_python_source_is_the_library():
    documents = {document.origin: document.text for document in PythonSource().documents(ignore)}
    assert "class JSONDecoder" in documents["json/decoder.py"]
