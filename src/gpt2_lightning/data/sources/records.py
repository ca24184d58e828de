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
        self.masks_prompts = self.is_instructions = template is not None

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
                except (ValueError, RecursionError) as error:
                    yield origin, Rejected(origin, _broken(error))


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
    except (ValueError, RecursionError) as error:
        origin = f"{path}:{error.lineno if isinstance(error, json.JSONDecodeError) else 1}"
        yield origin, Rejected(origin, _broken(error))
        return
    for number, record in enumerate(records, start=1):
        yield f"{path}: record {number}", record


def _broken(error: Exception) -> str:
    where = f" (column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
    return f"broken JSON: {getattr(error, 'msg', error)}{where}"


class CSVFiles(RecordFiles):
    """CSV, or TSV where the name says so, with the names of the columns in the first line.

    Fields may stand in quotation marks, also in TSV, and have line breaks in them then; a mark that is
    not closed is an error.

    Args:
        paths: a file, a folder (every `.csv` and `.tsv` below it), a glob, or a list of these.
        field: the column that holds the text.
        template: for instruction records, instead of `field`: `alpaca` (`instruction`, `input`,
            `output`) or `prompt_response` (`prompt`, `response`).
    """

    suffixes = (".csv", ".tsv")

    def _records(self, path: Path) -> Iterator[tuple[str, Any]]:
        rest: list[Rejected] = []
        csv.field_size_limit(2**31 - 1)
        reader = csv.reader(
            _readable(read_lines(path, keep_bytes=True), rest),
            delimiter="\t" if ".tsv" in path.suffixes else ",",
            strict=True,
        )
        names: list[str] = []
        while True:
            origin = f"{path}:{reader.line_num + 1}"
            try:
                row = next(reader, None)
            except csv.Error as error:
                yield origin, Rejected(origin, f"broken CSV: {error}")
                continue
            if row is None:
                break
            if not row:  # a blank line
                continue
            if reason := not_utf8(" ".join(row), path):
                yield origin, Rejected(origin, reason)
            elif not names:
                if len(set(row)) < len(row):
                    yield origin, Rejected(origin, "two columns of the first line have the same name")
                    return
                names = row
            elif len(row) != len(names):
                yield origin, Rejected(origin, f"the row has not the {len(names)} fields of the first line")
            else:
                yield origin, dict(zip(names, row, strict=True))
        for each in rest:
            yield each.origin, each


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
                    for number in range(batch.num_rows):
                        row += 1
                        origin = f"{path}: row group {group + 1}, row {row}"
                        try:
                            yield origin, batch.slice(number, 1).to_pylist()[0]
                        except UnicodeDecodeError as error:
                            yield origin, Rejected(origin, f"is not UTF-8: {error}")
            except (ArrowException, OSError) as error:
                origin = f"{path}: row group {group + 1}, after row {row}"
                yield origin, Rejected(origin, f"cannot be read: {error}")
