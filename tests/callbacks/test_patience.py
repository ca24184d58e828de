from collections.abc import Callable

import torch
from lightning.pytorch import Trainer

from gpt2_lightning.callbacks.patience import Patience
from tests.conftest import tiny_module


def test_a_run_that_gets_no_better_ends_after_so_many_validations(train: Callable[..., Trainer]):
    still = tiny_module(optimizer=lambda params: torch.optim.SGD(params, lr=0.0))
    trainer = train([patience := Patience(2)], module=still, max_steps=20, val_check_interval=2)
    assert trainer.global_step == 2 * (1 + 2), "the first is the best"
    assert patience.is_over


def test_a_resumed_run_takes_its_own_patience_and_the_validations_before(train: Callable[..., Trainer]):
    before, after = Patience(2), Patience(5)
    before.wait_count = 2
    after.load_state_dict(before.state_dict())
    assert (after.wait_count, after.patience, after.is_over) == (2, 5, False)
