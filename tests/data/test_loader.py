"""Batches in their order, continued inside an epoch."""

from collections.abc import Callable

import pytest
import torch

from gpt2_lightning.data.datamodule import TextDataModule
from gpt2_lightning.data.packing import IGNORED
from tests.data.test_datamodule import ready


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_restored_loader_continues_inside_the_epoch(
    datamodule: Callable[..., TextDataModule], num_workers: int
):
    data = ready(datamodule(num_workers=num_workers))
    whole = [batch["targets"] for batch in ready(datamodule()).train_dataloader()]
    loader = data.train_dataloader()
    for _, _batch in zip(range(3), loader, strict=False):
        state = loader.state_dict()
    assert state == {"samples_consumed": 12, "steps_ahead": 0}
    restored = data.train_dataloader()
    restored.load_state_dict(state)
    rest = [batch["targets"] for batch in restored]
    assert len(rest) == len(whole) - 3
    assert all(torch.equal(a, b) for a, b in zip(rest, whole[3:], strict=True))


def test_loading_draws_nothing_from_the_global_random_state(datamodule: Callable[..., TextDataModule]):
    data = ready(datamodule())
    before = torch.get_rng_state()
    next(iter(data.train_dataloader()))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than a small machine's cores
@pytest.mark.parametrize("rows", ["stream", "isolated", "documents", "padded"])
def test_rows_hold_each_token_once_an_epoch_for_any_number_of_workers(
    datamodule: Callable[..., TextDataModule], rows: str
):
    batches = {}
    for num_workers in (0, 2, 4):
        data = ready(datamodule(rows=rows, num_workers=num_workers, block_size=512, micro_batch_size=1))
        batches[num_workers] = list(data.train_dataloader())
    for other in (batches[2], batches[4]):
        for a, b in zip(batches[0], other, strict=True):
            assert a.keys() == b.keys()
            assert all(torch.equal(a[name], b[name]) for name in a)
    targets = torch.cat([batch["targets"].flatten() for batch in batches[0]])
    learned = targets[targets != IGNORED]
    assert sorted(learned.tolist()) == sorted(data.store.tokens("train")[:].tolist())
    assert ("position_ids" in batches[0][0]) == (rows in ("isolated", "documents"))
