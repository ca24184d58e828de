"""What of the model's options fits together, and what a model is built from."""

from typing import Any

import pytest
import torch
from peft import LoraConfig

from gpt2_lightning.errors import InputError
from gpt2_lightning.model.adaptation import Trainable
from gpt2_lightning.model.architecture import Architecture
from gpt2_lightning.model.pretrained import digest
from gpt2_lightning.model.recipe import Recipe, check_same_shapes

LORA = LoraConfig(r=2, target_modules=["c_attn"])


def recipe(pretrained: str | None = None, architecture: Architecture | None = None, **options: Any) -> Recipe:
    others = {
        "change_tokenizer": False,
        "trainable": Trainable(),
        "adapter": None,
        "gradient_checkpointing": False,
        "compiled": False,
    }
    return Recipe(architecture or Architecture(), pretrained, **(others | options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"adapter": LORA, "trainable": Trainable(layers=1)},
            "layers 1 and --model.adapter exclude each other",
        ),
        ({"adapter": LORA, "change_tokenizer": True}, "would never train beside --model.adapter"),
        (
            {"change_tokenizer": True, "trainable": Trainable(layers=1)},
            "would never train; give --model.trainable.embeddings true",
        ),
        ({"architecture": Architecture(n_positions=8)}, "block_size 16 is longer than .*n_positions 8"),
    ],
)
def test_options_that_exclude_each_other_are_refused(base: str, options: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        recipe(base, **options).config(block_size=16, isolated=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adapter": LORA}, "--model.adapter: is for a model that has learned .* --model.pretrained"),
        ({"change_tokenizer": True}, "--model.change_tokenizer: is for a model that has learned"),
        (
            {"architecture": Architecture(n_head=5)},
            "n_head 5 does not divide --model.architecture.n_embd 768",
        ),
    ],
)
def test_what_a_model_from_scratch_cannot_do_is_refused(options: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        recipe(**options).config(block_size=16, isolated=False)


def test_an_adapted_model_knows_its_own_tensors_and_the_base_that_they_are_for(base: str):
    from gpt2_lightning.data.tokenizer import Pretrained

    tokenizer = Pretrained(base).build(())
    plain, nothing = recipe(base).build(recipe(base).config(16, False), tokenizer)
    with_adapter = recipe(base, adapter=LORA)
    adapted, state = with_adapter.build(with_adapter.config(16, False), tokenizer)
    assert nothing is None
    assert state is not None
    assert state.base_sha256 == digest(plain)
    assert len(state.names) == 4, "two matrices in each of two blocks"
    assert state.names == {name for name, p in adapted.named_parameters() if p.requires_grad}


def test_the_first_tensor_that_differs_is_named_with_both_shapes():
    own = {"model.a": torch.zeros(2, 3), "model.b": torch.zeros(1)}
    check_same_shapes(dict(own), own)
    with pytest.raises(InputError, match=r"vocabulary: a is \(3,\) in the checkpoint and \(2, 3\) in"):
        check_same_shapes(own | {"model.a": torch.zeros(3)}, own)
    with pytest.raises(InputError, match=r"b is nothing in the checkpoint and \(1,\)"):
        check_same_shapes({"model.a": own["model.a"]}, own)
