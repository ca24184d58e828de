"""AdaLoRA: the penalty is PEFT's, ranks go out as PEFT says, and a resumed run goes on with both."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.plugins import MixedPrecision
from peft import PeftConfig

from gpt2_lightning.callbacks.adalora import AdaLoRA, add_penalty_gradients
from gpt2_lightning.callbacks.checkpoints import Checkpoints
from gpt2_lightning.callbacks.guards import Guards
from gpt2_lightning.errors import InputError
from gpt2_lightning.model.module import GPT2Module
from tests.model.test_adaptation import StopAt, adapter, module_of

# PEFT 0.21 calls transformers 5.23 by names that are old there, and warns of itself
pytestmark = pytest.mark.filterwarnings("default")


def adalora(**fields: Any) -> PeftConfig:
    config: Any = adapter("adalora")
    config.init_r, config.target_r = 4, 2
    for name, value in fields.items():
        setattr(config, name, value)
    return config


class Gradients(Callback):
    """Those of the first step, as the next callback sees them."""

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.found = {n: p.grad.clone() for n, p in pl_module.named_parameters() if p.grad is not None}
        trainer.should_stop = True


def test_the_penalty_is_that_of_peft_s_own_loss(base: str, train: Callable[..., Trainer]):
    module = module_of(base, adalora())
    train([AdaLoRA(), StopAt(1)], module=module, max_steps=8, limit_val_batches=0)
    model: Any = module.model
    ids = torch.arange(16)[None]

    def gradients(of: Any) -> dict[str, torch.Tensor]:
        model.zero_grad()
        of(input_ids=ids, labels=ids).loss.backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    with_penalty, without = gradients(model), gradients(model.get_base_model())
    add_penalty_gradients(model)
    assert any(not torch.allclose(with_penalty[name], without[name]) for name in without)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, with_penalty[name])


def test_the_loss_scale_of_fp16_does_not_weigh_the_penalty(base: str, train: Callable[..., Trainer]):
    found = []
    for plugins in ([], [MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu"))]):
        gradients = Gradients()
        torch.manual_seed(0)
        module = module_of(base, adalora(orth_reg_weight=100.0))
        train([AdaLoRA(), gradients], module=module, max_steps=8, limit_val_batches=0, plugins=plugins)
        found.append(gradients.found)
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=0.05, atol=0.05)


def test_ranks_go_out_and_a_resumed_run_ends_as_the_whole_one(
    base: str, train: Callable[..., Trainer], tmp_path: Path
):
    def run(steps: int, folder: str, **options: Any) -> GPT2Module:
        module, root = module_of(base, adalora()), tmp_path / folder
        train([AdaLoRA(), Checkpoints()], module=module, max_steps=steps, default_root_dir=root, **options)
        return module

    whole = run(8, "whole")
    pattern: Any = whole.model.active_peft_config.rank_pattern  # pyright: ignore
    assert sum(sum(ranks) for ranks in pattern.values()) == 2 * 2  # two matrices, two ranks on average
    # the length of the run decides the ranks: the first half is told that it is part of the whole
    halves, half = module_of(base, adalora()), tmp_path / "half"
    train([AdaLoRA(), Checkpoints(), StopAt(4)], module=halves, max_steps=8, default_root_dir=half)
    rest = run(8, "half", ckpt_path=half / "checkpoints" / "last.ckpt")
    for key, value in whole.state_dict().items():
        assert torch.equal(value, rest.state_dict()[key]), key


def test_a_step_that_is_left_out_leaves_the_ranks_alone(base: str, train: Callable[..., Trainer]):
    class Poison(Callback):
        def on_after_backward(self, trainer, pl_module):
            if trainer.global_step + 1 == 3:
                for parameter in pl_module.parameters():
                    if parameter.grad is not None:
                        parameter.grad.fill_(math.nan)

    class Importance(Callback):
        after: dict[int, float] = {}

        def on_train_batch_end(self, trainer, pl_module, *rest):
            values = pl_module.model.base_model.rankallocator.exp_avg_ipt.values()
            self.after[trainer.global_step] = sum(value.sum().item() for value in values)

    module, importance = module_of(base, adalora(deltaT=1)), Importance()
    callbacks = [AdaLoRA(), Poison(), Guards(skip_nonfinite_steps=1), importance]
    train(callbacks, module=module, limit_val_batches=0)
    assert all(parameter.isfinite().all() for parameter in module.parameters())
    assert importance.after[1] != importance.after[2] == importance.after[3]


def test_a_step_that_overflows_in_fp16_tells_nothing_of_importance(base: str, train: Callable[..., Trainer]):
    for scale, remembers in ((2.0**60, False), (1.0, True)):
        plugins = [MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=scale))]
        module = module_of(base, adalora())
        train([AdaLoRA(), StopAt(2)], module=module, max_steps=8, limit_val_batches=0, plugins=plugins)
        model: Any = module.model
        assert bool(model.base_model.rankallocator.ipt) == remembers


def test_a_run_that_is_too_short_for_its_settings_is_refused(base: str, train: Callable[..., Trainer]):
    with pytest.raises(InputError, match=r"adapter.tinit 5 and .*tfinal 1 need a longer run .* 6 steps"):
        train([AdaLoRA()], module=module_of(base, adalora(tinit=5)), max_steps=6)


def test_it_is_for_adalora_alone():
    assert len(AdaLoRA.needed_by(adalora())) == 1
    assert AdaLoRA.needed_by(adapter("lora")) == AdaLoRA.needed_by(None) == []
