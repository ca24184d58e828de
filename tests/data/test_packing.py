import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gpt2_lightning.data.packing import IGNORED, PackedRows

END = 0


def test_three_short_documents_written_out():
    tokens = np.array([5, 6, END, 7, END, 8, 9, END], dtype=np.uint16)
    rows = PackedRows(tokens, block_size=3)
    assert [row["input_ids"].tolist() for row in rows_of(rows)] == [[END, 5, 6], [END, 7, END], [8, 9, END]]
    assert [row["targets"].tolist() for row in rows_of(rows)] == [
        [5, 6, END],
        [7, END, 8],
        [9, END, IGNORED],
    ]


@given(st.lists(st.integers(1, 9), max_size=60), st.integers(1, 12))
def test_targets_are_the_stream_and_inputs_are_one_place_before(stream: list[int], block_size: int):
    tokens = np.array([*stream, END], dtype=np.uint16)
    rows = list(rows_of(PackedRows(tokens, block_size)))
    targets = [t for row in rows for t in row["targets"].tolist()]
    inputs = [t for row in rows for t in row["input_ids"].tolist()]
    assert targets[: len(tokens)] == tokens.tolist()
    assert all(t == IGNORED for t in targets[len(tokens) :])
    assert inputs[: len(tokens)] == [END, *tokens.tolist()[:-1]]
    assert all(len(row["targets"]) == block_size for row in rows)


def rows_of(rows: PackedRows):
    return (rows[index] for index in range(len(rows)))
