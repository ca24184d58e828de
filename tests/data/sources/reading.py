"""What the tests of sources read."""

import json
from pathlib import Path

from gpt2_lightning.data.sources import TextSource
from gpt2_lightning.files.lines import ignore


def texts(source: TextSource) -> list[str]:
    return [document.text for document in source.documents(ignore)]


def origins(source: TextSource) -> list[str]:
    return [document.origin for document in source.documents(ignore)]


def reasons(source: TextSource) -> list[str]:
    """What is rejected, as `origin: reason`."""
    rejected: list[str] = []
    list(source.documents(lambda *record: rejected.append(": ".join(record))))
    return rejected


def jsonl(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path
