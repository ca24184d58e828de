import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from gpt2_lightning.data.corpus import Corpus
from gpt2_lightning.data.datamodule import TextDataModule
from gpt2_lightning.data.packing import IGNORED
from gpt2_lightning.data.sources import JSONFiles, TextFiles
from gpt2_lightning.errors import InputError


def ready(data: TextDataModule) -> TextDataModule:
    data.prepare_data()
    data.setup()
    return data


def test_batches_have_the_promised_shape_and_type(datamodule: Callable[..., TextDataModule]):
    batch = next(iter(ready(datamodule()).train_dataloader()))
    assert set(batch) == {"input_ids", "targets"}
    assert all(value.shape == (4, 16) and value.dtype == torch.int64 for value in batch.values())


def test_validation_holds_every_token_of_the_split_once(datamodule: Callable[..., TextDataModule]):
    data = ready(datamodule())
    targets = torch.cat([batch["targets"].flatten() for batch in data.val_dataloader()])
    assert targets[targets != IGNORED].tolist() == data.store.tokens("validation")[:].tolist()


def test_another_corpus_or_order_is_refused_on_resume(
    datamodule: Callable[..., TextDataModule], tmp_path: Path
):
    state = ready(datamodule()).state_dict()
    for option, name, value in (
        ("--seed_everything", "seed", 1),
        ("--data.block_size", "block_size", 8),
        ("--data.rows", "rows", "isolated"),
    ):
        with pytest.raises(InputError, match=rf"{option}: {value} now, and {state[name]} when"):
            ready(datamodule(**{name: value})).load_state_dict(state)
    ready(datamodule(micro_batch_size=2)).load_state_dict(state)  # other steps, the same order
    for number in range(20):
        (tmp_path / f"{number}.txt").write_text(f"text number {number} " * 20)
    other = Corpus(TextFiles(str(tmp_path)))
    with pytest.raises(InputError, match=r"--data.corpus: .* say --data.allow_changed_corpus true"):
        ready(datamodule(corpus=other)).load_state_dict(state)
    ready(datamodule(corpus=other, allow_changed_corpus=True)).load_state_dict(state)


def test_instruction_records_are_packed_whole_where_nothing_is_said(tmp_path: Path):
    records = JSONFiles(str(tmp_path / "a.jsonl"), template="prompt_response")
    assert TextDataModule(Corpus(records)).rows == "documents"
    assert TextDataModule(Corpus(TextFiles(str(tmp_path)))).rows == "stream"


def test_corpus_shorter_than_a_block_is_refused(datamodule: Callable[..., TextDataModule]):
    with pytest.raises(InputError, match=r"--data.block_size 100000"):
        ready(datamodule(block_size=100_000))


def test_test_split_is_refused_where_there_is_none(datamodule: Callable[..., TextDataModule]):
    with pytest.raises(InputError, match=r"--data.corpus.test_fraction"):
        ready(datamodule()).test_dataloader()


def test_state_says_how_many_samples_were_consumed(datamodule: Callable[..., TextDataModule]):
    data = ready(datamodule())
    batches = iter(data.train_dataloader())
    next(batches), next(batches)
    assert data.state_dict()["samples_consumed"] == 8


def test_rows_are_sent_as_a_name(datamodule: Callable[..., TextDataModule]):
    data = datamodule()
    data.setup()
    rows = data.rows_of("train")
    assert len(pickle.dumps(rows)) < 1000
    assert torch.equal(pickle.loads(pickle.dumps(rows))[0]["targets"], rows[0]["targets"])


@pytest.mark.parametrize(("wanted", "batches"), [(1, 1), (2, 2), (0, 0)])
def test_overfitting_repeats_its_batches(
    datamodule: Callable[..., TextDataModule],
    train: Callable[..., Trainer],
    wanted: int,
    batches: int,
):
    seen: list[set[tuple[int, ...]]] = []

    class Look(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            seen.append({tuple(row) for row in batch["input_ids"].tolist()})

    data = datamodule()
    train([Look()], data, max_steps=30, overfit_batches=wanted, limit_val_batches=0)
    rows = set().union(*seen)
    every = len(data.rows_of("train"))
    assert len(rows) == (4 * batches if batches else every)


def test_a_step_of_more_rows_than_there_are_is_refused(
    datamodule: Callable[..., TextDataModule], train: Callable[..., Trainer]
):
    with pytest.raises(InputError, match=r"micro_batch_size 10000: an optimizer step.*has 10,000 rows"):
        train([], datamodule(micro_batch_size=10_000))
