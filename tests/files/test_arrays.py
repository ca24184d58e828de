"""Files as arrays."""

import pickle
from pathlib import Path

import numpy as np

from gpt2_lightning.files.arrays import FileArray


def test_a_file_is_read_as_its_type_from_its_offset(tmp_path: Path):
    np.arange(5, dtype="<u2").tofile(tmp_path / "a.bin")
    assert FileArray.whole(tmp_path / "a.bin", "<u2")[1:3].tolist() == [1, 2]
    part = FileArray(tmp_path / "a.bin", "<u2", 2, offset=4)
    assert (len(part), np.asarray(part).tolist()) == (2, [2, 3])


def test_it_is_sent_as_a_name(tmp_path: Path):
    np.arange(10_000, dtype="<u2").tofile(tmp_path / "a.bin")
    sent = pickle.dumps(FileArray.whole(tmp_path / "a.bin", "<u2"))
    assert len(sent) < 1000
    assert pickle.loads(sent)[:].tolist() == list(range(10_000))
