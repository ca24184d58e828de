import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from gpt2_lightning.callbacks.checkpoint_io import SafeCheckpointIO
from gpt2_lightning.callbacks.checkpoints import Checkpoints
from gpt2_lightning.callbacks.guards import Guards
from gpt2_lightning.errors import DivergedError
from gpt2_lightning.runs.loggers import MetricsCSV
from tests.conftest import read_metrics, tiny_module


class Poison(Callback):
    """Makes a gradient of some optimizer steps NaN."""

    def __init__(self, *steps: int) -> None:
        self.steps = steps
        self.batches: dict[int, list] = {}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.batches.setdefault(trainer.global_step + 1, []).extend(batch["input_ids"].tolist())

    def on_after_backward(self, trainer, pl_module):
        if trainer.global_step + 1 in self.steps:
            pl_module.gpt2.transformer.wpe.weight.grad[0, 0] = math.nan


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_that_is_not_finite_stops_the_run_with_its_rows_and_the_checkpoint_before_it(
    train: Callable[..., Trainer], tmp_path: Path, accumulate: int, datamodule: Callable
):
    poison, data = Poison(3), datamodule()
    with pytest.raises(DivergedError, match=r"step 3 is not finite \(nll \d\.\d+, gradient norm nan\)"):
        train(
            [poison, Guards(), Checkpoints(every_n_steps=1)],
            data,
            max_steps=6,
            accumulate_grad_batches=accumulate,
            limit_val_batches=0,
            plugins=[SafeCheckpointIO()],
        )
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 2
    lines = [json.loads(line) for line in (tmp_path / "nonfinite" / "step_3.jsonl").read_text().splitlines()]
    assert [line["text"] for line in lines] == [data.tokenizer.decode(row) for row in poison.batches[3]]
    rows = data.rows_of("train")
    assert [rows[line["row"]]["input_ids"].tolist() for line in lines] == poison.batches[3]


def test_no_checkpoint_is_written_after_one_where_steps_are_not_looked_at_one_by_one(
    train: Callable[..., Trainer], tmp_path: Path
):
    class OnlyBeforeCheckpoints(Guards):
        """As on a GPU between recorded steps."""

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            look, self._stop_if_bad = self._stop_if_bad, lambda *_: None
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
            self._stop_if_bad = look

    with pytest.raises(DivergedError, match="step 2 is not finite: the run"):
        train(
            [Poison(2), OnlyBeforeCheckpoints(), Checkpoints(every_n_steps=3)],
            max_steps=6,
            limit_val_batches=0,
            plugins=[SafeCheckpointIO()],
        )
    assert not (tmp_path / "checkpoints" / "last.ckpt").exists()


def test_steps_are_left_out_where_that_is_wanted_until_there_are_too_many(
    train: Callable[..., Trainer], tmp_path: Path
):
    class Weights(Callback):
        after: dict[int, torch.Tensor] = {}

        def on_train_batch_end(self, trainer, pl_module, *rest):
            self.after[trainer.global_step] = pl_module.gpt2.transformer.wte.weight.detach().clone()

    weights = Weights()
    with pytest.raises(DivergedError, match="step 5 is not finite"):
        train(
            [Poison(2, 3, 5), Guards(skip_nonfinite_steps=2), weights],
            max_steps=6,
            limit_val_batches=0,
            logger=MetricsCSV(str(tmp_path)),
        )
    assert torch.equal(weights.after[1], weights.after[2])
    assert torch.equal(weights.after[2], weights.after[3])
    assert not torch.equal(weights.after[3], weights.after[4])
    assert sorted(path.name for path in (tmp_path / "nonfinite").iterdir()) == [
        "step_2.jsonl", "step_3.jsonl", "step_5.jsonl",
    ]  # fmt: skip
    skipped = {row["step"]: row["events/skipped_steps"] for row in read_metrics(tmp_path)}
    assert (skipped["2"], skipped["3"], skipped["4"]) == ("1.0", "2.0", "")


def test_training_is_bit_for_bit_the_same_without_it(train: Callable[..., Trainer]):
    weights = []
    for callbacks in ([], [Guards()], [Guards(skip_nonfinite_steps=3)]):
        module = tiny_module(dropout=0.2)
        train(callbacks, module=module, limit_val_batches=0)
        weights.append([parameter.detach().clone() for parameter in module.parameters()])
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(*weights, strict=True))


def test_its_state_goes_on_also_that_of_earlier_versions():
    guards = Guards()
    guards.load_state_dict({"skipped": 3, "earlier": {"events/nll_spike": [1.0]}})
    other = Guards()
    other.load_state_dict(guards.state_dict())
    assert other.state_dict() == {"skipped": 3}
