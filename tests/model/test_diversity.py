import pytest

from gpt2_lightning.model.diversity import distinct, repeated


@pytest.mark.parametrize(
    ("ids", "distinct_2", "repeated_4"),
    [
        ([1, 2, 3, 4, 5], 1.0, 0.0),
        ([1, 1, 1, 1, 1, 1], 1 / 5, 2 / 3),  # one pair of five; one run of four among three
        ([1, 2, 1, 2, 1, 2], 2 / 5, 1 / 3),
        ([7], 1.0, 0.0),
        ([], 1.0, 0.0),
    ],
)
def test_by_hand(ids: list[int], distinct_2: float, repeated_4: float):
    assert distinct(ids, 2) == pytest.approx(distinct_2)
    assert repeated(ids, 4) == pytest.approx(repeated_4)
