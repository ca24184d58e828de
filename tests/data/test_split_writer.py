"""The files of a split, and what is counted of them."""

import hashlib
import lzma
from array import array
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from gpt2_lightning.data.encoder import Encoded
from gpt2_lightning.data.split_writer import SplitWriter
from gpt2_lightning.data.token_store import SplitCounts

DOCUMENTS = [Encoded(array("H", [5, 6, 0]), b"\1\1\1", "人"), Encoded(array("H", [7, 8, 0]), b"\0\1\1", "ab")]


def write(folder: Path, split, masks: bool = True) -> SplitWriter:
    with closing(SplitWriter(folder, split, "<u2", masks)) as writer:
        for document in DOCUMENTS:
            writer.add(document)
    return writer


def test_ids_ends_and_masks_by_hand(tmp_path: Path):
    writer = write(tmp_path, "train")
    assert np.fromfile(tmp_path / "train.bin", "<u2").tolist() == [5, 6, 0, 7, 8, 0]
    assert np.fromfile(tmp_path / "train.ends.bin", "<i8").tolist() == [3, 6]
    assert np.fromfile(tmp_path / "train.learned.bin", "|b1").tolist() == [True] * 3 + [False, True, True]
    assert writer.sha256 == hashlib.sha256((tmp_path / "train.bin").read_bytes()).hexdigest()
    assert writer.counts() == SplitCounts(2, tokens=6, targets=5, utf8_bytes=5, characters=3)
    write(tmp_path, "test", masks=False)
    assert not (tmp_path / "test.learned.bin").exists()


def test_xz_figure_is_that_of_a_short_held_out_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    expected = len(lzma.compress("人ab".encode(), preset=9 | lzma.PRESET_EXTREME))
    assert write(tmp_path, "validation").counts().xz_bytes == expected
    monkeypatch.setattr("gpt2_lightning.data.split_writer._XZ_LIMIT_BYTES", 4)
    assert write(tmp_path, "validation").counts().xz_bytes is None
