"""Plain text files."""

import re
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path

from gpt2_lightning.data.documents import Document, Record, Rejected
from gpt2_lightning.data.sources.base import FileSource, check_pattern, read_lines
from gpt2_lightning.errors import InputError
from gpt2_lightning.ranges import NonNegativeInt

Lines = Iterable[tuple[int, str | Rejected]]


class TextFiles(FileSource):
    r"""UTF-8 text files, also `.gz` and `.zst`: one document per file, or several.

    A byte-order mark is dropped and `\r\n` becomes `\n`; every other character is kept.

    Args:
        paths: a file, a folder (every `.txt` and `.md` below it), a glob such as
            `books/**/*.txt`, an address (https://...) that is fetched once into
            `data/downloads`, or a list of these.
        separator: a line that stands between two documents, `<|endoftext|>` say, and belongs to
            none; an empty one cuts after blank lines, which stay.
        heading: regular expression at the start of a line that opens a document; ` = [^=]` in
            WikiText's files.
        min_chars: documents shorter than this are joined with the next; with `separator` or `heading`.
        span: the share of each file's characters to read, from and to: `[0, 0.9]` the first nine
            tenths. Such a file is held in memory.
    """

    suffixes = (".txt", ".md")

    def __init__(
        self,
        paths: str | list[str],
        separator: str | None = None,
        heading: str | None = None,
        min_chars: NonNegativeInt = 0,
        span: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__(paths)
        self.separator = separator
        self.heading = heading
        self.min_chars = int(min_chars)
        self.span = (float(span[0]), float(span[1]))

    def put_at(self, place: str) -> None:
        super().put_at(place)
        if not 0 <= self.span[0] < self.span[1] <= 1:
            raise InputError(f"{place}.span {list(self.span)}: give two shares from 0 to 1 that rise")
        check_pattern(self.heading, f"{place}.heading")
        if self.separator is not None and self.separator != self.separator.strip():
            raise InputError(
                f"{place}.separator {self.separator!r}: is compared with a line without the white space "
                "around it; an empty one cuts at blank lines"
            )
        if self.min_chars and self.separator is None and self.heading is None:
            raise InputError(
                f"{place}.min_chars {self.min_chars}: joins pieces; give .separator or .heading too"
            )

    def documents(self) -> Iterator[Record]:
        for path in self.files():
            lines: Lines = read_lines(path)
            if self.span != (0.0, 1.0):
                lines = _within(lines, self.span)
            yield from self._cut(path, lines)

    def _cut(self, path: Path, lines: Lines) -> Iterator[Record]:
        """The documents of a file; one with a line that cannot be read is left out."""
        text: list[str] = []
        start, size, readable, after_blank = 1, 0, True, False
        for number, line in lines:
            if isinstance(line, Rejected):
                yield line
                readable = False
                continue
            is_separator = bool(self.separator) and line.strip() == self.separator
            if (is_separator or self._opens(line, after_blank)) and (
                not readable or size >= max(1, self.min_chars)
            ):
                if readable:
                    yield Document("".join(text), self._origin(path, start))
                text, start, size, readable = [], number + is_separator, 0, True
            if not is_separator:
                text.append(line)
                size += len(line)
            after_blank = not line.strip()
        if size and readable:
            yield Document("".join(text), self._origin(path, start))

    def _opens(self, line: str, after_blank: bool) -> bool:
        if self.separator == "" and after_blank and line.strip():
            return True
        return self.heading is not None and re.match(self.heading, line) is not None

    def _origin(self, path: Path, line: int) -> str:
        return str(path) if self.separator is None and self.heading is None else f"{path}:{line}"


def _within(lines: Lines, span: tuple[float, float]) -> Lines:
    """The lines, or parts of them, between two shares of the characters."""
    lines = list(lines)
    sizes = [0 if isinstance(line, Rejected) else len(line) for _, line in lines]
    total = sum(sizes)
    first, last = int(total * span[0]), int(total * span[1])
    for (number, line), size, end in zip(lines, sizes, accumulate(sizes), strict=True):
        start = end - size
        if isinstance(line, Rejected):
            yield number, line
        elif start < last and end > first:
            yield number, line[max(0, first - start) : last - start]
