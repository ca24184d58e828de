import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from gpt2_lightning.callbacks.checkpoint_io import SafeCheckpointIO
from gpt2_lightning.callbacks.checkpoints import Checkpoints
from gpt2_lightning.callbacks.stop_signals import RunInterrupted
from gpt2_lightning.callbacks.warmup import WarmupSchedule
from gpt2_lightning.model.optimizers import MuonAdamW
from tests.conftest import tiny_module


class Losses(Callback):
    """Every micro-batch's loss; is sent a signal during one, or during a validation, if told to."""

    def __init__(self, interrupt_at: int | None = None, number: int = signal.SIGINT) -> None:
        self.seen: list[float] = []
        self.validated: list[tuple[int, float]] = []
        self.interrupt_at = interrupt_at
        self.number = number
        self.in_validation = -1

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if len(self.seen) == self.interrupt_at:
            os.kill(os.getpid(), self.number)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        if batch_idx == 1 and trainer.global_step == self.in_validation:
            os.kill(os.getpid(), self.number)

    def on_validation_end(self, trainer, pl_module):
        self.validated.append((trainer.global_step, trainer.callback_metrics["val/nll"].item()))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append((outputs["nll"] / outputs["num_targets"]).item())


@pytest.mark.parametrize("interrupt_at", [0, 7, 17, 19, 40])
def test_an_interrupted_run_continues_bit_for_bit(
    train: Callable[..., Trainer], tmp_path: Path, interrupt_at: int
):
    """With dropout and accumulation; in epochs of 16 micro-batches, once where a validation is due."""

    def run(losses: Losses, ckpt_path: Path | None = None):
        module = tiny_module(dropout=0.2, optimizer=MuonAdamW)
        callbacks = [WarmupSchedule(), losses, Checkpoints()]
        settings = {"max_steps": 30, "accumulate_grad_batches": 2, "val_check_interval": 10}
        train(callbacks, module=module, ckpt_path=ckpt_path, plugins=[SafeCheckpointIO()], **settings)
        return list(module.parameters())

    whole, first, second = Losses(), Losses(interrupt_at), Losses()
    expected = run(whole)
    with pytest.raises(RunInterrupted):
        run(first)
    resumed = run(second, tmp_path / "checkpoints" / "last.ckpt")
    assert interrupt_at < len(first.seen) < len(whole.seen)
    assert first.seen + second.seen == whole.seen
    assert first.validated + second.validated == whole.validated
    assert all(torch.equal(a, b) for a, b in zip(expected, resumed, strict=True))


def test_a_run_interrupted_in_a_validation_validates_again_and_is_the_same(
    train: Callable[..., Trainer], tmp_path: Path
):
    def run(losses: Losses, ckpt_path: Path | None = None):
        module = tiny_module(dropout=0.2)
        train([losses, Checkpoints()], module=module, ckpt_path=ckpt_path, max_steps=14, val_check_interval=5)
        return list(module.parameters())

    whole, first, second = Losses(), Losses(number=signal.SIGTERM), Losses()
    first.in_validation = 10
    expected = run(whole)
    with pytest.raises(RunInterrupted) as stop:
        run(first)
    assert stop.value.exit_code == 143
    resumed = run(second, tmp_path / "checkpoints" / "last.ckpt")
    assert first.seen + second.seen == whole.seen
    assert first.validated + second.validated == whole.validated
    assert [step for step, _ in second.validated] == [10, 14]
    assert all(torch.equal(a, b) for a, b in zip(expected, resumed, strict=True))


def test_a_run_continued_from_its_last_validation_is_the_same(train: Callable[..., Trainer], tmp_path: Path):
    def run(max_steps: int, ckpt_path: Path | None = None) -> list[float]:
        losses = Losses()
        schedule = WarmupSchedule(schedule="constant")
        train(
            [schedule, losses, Checkpoints()], max_steps=max_steps, val_check_interval=5, ckpt_path=ckpt_path
        )
        return losses.seen

    whole = run(25)
    assert run(10) + run(25, tmp_path / "checkpoints" / "last.ckpt") == whole


def test_best_is_of_the_lowest_validation_and_never_worsens(train: Callable[..., Trainer], tmp_path: Path):
    class Ruin(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 4:
                for parameter in pl_module.parameters():
                    parameter.data.normal_()

    checkpoints = Checkpoints()
    trainer = train([Ruin(), checkpoints], max_steps=12, val_check_interval=4)
    assert checkpoints.best_step == 4
    assert torch.load(checkpoints.best, weights_only=True)["global_step"] == 4
    assert torch.load(checkpoints.last, weights_only=True)["global_step"] == 12
    assert checkpoints.best_nll < trainer.callback_metrics["val/nll"]
    names = {path.name.removesuffix(".sha256") for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {"last.ckpt", "best.ckpt"}


def test_last_step_is_validated_and_saved_wherever_the_interval_falls(train: Callable[..., Trainer]):
    class Validated(Callback):
        steps: list[int] = []

        def on_validation_end(self, trainer, pl_module):
            self.steps.append(trainer.global_step)

    checkpoints, validated = Checkpoints(), Validated()
    train([checkpoints, validated], max_steps=7, val_check_interval=5)
    assert validated.steps == [5, 7]
    assert torch.load(checkpoints.last, weights_only=True)["global_step"] == 7


def test_a_run_without_validation_continues_from_its_end(train: Callable[..., Trainer], tmp_path: Path):
    def run(max_steps: int, ckpt_path: Path | None = None) -> list[float]:
        losses = Losses()
        settings = {"max_steps": max_steps, "limit_val_batches": 0, "accumulate_grad_batches": 2}
        train([losses, Checkpoints()], ckpt_path=ckpt_path, **settings)
        return losses.seen

    whole = run(12)
    assert run(5) + run(12, tmp_path / "checkpoints" / "last.ckpt") == whole


def test_checkpoints_between_validations(train: Callable[..., Trainer], tmp_path: Path):
    class Saved(Callback):
        steps: list[int] = []

        def on_save_checkpoint(self, trainer, pl_module, checkpoint):
            self.steps.append(trainer.global_step)

    saved = Saved()
    train([saved, Checkpoints(every_n_steps=2)], max_steps=6, limit_val_batches=0)
    assert saved.steps == [2, 4, 6]
