import time
from collections.abc import Callable
from pathlib import Path

import pytest
from lightning.pytorch import Callback, Trainer

from gpt2_lightning.callbacks.throughput import Throughput
from gpt2_lightning.data.loader import side_by_side
from gpt2_lightning.runs.loggers import MetricsCSV
from tests.conftest import read_metrics


class Slow(Callback):
    """Validation and a callback after Throughput, each a tenth of a second long."""

    def on_validation_start(self, trainer, pl_module):
        time.sleep(0.1)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        time.sleep(0.1)


def test_tokens_are_counted_and_only_the_batches_time(train: Callable[..., Trainer]):
    throughput = Throughput()
    started = time.perf_counter()
    train([throughput, Slow()], max_steps=4, accumulate_grad_batches=2, val_check_interval=2)
    wall = time.perf_counter() - started
    assert throughput.tokens == 4 * 2 * 4 * 16
    assert 0 < throughput.seconds < wall - 8 * 0.1 - 4 * 0.1
    assert throughput.tokens_per_second == throughput.tokens / throughput.seconds
    assert throughput.peak_memory_bytes() > 10**7


def test_rate_and_utilisation_are_recorded(train: Callable[..., Trainer], tmp_path: Path):
    train([Throughput()], max_steps=4, log_every_n_steps=2, logger=MetricsCSV(str(tmp_path)))
    rows = read_metrics(tmp_path)
    assert [int(row["step"]) for row in rows] == [2, 4]
    assert all(float(row["train/tokens_per_second"]) > 0 for row in rows)
    assert all(0 < float(row["train/mfu"]) < 1 for row in rows)
    assert all(0 <= float(row["train/data_wait_share"]) < 1 for row in rows)
    assert all(float(row["train/peak_memory_bytes"]) > 10**7 for row in rows)
    rates = [[float(row[f"train/{name}tokens_per_second"]) for name in ("", "mean_")] for row in rows]
    assert rates[0][0] == rates[0][1], "the first window is the whole run so far"
    assert rates[1][1] == pytest.approx(2 / (1 / rates[0][0] + 1 / rates[1][0])), "as many tokens in each"


def test_the_share_of_waiting_for_data(
    train: Callable[..., Trainer], datamodule: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def slow(rows: list) -> dict:
        time.sleep(0.05)
        return side_by_side(rows)

    monkeypatch.setattr("gpt2_lightning.data.loader.side_by_side", slow)
    data = datamodule()
    train(
        [Throughput()],
        data,
        max_steps=4,
        log_every_n_steps=2,
        logger=MetricsCSV(str(tmp_path)),
        limit_val_batches=0,
    )
    assert data.wait_seconds >= 4 * 0.05
    assert 0.5 < float(read_metrics(tmp_path)[-1]["train/data_wait_share"]) < 1


def test_state_goes_on_after_a_resume():
    throughput = Throughput()
    throughput.tokens, throughput.seconds = 100, 2.0
    resumed = Throughput()
    resumed.load_state_dict(throughput.state_dict())
    assert resumed.tokens_per_second == 50


@pytest.mark.parametrize("accumulate", [1, 3])
def test_time_left_from_the_wall_clock(train: Callable[..., Trainer], accumulate: int):
    class Left(Callback):
        def __init__(self):
            self.seen: dict[int, float | None] = {}

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            self.seen.setdefault(trainer.global_step, throughput.seconds_left(trainer))

    throughput, left = Throughput(), Left()
    settings = {"max_steps": 5, "limit_val_batches": 0, "accumulate_grad_batches": accumulate}
    train([throughput, left, Slow()], **settings)
    assert left.seen[1] is None, "the first step tells nothing of the pace"
    assert left.seen[5] == 0
    assert left.seen[2] > left.seen[4]
    # 0.1 s a micro-batch, three steps to go; what was seen came before the last of them had waited
    assert left.seen[2] > 3 * 0.1 * (accumulate - 1)
    assert left.seen[4] > 0.1 * (accumulate - 1)
