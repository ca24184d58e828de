"""Files of records with named fields: JSON, CSV and Parquet."""

import csv
import json
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpt2_lightning.data.documents import BadRecordError, Document, Record, Rejected
from gpt2_lightning.data.sources.base import FileSource, not_utf8, read_lines
from gpt2_lightning.data.templates import TEMPLATES, TemplateName, text_field


def document_of(record: Any, origin: str, field: str, template: TemplateName | None) -> Record:
    """The document of a record: its text field, or its fields through a template."""
    try:
        if template is None:
            return Document(text_field(record, field), origin)
        return Document.of(TEMPLATES[template](record), origin)
    except BadRecordError as error:
        return Rejected(origin, str(error))


class RecordFiles(FileSource):
    """Files of records; a subclass reads its format.

    Args:
        paths: a file, a folder, a glob, or a list of these.
        field: the field that holds the text.
        template: for instruction records, instead of `field`: `alpaca`, `prompt_response`, `chat`.
    """

    def __init__(
        self, paths: str | list[str], field: str = "text", template: TemplateName | None = None
    ) -> None:
        super().__init__(paths)
        self.field = field
        self.template: TemplateName | None = template
        self.masks_prompts = template is not None

    def documents(self) -> Iterator[Record]:
        for path in self.files():
            for origin, record in self._records(path):
                if isinstance(record, Rejected):
                    yield record
                else:
                    yield document_of(record, origin, self.field, self.template)

    @abstractmethod
    def _records(self, path: Path) -> Iterator[tuple[str, Any]]:
        """Origin and content of each record of a file, or why it cannot be read."""


class JSONFiles(RecordFiles):
    """JSON Lines, or one JSON array of records; also `.gz` and `.zst`.

    A file that opens with `[` is read as one array and held in memory.

    Args:
        paths: a file, a folder (every `.jsonl`, `.ndjson` and `.json` below it), a glob, or a list
            of these.
        field: the field that holds the text.
        template: for instruction records, instead of `field`: `alpaca` (`instruction`, `input`,
            `output`), `prompt_response` (`prompt`, `response`), `chat` (`messages`).
    """

    suffixes = (".jsonl", ".ndjson", ".json")

    def _records(self, path: Path) -> Iterator[tuple[str, Any]]:
        lines = read_lines(path)
        for number, line in lines:
            origin = f"{path}:{number}"
            if isinstance(line, Rejected):
                yield origin, line
            elif number == 1 and line.lstrip().startswith("["):
                yield from _array(path, line, lines)
            elif line.strip():
                try:
                    yield origin, json.loads(line)
                except ValueError as error:
                    yield origin, Rejected(origin, f"broken JSON: {error}")


def _array(path: Path, first: str, rest: Iterator[tuple[int, str | Rejected]]) -> Iterator[tuple[str, Any]]:
    """The records of a JSON array; the origin is the number of the record, from 1."""
    text = [first]
    for _, line in rest:
        if isinstance(line, Rejected):
            yield line.origin, line
            return
        text.append(line)
    try:
        records = json.loads("".join(text))
    except json.JSONDecodeError as error:
        origin = f"{path}:{error.lineno}"
        yield origin, Rejected(origin, f"broken JSON: {error}")
        return
    for number, record in enumerate(records, start=1):
        yield f"{path}: record {number}", record


class CSVFiles(RecordFiles):
    """CSV, or TSV where the name says so, with the names of the columns in the first line.

    Args:
        paths: a file, a folder (every `.csv` and `.tsv` below it), a glob, or a list of these.
        field: the column that holds the text.
        template: for instruction records, instead of `field`: `alpaca` (`instruction`, `input`,
            `output`) or `prompt_response` (`prompt`, `response`).
    """

    suffixes = (".csv", ".tsv")

    def _records(self, path: Path) -> Iterator[tuple[str, Any]]:
        unreadable: list[Rejected] = []
        csv.field_size_limit(2**31 - 1)
        lines = _readable(read_lines(path, keep_bytes=True), unreadable)
        reader = csv.DictReader(lines, delimiter="\t" if ".tsv" in path.suffixes else ",")
        names = reader.fieldnames or ()  # reads the first line, so that numbers are right from the second on
        if reason := not_utf8(" ".join(names), path):
            yield f"{path}:1", Rejected(f"{path}:1", reason)
            return
        while True:
            origin = f"{path}:{reader.line_num + 1}"
            try:
                record = next(reader, None)
            except csv.Error as error:
                yield origin, Rejected(origin, f"broken CSV: {error}")
                continue
            while unreadable:
                yield unreadable[0].origin, unreadable.pop(0)
            if record is None:
                return
            if None in record or None in record.values():
                yield origin, Rejected(origin, f"the row has not the {len(names)} fields of the first line")
            elif reason := not_utf8(" ".join(record.values()), path):
                yield origin, Rejected(origin, reason)
            else:
                yield origin, record


def _readable(lines: Iterator[tuple[int, str | Rejected]], rest: list[Rejected]) -> Iterator[str]:
    """The lines; what ends a compressed file early goes to `rest`."""
    for _, line in lines:
        if isinstance(line, Rejected):
            rest.append(line)
        else:
            yield line


class ParquetFiles(RecordFiles):
    """Parquet files, read a batch of rows at a time.

    Args:
        paths: a file, a folder (every `.parquet` below it), a glob, or a list of these.
        field: the column that holds the text.
        template: for instruction records, instead of `field`: `alpaca` (`instruction`, `input`,
            `output`), `prompt_response` (`prompt`, `response`), `chat` (`messages`).
    """

    suffixes = (".parquet",)

    def _records(self, path: Path) -> Iterator[tuple[str, Any]]:
        from pyarrow import ArrowException, parquet

        try:
            file = parquet.ParquetFile(path)
        except (ArrowException, OSError) as error:
            yield str(path), Rejected(str(path), f"no whole Parquet file: {error}")
            return
        columns = [self.field] if self.template is None and self.field in file.schema_arrow.names else None
        for group in range(file.num_row_groups):
            row = 0
            try:
                for batch in file.iter_batches(1024, row_groups=[group], columns=columns):
                    for record in batch.to_pylist():
                        row += 1
                        yield f"{path}: row group {group + 1}, row {row}", record
            except (ArrowException, OSError, UnicodeDecodeError) as error:
                origin = f"{path}: row group {group + 1}, after row {row}"
                yield origin, Rejected(origin, f"cannot be read: {error}")
