from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from peft import LoraConfig
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import GPT2LMHeadModel

from gpt2_lightning.callbacks.histograms import Histograms
from gpt2_lightning.model.module import GPT2Module
from gpt2_lightning.runs.loggers import MetricsCSV, TensorBoard
from tests.conftest import read_metrics, tiny_module
from tests.model.test_module import KeepGradients


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_are_those_of_the_step_before_clipping(
    train: Callable[..., Trainer], tmp_path: Path, precision: str
):
    kept = KeepGradients()
    train(
        [Histograms(every_n_steps=2), kept],
        logger=TensorBoard(str(tmp_path)),
        accumulate_grad_batches=4,
        gradient_clip_val=1e-6,
        limit_val_batches=0,
        precision=precision,
    )
    events = EventAccumulator(str(tmp_path), size_guidance={"histograms": 0}).Reload()
    recorded = events.Histograms("gradients/h.0.attn")
    assert [event.step for event in recorded] == [2, 4]
    for event, step in zip(recorded, (2, 4), strict=True):
        part = {name: g for name, g in kept.steps[step - 1].items() if ".h.0.attn." in name}
        assert len(part) == 4, "weights and biases of c_attn and c_proj"
        gradient = torch.cat([each.flatten() for each in part.values()])
        counts, edges = np.histogram(gradient.numpy(), 64)
        histogram = event.histogram_value
        assert histogram.num == gradient.numel() == sum(histogram.bucket)
        assert max(histogram.bucket) == pytest.approx(max(counts), abs=2)
        assert histogram.sum == pytest.approx(gradient.double().sum().item(), rel=1e-4, abs=1e-9)
        assert histogram.sum_squares == pytest.approx(gradient.double().square().sum().item(), rel=1e-4)
        assert (histogram.min, histogram.max) == pytest.approx((edges[0], edges[-1]))


@pytest.mark.parametrize(("precision", "tolerance"), [("32-true", 1e-4), ("bf16-mixed", 0.05)])
def test_gradients_are_those_of_a_plain_backward_pass(
    train: Callable[..., Trainer], tmp_path: Path, precision: str, tolerance: float
):
    """Of the mean NLL over four micro-batches at once, by plain cross-entropy, far above the clip value."""

    class Batches(Callback):
        def __init__(self):
            self.start: dict[str, torch.Tensor] = {}
            self.rows: list[tuple[torch.Tensor, torch.Tensor]] = []

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            self.start = self.start or {n: p.detach().clone() for n, p in pl_module.gpt2.named_parameters()}
            self.rows.append((batch["input_ids"], batch["targets"]))

    seen, module = Batches(), tiny_module()
    settings = {
        "accumulate_grad_batches": 4,
        "gradient_clip_val": 1e-6,
        "limit_val_batches": 0,
        "max_steps": 1,
    }
    board = TensorBoard(str(tmp_path))
    callbacks = [Histograms(every_n_steps=1), seen]
    train(callbacks, module=module, logger=board, precision=precision, **settings)
    plain = GPT2LMHeadModel(module.gpt2.config)
    plain.load_state_dict(seen.start, strict=False)
    inputs, targets = (torch.cat(each) for each in zip(*seen.rows, strict=True))
    logits = plain(input_ids=inputs).logits
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
    events = EventAccumulator(str(tmp_path), size_guidance={"histograms": 0}).Reload()
    for part in ("h.0.attn", "h.1.mlp", "wpe", "ln_f"):
        gradients = [p.grad for n, p in plain.named_parameters() if f".{part}." in f"{n}."]
        gradient = torch.cat([each.flatten() for each in gradients if each is not None])
        histogram = events.Histograms(f"gradients/{part}")[0].histogram_value
        assert histogram.sum_squares == pytest.approx(gradient.square().sum().item(), rel=2 * tolerance)
        assert (histogram.min, histogram.max) == pytest.approx(
            (gradient.min().item(), gradient.max().item()), rel=tolerance
        )
        assert histogram.sum_squares > 1e-8, "clipped, it would be 1e-12 over the whole model"


def test_every_part_that_trains_has_both(train: Callable[..., Trainer], tmp_path: Path):
    train([Histograms(every_n_steps=4)], logger=TensorBoard(str(tmp_path)), limit_val_batches=0)
    blocks = [f"h.{number}.{part}" for number in (0, 1) for part in ("ln_1", "attn", "ln_2", "mlp")]
    found = EventAccumulator(str(tmp_path)).Reload().Tags()["histograms"]
    assert set(found) == {
        f"{kind}/{part}" for kind in ("gradients", "weights") for part in (*blocks, "wte", "wpe", "ln_f")
    }


def test_what_is_frozen_is_left_out_under_an_adapter(
    train: Callable[..., Trainer], tmp_path: Path, base: str
):
    module = GPT2Module(pretrained=base, adapter=LoraConfig(r=2, target_modules=["c_attn"]))
    train(
        [Histograms(every_n_steps=4)], module=module, logger=TensorBoard(str(tmp_path)), limit_val_batches=0
    )
    events = EventAccumulator(str(tmp_path)).Reload()
    parts = {f"{kind}/h.{number}.attn" for kind in ("gradients", "weights") for number in (0, 1)}
    assert set(events.Tags()["histograms"]) == parts
    assert {tag for tag in events.Tags()["scalars"] if "update" in tag} == {
        "update_to_weight/h.0", "update_to_weight/h.1",
    }  # fmt: skip


def test_the_update_is_measured_against_the_weights(train: Callable[..., Trainer], tmp_path: Path):
    """SGD by hand: the update is the rate times the gradient."""
    module = tiny_module(optimizer=lambda params: torch.optim.SGD(params, lr=0.1))
    kept, start = KeepGradients(), {}

    class Start(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            start.update({name: p.detach().clone() for name, p in pl_module.named_parameters()})

    train(
        [Histograms(every_n_steps=1), kept, Start()],
        module=module,
        logger=[TensorBoard(str(tmp_path)), MetricsCSV(str(tmp_path))],
        max_steps=1,
        limit_val_batches=0,
    )
    (row,) = read_metrics(tmp_path)
    for block in ("h.0", "h.1", "wte", "wpe", "ln_f"):
        names = [name for name in start if f".{block}." in name]
        change = sum(kept.steps[0][name].square().sum() for name in names) ** 0.5 * 0.1
        weight = sum(start[name].square().sum() for name in names) ** 0.5
        assert float(row[f"update_to_weight/{block}"]) == pytest.approx(float(change / weight), rel=1e-3)


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
