import random

import numpy as np
import torch
from lightning.pytorch import Trainer

from gpt2_lightning.callbacks.checkpoints import Checkpoints
from gpt2_lightning.callbacks.random_state import random_state, set_random_state
from tests.conftest import tiny_module


def draw() -> tuple[float, float, float]:
    return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002


def test_every_generator_goes_on_from_a_state_that_was_in_a_file(tmp_path):
    torch.save(random_state(), tmp_path / "state")
    expected = draw()
    draw()
    set_random_state(torch.load(tmp_path / "state", weights_only=True))
    assert draw() == expected


def test_a_resumed_run_draws_on_from_its_first_batch():
    checkpoints = Checkpoints()
    state = checkpoints.state_dict()
    expected = draw()
    draw()
    checkpoints.load_state_dict(state)
    checkpoints.on_train_batch_start(Trainer(logger=False, accelerator="cpu"), tiny_module(), None, 0)
    assert draw() == expected
