import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gpt2_lightning.data.packing import IGNORED, DocumentRows, PackedRows

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


STREAM = np.array([5, 6, END, 7, END, 8, 9, END], dtype=np.uint16)
ENDS = np.array([3, 5, 8])
LEARNED = np.array([0, 1, 1, 1, 1, 0, 0, 1], dtype=bool)


def lists(rows, name: str) -> list[list[int]]:
    return [row[name].tolist() for row in rows_of(rows)]


def test_isolated_rows_count_positions_from_each_document_and_row():
    rows = PackedRows(STREAM, block_size=4, ends=ENDS)
    assert lists(rows, "input_ids") == [[END, 5, 6, END], [7, END, 8, 9]]
    assert lists(rows, "position_ids") == [[0, 1, 2, 0], [0, 0, 1, 2]]


def test_prompts_are_no_targets():
    rows = PackedRows(STREAM, block_size=4, learned=LEARNED)
    assert lists(rows, "targets") == [[IGNORED, 6, END, 7], [END, IGNORED, IGNORED, END]]


def test_whole_documents_fill_rows_and_the_rest_is_ignored():
    rows = DocumentRows(STREAM, ENDS, block_size=6, learned=LEARNED)
    assert lists(rows, "input_ids") == [[END, 5, 6, END, 7, END], [END, 8, 9, END, END, END]]
    assert lists(rows, "targets") == [
        [IGNORED, 6, END, 7, END, IGNORED],
        [IGNORED, IGNORED, END, *[IGNORED] * 3],
    ]
    assert lists(rows, "position_ids") == [[0, 1, 2, 0, 1, 0], [0, 1, 2, 0, 1, 2]]


def test_long_documents_are_cut_and_counted():
    rows = DocumentRows(STREAM, ENDS, block_size=2)
    assert rows.truncated == 2
    assert lists(rows, "targets") == [[5, 6], [7, END], [8, 9]]


def test_padded_rows_are_as_long_as_their_document():
    rows = DocumentRows(STREAM, ENDS, block_size=8, packed=False)
    assert lists(rows, "targets") == [[5, 6, END], [7, END], [8, 9, END]]
    assert rows.lengths.tolist() == [3, 2, 3]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(9, 20))
def test_document_rows_hold_every_token_once(lengths: list[int], block_size: int):
    ends = np.cumsum(lengths)
    tokens = np.arange(1, ends[-1] + 1, dtype=np.uint16)
    for packed in (True, False):
        rows = DocumentRows(tokens, ends, block_size, packed=packed)
        targets = [t for row in lists(rows, "targets") for t in row if t != IGNORED]
        assert targets == tokens.tolist()


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(1, 20))
def test_positions_are_distances_from_the_document_or_the_row(lengths: list[int], block_size: int):
    ends = np.cumsum(lengths)
    rows = PackedRows(np.zeros(ends[-1], dtype=np.uint16), block_size, ends=ends)
    starts = [0, *ends[:-1].tolist()]
    for number, positions in enumerate(lists(rows, "position_ids")):
        for offset, position in enumerate(positions):
            place = number * block_size + offset
            if place < ends[-1]:
                begin = max(start for start in starts if start <= place)
                assert position == place - max(begin, number * block_size)


def rows_of(rows: PackedRows):
    return (rows[index] for index in range(len(rows)))
