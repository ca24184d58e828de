"""Files of records with named fields: JSON, CSV and Parquet."""

import csv
import json
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpt2_lightning.data.documents import BadRecordError, Document
from gpt2_lightning.data.sources.base import FileSource, TextSource
from gpt2_lightning.data.templates import TEMPLATES, TemplateName, text_field
from gpt2_lightning.files.lines import Reject, not_utf8, read_lines


def document_of(
    record: Any, origin: str, field: str, template: TemplateName | None, reject: Reject
) -> Document | None:
    """The document of a record: its text field, or its fields through a template; `None` if rejected."""
    try:
        if template is None:
            return Document(text_field(record, field), origin)
        return Document.of(TEMPLATES[template](record), origin)
    except BadRecordError as error:
        reject(origin, str(error))
        return None


class RecordFiles(FileSource, TextSource):
    """Files of records; a subclass reads its format.

    Args:
        paths: a file, a folder, a glob, or a list of these.
        field: the field that holds the text.
        template: for instruction records, instead of `field`: `alpaca` (`instruction`, `input`,
            `output`), `prompt_response` (`prompt`, `response`), `chat` (`messages`).
    """

    def __init__(
        self, paths: str | list[str], field: str = "text", template: TemplateName | None = None
    ) -> None:
        super().__init__(paths)
        self.field = field
        self.template: TemplateName | None = template
        self.masks_prompts = self.is_instructions = template is not None

    def documents(self, reject: Reject) -> Iterator[Document]:
        for path in self.files():
            for origin, record in self._records(path, reject):
                if document := document_of(record, origin, self.field, self.template, reject):
                    yield document

    @abstractmethod
    def _records(self, path: Path, reject: Reject) -> Iterator[tuple[str, Any]]:
        """Origin and content of each record of a file."""


class JSONFiles(RecordFiles):
    """JSON Lines, or one JSON array of records; also `.gz` and `.zst`.

    A file that opens with `[` is read as one array and held in memory.

    Args:
        paths: a file, a folder (every `.jsonl`, `.ndjson` and `.json` below it), a glob, or a list
            of these.
    """

    suffixes = (".jsonl", ".ndjson", ".json")

    def _records(self, path: Path, reject: Reject) -> Iterator[tuple[str, Any]]:
        lines = read_lines(path, reject)
        for number, line in lines:
            if line and number == 1 and line.lstrip().startswith("["):
                yield from _array(path, line, lines, reject)
                return
            if line and line.strip():
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError) as error:
                    reject(f"{path}:{number}", _broken(error))
                else:
                    yield f"{path}:{number}", record


def _array(
    path: Path, first: str, rest: Iterator[tuple[int, str | None]], reject: Reject
) -> Iterator[tuple[str, Any]]:
    """The records of a JSON array; the origin is the number of the record, from 1."""
    text = [first]
    for _, line in rest:
        if line is None:
            return
        text.append(line)
    try:
        records = json.loads("".join(text))
    except (ValueError, RecursionError) as error:
        line_number = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        reject(f"{path}:{line_number}", _broken(error))
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

    def _records(self, path: Path, reject: Reject) -> Iterator[tuple[str, Any]]:
        csv.field_size_limit(2**31 - 1)
        broken_off: list[tuple[str, str]] = []
        lines = read_lines(path, lambda *record: broken_off.append(record), keep_bytes=True)
        delimiter = "\t" if ".tsv" in path.suffixes else ","
        reader = csv.reader((line for _, line in lines if line), delimiter=delimiter, strict=True)
        names: list[str] = []
        while True:
            origin = f"{path}:{reader.line_num + 1}"
            try:
                row = next(reader, None)
            except csv.Error as error:
                reject(origin, f"broken CSV: {error}")
                continue
            if row is None:
                break
            if not row:  # a blank line
                continue
            if reason := not_utf8(" ".join(row), path):
                reject(origin, reason)
            elif not names:
                if len(set(row)) < len(row):
                    reject(origin, "two columns of the first line have the same name")
                    return
                names = row
            elif len(row) != len(names):
                reject(origin, f"the row has not the {len(names)} fields of the first line")
            else:
                yield origin, dict(zip(names, row, strict=True))
        for each in broken_off:  # after what it has left of a row
            reject(*each)


class ParquetFiles(RecordFiles):
    """Parquet files, read a batch of rows at a time.

    Args:
        paths: a file, a folder (every `.parquet` below it), a glob, or a list of these.
        field: the column that holds the text.
    """

    suffixes = (".parquet",)

    def _records(self, path: Path, reject: Reject) -> Iterator[tuple[str, Any]]:
        from pyarrow import ArrowException, parquet

        try:
            file = parquet.ParquetFile(path)
        except (ArrowException, OSError) as error:
            reject(str(path), f"no whole Parquet file: {error}")
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
                            record = batch.slice(number, 1).to_pylist()[0]
                        except UnicodeDecodeError as error:
                            reject(origin, f"is not UTF-8: {error}")
                        else:
                            yield origin, record
            except (ArrowException, OSError) as error:
                reject(f"{path}: row group {group + 1}, after row {row}", f"cannot be read: {error}")
