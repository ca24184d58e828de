"""Loss and gradients of whole optimizer steps, in a real Trainer."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins import MixedPrecision
from peft import LoraConfig
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from transformers import GPT2LMHeadModel

from gpt2_lightning.callbacks.checkpoints import Checkpoints
from gpt2_lightning.data.datamodule import TextDataModule
from gpt2_lightning.data.packing import IGNORED
from gpt2_lightning.errors import InputError
from gpt2_lightning.model.module import GPT2Module
from tests.conftest import tiny_module


class KeepGradients(Callback):
    """Keeps what the optimizer sees at each step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, torch.Tensor]] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        self.steps.append({n: p.grad.clone() for n, p in pl_module.named_parameters() if p.grad is not None})


class FixedBatches(TextDataModule):
    """Serves given batches, whatever their masks."""

    batches: list[dict[str, torch.Tensor]]

    def train_dataloader(self):
        return DataLoader(self.batches, batch_size=None)  # pyright: ignore[reportArgumentType]


def ragged_batches(number: int, vocab_size: int) -> list[dict[str, torch.Tensor]]:
    """Micro-batches of 4 rows of 16 tokens, each with another share of targets; the first has none."""
    generator = torch.Generator().manual_seed(0)
    batches = []
    for index in range(number):
        ids = torch.randint(vocab_size, (4, 16), generator=generator)
        targets = torch.randint(vocab_size, (4, 16), generator=generator)
        targets[torch.rand(4, 16, generator=generator) > index / number] = IGNORED
        batches.append({"input_ids": ids, "targets": targets})
    return batches


@pytest.mark.parametrize(("num_batches", "accumulate"), [(4, 4), (4, 2), (3, 2), (3, 1)])
def test_gradients_are_of_the_mean_over_all_targets_of_the_step(
    train: Callable[..., Trainer],
    datamodule: Callable[..., TextDataModule],
    num_batches: int,
    accumulate: int,
):
    """Equal to one big batch, with masks of any length and in a short last window."""
    data = datamodule()
    data.__class__ = FixedBatches
    data.batches = ragged_batches(num_batches, vocab_size=300)
    kept, module = KeepGradients(), tiny_module(optimizer=lambda params: torch.optim.SGD(params, lr=0.0))
    train(
        [kept],
        data,
        module,
        max_steps=math.ceil(num_batches / accumulate),
        accumulate_grad_batches=accumulate,
        limit_val_batches=0,
    )
    windows = [data.batches[i : i + accumulate] for i in range(0, num_batches, accumulate)]
    assert len(kept.steps) == len(windows)
    for window, gradients in zip(windows, kept.steps, strict=True):
        module.zero_grad()
        big = {key: torch.cat([batch[key] for batch in window]) for key in window[0]}
        if (big["targets"] == IGNORED).all():
            assert all(gradient.abs().sum() == 0 for gradient in gradients.values())
            continue
        logits = module.gpt2(big["input_ids"]).logits
        cross_entropy(logits.flatten(0, 1), big["targets"].flatten()).backward()
        for name, parameter in module.named_parameters():
            error = (gradients[name] - parameter.grad).norm() / parameter.grad.norm()  # pyright: ignore
            assert error < 1e-5, name  # rounding of float32, which is each processor's own


def test_loss_is_hugging_faces_own(datamodule: Callable[..., TextDataModule], train: Callable[..., Trainer]):
    module = tiny_module()
    train([], module=module, max_steps=1, limit_val_batches=0)
    ids = torch.randint(300, (2, 17), generator=torch.Generator().manual_seed(1))
    nll, num_targets = module(ids[:, :-1], ids[:, 1:])
    expected = module.gpt2(ids, labels=ids).loss
    assert (nll / num_targets).item() == pytest.approx(expected.item(), abs=1e-6)


def test_validation_is_token_weighted_over_the_whole_split(train: Callable[..., Trainer]):
    module = tiny_module()
    trainer = train([], module=module)
    data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
    total, count = 0.0, 0
    module.eval()
    with torch.no_grad():
        for batch in data.val_dataloader():
            logits = module.gpt2(batch["input_ids"]).logits.double()
            total += cross_entropy(logits.flatten(0, 1), batch["targets"].flatten(), reduction="sum").item()
            count += int((batch["targets"] != IGNORED).sum())
    counts = data.store.splits["validation"]
    metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
    assert count == counts.tokens
    assert metrics["val/nll"] == pytest.approx(total / count, rel=1e-5)
    assert metrics["val/perplexity"] == pytest.approx(math.exp(total / count), rel=1e-4)
    assert metrics["val/bits_per_byte"] == pytest.approx(total / math.log(2) / counts.utf8_bytes, rel=1e-5)


