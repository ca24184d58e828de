"""Loaders over packed rows; the training one can be stopped and continued inside an epoch."""

import time
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from gpt2_lightning.data.packing import IGNORED, DocumentRows, PackedRows
from gpt2_lightning.data.sampler import RowOrder

Batch = dict[str, Tensor]
"""`input_ids`, `targets` and perhaps `position_ids`, each int64 `(micro_batch_size, T)`."""

Rows = PackedRows | DocumentRows


class TrainLoader:
    """The training batches of one rank; it knows how many samples were consumed.

    Each `iter` goes on from there to the end of the epoch, so a restored loader continues inside an
    epoch. Lightning saves and restores it through `state_dict` and `load_state_dict`.
    """

    def __init__(self, rows: Rows | Subset, order: RowOrder, rank: int = 0, num_workers: int = 0) -> None:
        self.rows = rows
        self.order = order
        self.rank = rank
        self.num_workers = num_workers
        self.samples_consumed = 0
        self.steps_ahead = 0
        """Optimizer steps of this size that its position is ahead of those taken, after steps of another."""
        self.wait_seconds = 0.0
        """Time in which the next batch was waited for, so far."""

    def __len__(self) -> int:
        return self.order.batches_per_epoch

    def __iter__(self) -> Iterator[Batch]:
        batches = iter(
            row_loader(self.rows, self.order.batches(self.samples_consumed, self.rank), self.num_workers)
        )
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            self.wait_seconds += time.perf_counter() - started
            if batch is None:
                return
            self.samples_consumed += self.order.samples_per_batch
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"samples_consumed": self.samples_consumed, "steps_ahead": self.steps_ahead}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.samples_consumed = state_dict["samples_consumed"]
        self.steps_ahead = state_dict.get("steps_ahead", 0)


def batches_in_order(rows: range, size: int) -> list[list[int]]:
    """The given rows, `size` at a time; the last batch may be shorter."""
    return [list(rows[start : start + size]) for start in range(0, len(rows), size)]


def row_loader(rows: Rows | Subset, batches: Iterable[list[int]], num_workers: int) -> DataLoader:
    """A loader of the given batches of row numbers, in that order."""
    return DataLoader(
        rows,
        batch_sampler=batches,
        collate_fn=side_by_side,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
        # A generator of its own: starting an iterator must not draw from the training's random state.
        generator=torch.Generator().manual_seed(0),
    )


def side_by_side(rows: list[Batch]) -> Batch:
    """Rows as one batch; shorter ones are filled up at their end, where nothing is a target.

    What is filled in comes after everything it could disturb: attention looks back only.
    """
    fill = {"input_ids": 0, "targets": IGNORED, "position_ids": 0}
    return {
        name: torch.nn.utils.rnn.pad_sequence([row[name] for row in rows], True, fill[name])
        for name in rows[0]
    }
