"""Plain text files, and lines that make documents."""

import re
from collections.abc import Iterable, Iterator
from itertools import accumulate

from gpt2_lightning.data.documents import Document
from gpt2_lightning.data.sources.base import FileSource, TextSource, check_heading
from gpt2_lightning.errors import FieldError
from gpt2_lightning.files.lines import Reject, read_lines
from gpt2_lightning.ranges import NonNegativeInt

Lines = Iterable[tuple[int, str | None]]
"""Number and text of each line; `None` for one that was rejected."""


class TextFiles(FileSource, TextSource):
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

    def check(self) -> None:
        if not 0 <= self.span[0] < self.span[1] <= 1:
            raise FieldError(f"span {list(self.span)}: give two shares from 0 to 1 that rise")
        check_heading(self.heading)
        if self.separator is not None and self.separator != self.separator.strip():
            raise FieldError(
                f"separator {self.separator!r}: is compared with a line without the white space "
                "around it; an empty one cuts at blank lines"
            )
        if self.min_chars and self.separator is None and self.heading is None:
            raise FieldError(f"min_chars {self.min_chars}: joins pieces; give .separator or .heading too")

    def documents(self, reject: Reject) -> Iterator[Document]:
        is_whole = self.separator is None and self.heading is None
        for path in self.files():
            lines: Lines = read_lines(path, reject)
            if self.span != (0.0, 1.0):
                lines = _within(lines, self.span)
            for number, text in joined(lines, self.heading, self.separator, self.min_chars):
                yield Document(text, str(path) if is_whole else f"{path}:{number}")


def joined(
    lines: Lines, heading: str | None = None, separator: str | None = None, min_chars: int = 0
) -> Iterator[tuple[int, str]]:
    """Number of the first line, and text, of each document; one with a line that was rejected is left out.

    Args:
        lines: to join.
        heading: regular expression at the start of a line that opens a document.
        separator: a line that stands between two documents; an empty one cuts after blank lines.
        min_chars: documents shorter than this are joined with the next.
    """
    text: list[str] = []
    start, size, readable, after_blank = 1, 0, True, False
    for number, line in lines:
        if line is None:
            readable = False
            continue
        is_separator = bool(separator) and line.strip() == separator
        opens = separator == "" and after_blank and bool(line.strip())
        opens = opens or (heading is not None and re.match(heading, line) is not None)
        if (is_separator or opens) and (not readable or (text and size >= min_chars)):
            if readable:
                yield start, "".join(text)
            text, start, size, readable = [], number + is_separator, 0, True
        if not is_separator:
            text.append(line)
            size += len(line)
        after_blank = not line.strip()
    if text and readable:
        yield start, "".join(text)


def _within(lines: Lines, span: tuple[float, float]) -> Lines:
    """The lines, or parts of them, between two shares of the characters."""
    lines = list(lines)
    ends = list(accumulate(len(line or "") for _, line in lines))
    first, last = (int(ends[-1] * share) for share in span) if ends else (0, 0)
    for (number, line), end in zip(lines, ends, strict=True):
        if line is None:
            yield number, None
        elif (start := end - len(line)) < last and end > first:
            yield number, line[max(0, first - start) : last - start]