def test_first_loss_is_near_a_uniform_guess_and_training_lowers_it(train: Callable[..., Trainer]):
    class Losses(Callback):
        seen: list[float] = []

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            self.seen.append((outputs["nll"] / outputs["num_targets"]).item())

    losses = Losses()
    train([losses], max_steps=60, limit_val_batches=0)
    assert losses.seen[0] == pytest.approx(math.log(300), abs=0.1)
    assert losses.seen[-1] < losses.seen[0] - 0.8


def test_model_trains_in_training_mode(train: Callable[..., Trainer]):
    class Modes(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            assert all(part.training for part in pl_module.modules())

    assert train([Modes()]).global_step == 4


def test_gradients_are_freed_with_their_step(train: Callable[..., Trainer]):
    """Before the next forward pass, also that of a validation; callbacks see them to the step's end."""

    class Seen(Callback):
        def __init__(self):
            self.held: dict[str, list[bool]] = {"start": [], "end": [], "validation": []}

        def look(self, when, pl_module):
            self.held[when].append(any(p.grad is not None for p in pl_module.parameters()))

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            self.look("start", pl_module)

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            self.look("end", pl_module)

        def on_validation_start(self, trainer, pl_module):
            self.look("validation", pl_module)

    train([seen := Seen()], max_steps=2, accumulate_grad_batches=2, val_check_interval=2)
    assert seen.held["start"] == [False, True, False, True]
    assert seen.held["end"] == [True, True, True, True]
    assert seen.held["validation"] == [False, False]


def test_fp16_with_a_scaler_gives_the_gradients_of_float32(
    train: Callable[..., Trainer], datamodule: Callable[..., TextDataModule]
):
    """In relative norm within the 11 bits of fp16; the scale, 2^16, is taken out once and before clipping."""
    steps = []
    for scaler in (None, torch.amp.GradScaler("cpu")):
        kept, module = KeepGradients(), tiny_module(optimizer=lambda p: torch.optim.AdamW(p, lr=1e-3))
        plugins = [MixedPrecision("16-mixed", "cpu", scaler=scaler)] if scaler else []
        train([kept], datamodule(), module, plugins=plugins, gradient_clip_val=0.1, limit_val_batches=0)
        assert module.grad_norm > 0.1, "clipped"
        steps.append(torch.cat([gradient.flatten() for gradient in kept.steps[0].values()]))
        assert len(kept.steps) == 4
    assert (steps[1] - steps[0]).norm() / steps[0].norm() < 2**-10


def test_fused_adamw_leaves_fp16s_scale_to_the_scaler(train: Callable[..., Trainer]):
    for scaler, fused in ((None, True), (torch.amp.GradScaler("cpu"), False)):
        module = tiny_module(optimizer=lambda params: torch.optim.AdamW(params, fused=True))
        plugins = [MixedPrecision("16-mixed", "cpu", scaler=scaler)] if scaler else []
        (optimizer,) = train([], module=module, max_steps=1, limit_val_batches=0, plugins=plugins).optimizers
        assert getattr(optimizer, "_step_supports_amp_scaling", False) == fused
        assert all(group["fused"] == fused for group in optimizer.param_groups)


def test_a_checkpoint_of_another_shape_is_refused_with_both(train: Callable[..., Trainer], tmp_path: Path):
    train([Checkpoints()], max_steps=1)
    with pytest.raises(InputError, match=r"transformer.h.2.* is nothing in the checkpoint and \("):
        train(
            [Checkpoints()],
            module=tiny_module(n_layer=3),
            ckpt_path=tmp_path / "checkpoints" / "last.ckpt",
        )


def test_an_adapters_checkpoint_is_refused_on_another_base(
    base: str, train: Callable[..., Trainer], tmp_path: Path
):
    adapter = LoraConfig(r=2, target_modules=["c_attn"])
    train([Checkpoints()], module=GPT2Module(pretrained=base, adapter=adapter), max_steps=1)
    model = GPT2LMHeadModel.from_pretrained(base)
    model.transformer.ln_f.bias.data += 1
    other = tmp_path / "other"
    model.save_pretrained(other)
    for path in Path(base).glob("tokenizer*"):
        (other / path.name).write_bytes(path.read_bytes())
    with pytest.raises(InputError, match="was trained on other weights"):
        train(
            [Checkpoints()],
            module=GPT2Module(pretrained=str(other), adapter=adapter),
            ckpt_path=tmp_path / "checkpoints" / "last.ckpt",
        )
