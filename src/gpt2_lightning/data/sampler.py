"""The order of the training rows: a pure function of seed and position."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np


def epoch_order(num_rows: int, seed: int, epoch: int) -> np.ndarray:
    """The rows of one pass over the data, each once, as int64 `(num_rows,)`."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(num_rows)


_SORTED = 2048  # rows sorted by length together: enough to find neighbours of a length
_GROUP = 64  # rows of similar length that stay together: a few micro-batches


def grouped_by_length(order: np.ndarray, lengths: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """The same rows so that neighbours are of similar length, and the groups in a random order.

    It depends on nothing but its arguments, so that the order stays that of every number of ranks.

    Args:
        order: a permutation of the rows, `(num_rows,)`.
        lengths: tokens of each row, `(num_rows,)`.
        seed: of the shuffling.
        epoch: which pass over the data.
    """
    groups = []
    for start in range(0, len(order), _SORTED):
        piece = order[start : start + _SORTED]
        piece = piece[np.argsort(lengths[piece], kind="stable")]
        groups += [piece[first : first + _GROUP] for first in range(0, len(piece), _GROUP)]
    shuffled = np.random.Generator(np.random.Philox(key=[seed, epoch + 2**32])).permutation(len(groups))
    return np.concatenate([groups[number] for number in shuffled])


@dataclass(frozen=True)
class RowOrder:
    """An endless sequence of rows: one shuffled pass after another, cut into global batches.

    The position is the number of samples consumed over all ranks since the run began. Batches run
    on across the end of a pass, so that no row is dropped and no batch is short; an epoch is the
    whole optimizer steps that a pass has room for, and the rows left over open the next one. The
    order of one pass is held in memory, 8 bytes a row.

    Attributes:
        num_rows: rows in the data set.
        micro_batch_size: rows per rank and micro-batch.
        num_ranks: processes that train together.
        batches_per_step: micro-batches that an optimizer step accumulates.
        seed: of the shuffling.
        lengths: tokens of each row `(num_rows,)`, to bring rows of similar length together.
    """

    num_rows: int
    micro_batch_size: int
    num_ranks: int = 1
    batches_per_step: int = 1
    seed: int = 0
    lengths: np.ndarray | None = field(default=None, compare=False, repr=False)
    _passes: dict[int, np.ndarray] = field(default_factory=dict, init=False, compare=False, repr=False)

    @property
    def samples_per_batch(self) -> int:
        """Samples that one micro-batch consumes over all ranks."""
        return self.micro_batch_size * self.num_ranks

    @property
    def batches_per_epoch(self) -> int:
        """Micro-batches per rank and epoch."""
        steps = self.num_rows // (self.samples_per_batch * self.batches_per_step)
        return max(1, steps) * self.batches_per_step

    def batches(self, position: int, rank: int = 0) -> Iterator[list[int]]:
        """One rank's micro-batches from `position` to the end of that epoch, as lists of rows.

        Args:
            position: samples consumed before, a multiple of `samples_per_batch`.
            rank: which of the `num_ranks` shares to give.
        """
        batch = position // self.samples_per_batch
        epoch_end = (batch // self.batches_per_epoch + 1) * self.batches_per_epoch
        for number in range(batch, epoch_end):
            first = number * self.samples_per_batch + rank * self.micro_batch_size
            yield self._rows(first, first + self.micro_batch_size)

    @property
    def samples_per_step(self) -> int:
        """Samples that one optimizer step consumes over all ranks."""
        return self.samples_per_batch * self.batches_per_step

    def step_rows(self, step: int) -> list[int]:
        """The rows of the `step`-th optimizer step of this size, from 1, over all ranks."""
        return self._rows((step - 1) * self.samples_per_step, step * self.samples_per_step)

    def _rows(self, start: int, stop: int) -> list[int]:
        """Samples `start` … `stop`−1 of the endless sequence."""
        rows: list[int] = []
        while start < stop:
            passes, offset = divmod(start, self.num_rows)
            piece = self._pass(passes)[offset : offset + stop - start]
            rows.extend(piece.tolist())
            start += len(piece)
        return rows

    def _pass(self, number: int) -> np.ndarray:
        """The rows of one pass over the data, kept while it is drawn from."""
        if number not in self._passes:
            order = epoch_order(self.num_rows, self.seed, number)
            if self.lengths is not None:
                order = grouped_by_length(order, self.lengths, self.seed, number)
            self._passes.clear()
            self._passes[number] = order
        return self._passes[number]
