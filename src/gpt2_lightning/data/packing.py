"""Rows of a fixed length out of one stream of tokens."""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

IGNORED = -100
"""The target of a position that is not predicted: the default of `torch.nn.functional.cross_entropy`."""


class PackedRows(Dataset[dict[str, Tensor]]):
    """Every token of a stream as a target exactly once, in rows of `block_size`.

    Row r predicts tokens r·B … r·B+B−1 of the stream; its inputs are the tokens one place before.
    The first token's input is the stream's last token: an end-of-text, as before every other
    document. The targets of all rows, one after the other, are the stream itself; in the last row,
    positions past the end have the target `IGNORED`.

    Args:
        tokens: the stream `(N,)`, N ≥ 1; each document closed by end-of-text. May be memory-mapped.
        block_size: B, tokens per row.
    """

    def __init__(self, tokens: np.ndarray, block_size: int) -> None:
        self.tokens = tokens
        self.block_size = block_size

    def __len__(self) -> int:
        return -(-len(self.tokens) // self.block_size)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        """Row `row`: `input_ids` and `targets`, both int64 `(B,)`."""
        start = row * self.block_size
        targets = np.full(self.block_size, IGNORED, dtype=np.int64)
        inputs = np.full(self.block_size, self.tokens[-1], dtype=np.int64)
        piece = self.tokens[start : start + self.block_size]
        targets[: len(piece)] = piece
        inputs[1 : len(piece)] = piece[:-1]
        inputs[0] = self.tokens[start - 1]
        return {"input_ids": torch.from_numpy(inputs), "targets": torch.from_numpy(targets)}
