import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gpt2_lightning.data.sampler import RowOrder, epoch_order, grouped_by_length


def all_batches(order: RowOrder, num_epochs: int, rank: int = 0) -> list[list[int]]:
    position, batches = 0, []
    for _ in range(num_epochs):
        epoch = list(order.batches(position, rank))
        position += len(epoch) * order.samples_per_batch
        batches += epoch
    return batches


@given(st.integers(1, 50), st.integers(0, 3), st.integers(0, 5))
def test_a_pass_visits_every_row_once(num_rows: int, seed: int, epoch: int):
    assert sorted(epoch_order(num_rows, seed, epoch)) == list(range(num_rows))


def test_order_differs_between_epochs_and_seeds():
    orders = [tuple(epoch_order(100, seed, epoch)) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(orders)) == 4


@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 3))
def test_batches_run_on_across_passes_and_drop_nothing(num_rows: int, micro_batch_size: int, num_epochs: int):
    order = RowOrder(num_rows, micro_batch_size, seed=3)
    rows = [row for batch in all_batches(order, num_epochs) for row in batch]
    endless = [row for epoch in range(len(rows) // num_rows + 1) for row in epoch_order(num_rows, 3, epoch)]
    assert rows == endless[: len(rows)]


@given(st.integers(4, 60), st.integers(1, 4), st.data())
def test_continuing_anywhere_gives_the_rest_of_the_epoch(num_rows: int, micro_batch_size: int, data):
    order = RowOrder(num_rows, micro_batch_size)
    whole = list(order.batches(0))
    done = data.draw(st.integers(0, len(whole) - 1))
    assert list(order.batches(done * order.samples_per_batch)) == whole[done:]


def test_ranks_share_each_global_batch():
    """At the same global batch of 4, one rank's batches are two ranks' batches side by side."""
    alone = all_batches(RowOrder(30, micro_batch_size=4), 2)
    first, second = (all_batches(RowOrder(30, micro_batch_size=2, num_ranks=2), 2, rank) for rank in (0, 1))
    assert alone == [a + b for a, b in zip(first, second, strict=True)]


@given(st.integers(1, 60), st.integers(1, 4), st.integers(1, 5))
def test_an_epoch_is_whole_optimizer_steps(num_rows: int, micro_batch_size: int, batches_per_step: int):
    order = RowOrder(num_rows, micro_batch_size, batches_per_step=batches_per_step)
    assert order.batches_per_epoch % batches_per_step == 0
    assert order.batches_per_epoch * micro_batch_size <= max(num_rows, micro_batch_size * batches_per_step)


def test_rows_of_similar_length_stand_together_and_none_is_lost():
    lengths = np.random.default_rng(0).integers(1, 1000, 5000)
    order = epoch_order(5000, seed=1, epoch=0)
    grouped = grouped_by_length(order, lengths, seed=1, epoch=0)
    assert sorted(grouped) == list(range(5000))
    spread = [np.ptp(lengths[grouped[start : start + 8]]) for start in range(0, 5000, 8)]
    assert np.mean(spread) < 0.1 * np.mean([np.ptp(lengths[order[s : s + 8]]) for s in range(0, 5000, 8)])


def test_order_by_length_is_the_same_for_one_rank_and_two():
    lengths = np.arange(30)
    alone = all_batches(RowOrder(30, micro_batch_size=4, lengths=lengths), 2)
    first, second = (
        all_batches(RowOrder(30, micro_batch_size=2, num_ranks=2, lengths=lengths), 2, rank)
        for rank in (0, 1)
    )
    assert alone == [a + b for a, b in zip(first, second, strict=True)]
