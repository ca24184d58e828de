from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gpt2_lightning.callbacks.histograms import Histograms
from gpt2_lightning.runs.loggers import TensorBoard
from tests.conftest import tiny_module
from tests.model.test_module import KeepGradients


def test_gradients_are_those_of_the_step_before_clipping(train: Callable[..., Trainer], tmp_path: Path):
    kept = KeepGradients()
    train(
        [Histograms(every_n_steps=2), kept],
        logger=TensorBoard(str(tmp_path)),
        accumulate_grad_batches=2,
        gradient_clip_val=1e-6,
        limit_val_batches=0,
    )
    events = EventAccumulator(str(tmp_path), size_guidance={"histograms": 0}).Reload()
    recorded = events.Histograms("gradients/h.0.attn.c_attn.weight")
    assert [event.step for event in recorded] == [2, 4]
    for event, step in zip(recorded, (2, 4), strict=True):
        gradient = kept.steps[step - 1]["model.transformer.h.0.attn.c_attn.weight"]
        histogram = event.histogram_value
        assert histogram.num == gradient.numel()
        assert histogram.sum == pytest.approx(gradient.double().sum().item(), rel=1e-4, abs=1e-9)
        assert histogram.sum_squares == pytest.approx(gradient.double().square().sum().item(), rel=1e-4)
        assert (histogram.min, histogram.max) == pytest.approx((gradient.min().item(), gradient.max().item()))


def test_every_trainable_parameter_has_both(train: Callable[..., Trainer], tmp_path: Path):
    module = tiny_module()
    train(
        [Histograms(every_n_steps=4)], module=module, logger=TensorBoard(str(tmp_path)), limit_val_batches=0
    )
    names = {name.removeprefix("model.transformer.") for name, _ in module.named_parameters()}
    found = EventAccumulator(str(tmp_path)).Reload().Tags()["histograms"]
    assert set(found) == {f"{kind}/{name}" for kind in ("gradients", "weights") for name in names}


def test_zero_turns_them_off(train: Callable[..., Trainer], tmp_path: Path):
    train([Histograms(every_n_steps=0)], logger=TensorBoard(str(tmp_path)), limit_val_batches=0)
    assert EventAccumulator(str(tmp_path)).Reload().Tags()["histograms"] == []


def test_it_says_so_when_there_is_no_logger_for_them(train: Callable[..., Trainer]):
    with pytest.warns(UserWarning, match="histograms are off: neither TensorBoard nor W&B"):
        train([Histograms(every_n_steps=1)], limit_val_batches=0)


def test_training_is_bit_for_bit_the_same_without_them(train: Callable[..., Trainer], tmp_path: Path):
    weights = []
    for every_n_steps in (0, 1):
        module = tiny_module(dropout=0.2)
        train(
            [Histograms(every_n_steps)], module=module, logger=TensorBoard(str(tmp_path)), limit_val_batches=0
        )
        weights.append([parameter.detach().clone() for parameter in module.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))
