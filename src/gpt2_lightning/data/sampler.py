"""The order of the training rows: a pure function of seed and position."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@lru_cache(maxsize=2)
def epoch_order(num_rows: int, seed: int, epoch: int) -> np.ndarray:
    """The rows of one pass over the data, each once, as int64 `(num_rows,)`."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(num_rows)


@dataclass(frozen=True)
class RowOrder:
    """An endless sequence of rows: one shuffled pass after another, cut into global batches.

    The position is the number of samples consumed over all ranks since the run began. Batches run
    on across the end of a pass, so that no row is dropped and no batch is short; an epoch is the
    whole optimizer steps that a pass has room for, and the rows left over open the next one.

    Attributes:
        num_rows: rows in the data set.
        micro_batch_size: rows per rank and micro-batch.
        num_ranks: processes that train together.
        batches_per_step: micro-batches that an optimizer step accumulates.
        seed: of the shuffling.
    """

    num_rows: int
    micro_batch_size: int
    num_ranks: int = 1
    batches_per_step: int = 1
    seed: int = 0

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

    def _rows(self, start: int, stop: int) -> list[int]:
        """Samples `start` … `stop`−1 of the endless sequence."""
        rows: list[int] = []
        while start < stop:
            passes, offset = divmod(start, self.num_rows)
            piece = epoch_order(self.num_rows, self.seed, passes)[offset : offset + stop - start]
            rows.extend(piece.tolist())
            start += len(piece)
        return rows
