"""Rows of tokens out of one stream: packed blocks, or whole documents."""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gpt2_lightning.files.arrays import NumberArray

IGNORED = -100
"""The target of a position that is not predicted: the default of `torch.nn.functional.cross_entropy`."""

Row = dict[str, Tensor]


class PackedRows(Dataset[Row]):
    """Every token of a stream as a target exactly once, in rows of `block_size`.

    Row r predicts tokens r·B … r·B+B−1 of the stream; its inputs are the tokens one place before.
    The first token's input is the stream's last token: an end-of-text, as before every other
    document, unless somebody's token files break off inside one. The targets of all rows, one after
    the other, are the stream itself; in the last row, positions past the end, and where nothing is
    learned, have the target `IGNORED`.

    Args:
        tokens: the stream `(N,)`, N ≥ 1; each document closed by end-of-text. May be memory-mapped.
        block_size: B, tokens per row.
        learned: bool `(N,)`, whether a token is a target; all are if not given.
        ends: the position after each document, `(documents,)`; given, rows also have
            `position_ids` that start from zero at each document and at the start of a row, by
            which the model keeps documents from seeing each other.
    """

    def __init__(
        self,
        tokens: NumberArray,
        block_size: int,
        learned: NumberArray | None = None,
        ends: NumberArray | None = None,
    ) -> None:
        self.tokens = tokens
        self.block_size = block_size
        self.learned = learned
        self.ends = ends

    def __len__(self) -> int:
        return -(-len(self.tokens) // self.block_size)

    def __getitem__(self, row: int) -> Row:
        """Row `row`: `input_ids`, `targets` and perhaps `position_ids`, each int64 `(B,)`."""
        start = row * self.block_size
        return make_row(self.tokens, start, start + self.block_size, self.block_size, self.learned, self.ends)


class DocumentRows(Dataset[Row]):
    """Whole documents in rows: as many as fit side by side, or one a row.

    A document longer than `block_size` is cut after its first `block_size` tokens; its end-of-text
    is then not learned. Documents never see each other.

    Args:
        tokens: the stream `(N,)`, each document closed by end-of-text.
        ends: the position after each document, `(documents,)`.
        block_size: B, most tokens per row.
        learned: bool `(N,)`, whether a token is a target; all are if not given.
        packed: fill each row with the documents that follow one another while they fit, of length
            B; else one document a row, as long as it is.
    """

    def __init__(
        self,
        tokens: NumberArray,
        ends: NumberArray,
        block_size: int,
        learned: NumberArray | None = None,
        packed: bool = True,
    ) -> None:
        self.tokens = tokens
        self.ends = np.asarray(ends)
        self.starts = np.concatenate([[0], self.ends[:-1]])
        self.block_size = block_size
        self.learned = learned
        self.packed = packed
        self._first = _fill(self.ends - self.starts, block_size) if packed else np.arange(len(ends) + 1)

    def __len__(self) -> int:
        return len(self._first) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each document as it comes in a row, `(documents,)`."""
        return np.minimum(self.ends - self.starts, self.block_size)

    @property
    def truncated(self) -> int:
        """Documents that are cut."""
        return int((self.ends - self.starts > self.block_size).sum())

    def __getitem__(self, row: int) -> Row:
        """Row `row`: `input_ids`, `targets` and, packed, `position_ids`, each int64 `(B,)` or shorter."""
        first, last = self._first[row], self._first[row + 1]
        start = int(self.starts[first])
        stop = min(int(self.ends[last - 1]), start + self.block_size)
        length = self.block_size if self.packed else stop - start
        return make_row(self.tokens, start, stop, length, self.learned, self.ends if self.packed else None)


def _fill(lengths: np.ndarray, block_size: int) -> np.ndarray:
    """The first document of each row, and the number of documents: rows filled one after the other."""
    totals = np.concatenate([[0], np.cumsum(lengths)])
    first = [0]
    while first[-1] < len(lengths):
        end = int(np.searchsorted(totals, totals[first[-1]] + block_size, side="right")) - 1
        first.append(max(end, first[-1] + 1))  # one that is longer than a row has a row of its own
    return np.array(first)


def make_row(
    tokens: NumberArray,
    start: int,
    stop: int,
    length: int,
    learned: NumberArray | None = None,
    ends: NumberArray | None = None,
) -> Row:
    """Tokens `start` … `stop`−1 of the stream as targets, each with the one before it as input.

    Args:
        tokens: the stream.
        start: the first target's position.
        stop: past the last target's position; past the stream's end there is nothing.
        length: of the row; what is left over is ignored.
        learned: whether a token is a target.
        ends: document ends, to give `position_ids`.
    """
    piece = tokens[start:stop]
    count = len(piece)
    inputs = np.full(length, tokens[-1], dtype=np.int64)
    targets = np.full(length, IGNORED, dtype=np.int64)
    inputs[1:count] = piece[:-1]
    inputs[0] = tokens[start - 1]
    targets[:count] = piece
    if learned is not None:
        targets[:count][~learned[start : start + count]] = IGNORED
    row = {"input_ids": torch.from_numpy(inputs), "targets": torch.from_numpy(targets)}
    if ends is not None:
        row["position_ids"] = torch.from_numpy(_positions(ends, start, count, length))
    return row


def _positions(ends: NumberArray, start: int, count: int, length: int) -> np.ndarray:
    """Positions from zero at each document, at the row's start, and at what is left over."""
    first, last = np.searchsorted(np.asarray(ends), [start, start + count - 1], side="right")
    begins = np.concatenate([[0], np.asarray(ends[first:last]) - start, [count]])
    begins = begins[begins < length]
    positions = np.arange(length)
    return positions - np.repeat(begins, np.diff(np.append(begins, length)))
