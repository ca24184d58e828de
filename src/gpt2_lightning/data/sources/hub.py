"""Data sets of the Hugging Face hub."""

import hashlib
import json
import re
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from gpt2_lightning.data.documents import Document
from gpt2_lightning.data.sources.base import Digest, TextSource, check_heading
from gpt2_lightning.data.sources.records import document_of
from gpt2_lightning.data.sources.text import joined
from gpt2_lightning.data.templates import TemplateName
from gpt2_lightning.errors import FieldError
from gpt2_lightning.files.lines import Reject
from gpt2_lightning.ranges import PositiveInt

_COMMIT = re.compile("[0-9a-f]{40}")


class HubDataset(TextSource):
    """A data set of the Hugging Face hub, or a local folder of such a shape; no remote code runs.

    Args:
        name: `owner/name` on the hub, or a local folder.
        config: the configuration (subset); the only or default one if not given.
        split: the split that is read; `train[:10%]` and the like work without `streaming`.
        field: the column that holds the text.
        template: for instruction records, instead of `field`: `alpaca` (`instruction`, `input`,
            `output`), `prompt_response` (`prompt`, `response`), `chat` (`messages`).
        heading: regular expression at the start of a row that opens a document; rows up to the
            next are joined. For data sets that hold a line per row, as WikiText does.
        streaming: read over the network as it goes, instead of downloading first.
        max_documents: read only so many; all if not given.
        revision: branch, tag or commit. The commit it stood for is part of the token store's name, and
            is what is read; given as the commit itself, a finished store needs no network.
    """

    def __init__(
        self,
        name: str,
        config: str | None = None,
        split: str = "train",
        field: str = "text",
        template: TemplateName | None = None,
        heading: str | None = None,
        streaming: bool = False,
        max_documents: PositiveInt | None = None,
        revision: str = "main",
    ) -> None:
        self.name = name
        self.config = config
        self.split = split
        self.field = field
        self.template: TemplateName | None = template
        self.heading = heading
        self.streaming = streaming
        self.max_documents = max_documents
        self.revision = revision
        self.masks_prompts = self.is_instructions = template is not None

    def check(self) -> None:
        check_heading(self.heading)
        if self.heading and self.template:
            raise FieldError("heading: joins rows of plain text; leave it or .template out")

    def fingerprint(self, digest: Digest) -> str:
        folder = Path(self.name)
        files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
        content = list(map(digest, files)) or self._commit  # `datasets` has a folder's times, not bytes
        settings = self.settings() | {"revision": content}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    @cached_property
    def _commit(self) -> str:
        """The commit that `revision` stands for."""
        from datasets import load_dataset_builder

        if _COMMIT.fullmatch(self.revision):
            return self.revision
        try:
            return str(load_dataset_builder(self.name, self.config, revision=self.revision).hash)
        except Exception as error:
            self._fail(error)

    def documents(self, reject: Reject) -> Iterator[Document]:
        if self.heading:
            rows = ((number, row and row.text) for number, row in self._documents_of_rows(reject))
            whole = (Document(text, self._origin(number)) for number, text in joined(rows, self.heading))
            yield from islice(whole, self.max_documents)
        else:
            for _, document in islice(self._documents_of_rows(reject), self.max_documents):
                if document:
                    yield document

    def _documents_of_rows(self, reject: Reject) -> Iterator[tuple[int, Document | None]]:
        """Number and document of each row; `None` for one that was rejected."""
        for number, row in enumerate(self._rows(), start=1):
            yield number, document_of(row, self._origin(number), self.field, self.template, reject)

    def _origin(self, row: int) -> str:
        return f"{self.name} {self.split}: row {row}"

    def _rows(self) -> Iterator[Any]:
        from datasets import load_dataset

        try:
            revision = self.revision if Path(self.name).is_dir() else self._commit
            rows = load_dataset(
                self.name, self.config, split=self.split, streaming=self.streaming, revision=revision
            )
            yield from rows
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> NoReturn:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise FieldError(
            f"name {self.name!r} (config {self.config!r}, split {self.split!r}, "
            f"revision {self.revision!r}) cannot be read: {reason}. Check the names on the hub; without a "
            "network, read it once where there is one and copy its cache (HF_HOME), or give local files with "
            "DATA=json or DATA=parquet"
        ) from None
