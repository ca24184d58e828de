import copy
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gpt2_lightning.errors import InputError
from gpt2_lightning.model import muon
from gpt2_lightning.model.architecture import Architecture, build
from gpt2_lightning.model.muon import orthogonalize
from gpt2_lightning.model.optimizers import MuonAdamW, parameter_groups

LR, MOMENTUM, DECAY, STEPS = 0.02, 0.95, 0.1, 3
TOLERANCES = {torch.float32: 2e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Of an update, relative: 24, 11 or 8 bits of mantissa through four steps of the iteration."""
RULES = {
    "original": lambda outputs, inputs: max(1, outputs / inputs) ** 0.5,
    "match_rms_adamw": lambda outputs, inputs: 0.2 * max(outputs, inputs) ** 0.5,
}


def of_singular_values(values: np.ndarray) -> np.ndarray:
    """What the iteration makes of singular values."""
    for a, b, c in muon._COEFFICIENTS:
        values = a * values + b * values**3 + c * values**5
    return values


def test_singular_values_come_near_one():
    values = of_singular_values(np.geomspace(0.003, 1, 10_000))
    assert 0.77 < values.min() < values.max() < 1.23


def exactly(matrix: Tensor) -> Tensor:
    """The orthogonalized matrix by its singular values and vectors, in float64."""
    u, s, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    return u @ torch.diag(torch.from_numpy(of_singular_values((s / (1.02 * s.norm())).numpy()))) @ v


@pytest.mark.parametrize("shape", [(8, 8), (8, 12), (8, 40)], ids=["square", "wide", "very wide"])
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_orthogonalized_matrices_keep_their_singular_vectors(shape: tuple[int, int], dtype: torch.dtype):
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    for found, matrix in zip(orthogonalize(matrices, dtype), matrices, strict=True):
        error = (found.double() - exactly(matrix)).norm() / exactly(matrix).norm()
        assert error < TOLERANCES[dtype]


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_a_matrix_of_rank_one_and_zeros_stay_finite(dtype: torch.dtype):
    """Its one singular value is at the end of the range, where rounding takes it past."""
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(2, 64, 1, generator=generator) @ torch.randn(2, 1, 96, generator=generator)
    assert torch.linalg.matrix_norm(orthogonalize(one, dtype).float(), 2).max() < 1.4
    assert not orthogonalize(torch.zeros_like(one), dtype).any()


def linear_layers(model: nn.Module) -> dict[str, Tensor]:
    """The weights of the first block as float64 linear layers `(out, in)`: queries, keys, values apart."""
    block = model.transformer.h[0]
    queries, keys, values = block.attn.c_attn.weight.detach().double().T.chunk(3)
    rest = {"o": block.attn.c_proj, "fc": block.mlp.c_fc, "proj": block.mlp.c_proj}
    return {"q": queries, "k": keys, "v": values} | {
        name: layer.weight.detach().double().T for name, layer in rest.items()
    }


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build(Architecture(n_layer=2, n_head=2, n_embd=16, n_positions=8), vocab_size=20, end_of_text=0)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_steps_are_the_papers_on_linear_layers(
    model,
    rule: Literal["original", "match_rms_adamw"],
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
):
    """A plain reading in float64: momentum, Nesterov, the polar factor, decoupled decay."""
    monkeypatch.setattr(muon, "fastest_format", lambda device: dtype)
    optimizer = MuonAdamW(
        parameter_groups(model), muon_lr=LR, momentum=MOMENTUM, weight_decay=DECAY, adjust_lr_fn=rule
    )
    expected = {name: weight.clone() for name, weight in linear_layers(model).items()}
    momentum = {name: torch.zeros_like(weight) for name, weight in expected.items()}
    moved = copy.deepcopy(momentum)
    generator = torch.Generator().manual_seed(1)
    before = linear_layers(copy.deepcopy(model))
    for _ in range(STEPS):
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        shadow = copy.deepcopy(model)
        for parameter, own in zip(shadow.parameters(), model.parameters(), strict=True):
            parameter.data = own.grad
        for name, gradient in linear_layers(shadow).items():
            momentum[name] = MOMENTUM * momentum[name] + (1 - MOMENTUM) * gradient
            update = exactly(MOMENTUM * momentum[name] + (1 - MOMENTUM) * gradient)
            expected[name] *= 1 - LR * DECAY
            expected[name] -= LR * RULES[rule](*update.shape) * update
        optimizer.step()
    for name, weight in linear_layers(model).items():
        moved = expected[name] - before[name]
        assert (weight - expected[name]).norm() / moved.norm() < TOLERANCES[dtype], name


def test_batches_of_one_give_the_same(model, monkeypatch: pytest.MonkeyPatch):
    twin = copy.deepcopy(model)
    for each, elements in ((model, 2**24), (twin, 1)):
        monkeypatch.setattr(muon, "_BATCH_ELEMENTS", elements)
        optimizer = MuonAdamW(parameter_groups(each))
        generator = torch.Generator().manual_seed(0)
        for parameter in each.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    torch.testing.assert_close(list(model.parameters()), list(twin.parameters()), rtol=1e-2, atol=1e-4)


def test_layouts_of_gpt2_and_of_its_adapter(model):
    from peft import LoraConfig, inject_adapter_in_model

    def described(parameters: dict[str, Tensor]) -> dict[str, tuple[bool, int]]:
        found = muon.layouts(model, parameters.values())
        return {name: (e["inputs_first"], e["parts"]) for name, e in zip(parameters, found, strict=True)}

    block = model.transformer.h[0]
    own = {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"}
    assert described({name: block.get_submodule(name).weight for name in own}) == {
        "attn.c_attn": (True, 3),
        "attn.c_proj": (True, 1),
        "mlp.c_fc": (True, 1),
        "mlp.c_proj": (True, 1),
    }
    inject_adapter_in_model(LoraConfig(r=6, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True), model)
    adapted = block.attn.c_attn, block.mlp.c_fc
    names = ("c_attn.A", "c_attn.B", "c_fc.A", "c_fc.B")
    weights = [part["default"].weight for layer in adapted for part in (layer.lora_A, layer.lora_B)]
    assert described(dict(zip(names, weights, strict=True))) == {
        "c_attn.A": (False, 1),
        "c_attn.B": (False, 3),
        "c_fc.A": (False, 1),
        "c_fc.B": (False, 1),
    }


def test_a_checkpoint_of_torchs_muon_is_refused(model):
    hidden = parameter_groups(model)[0]["params"]
    old = torch.optim.Muon([{"params": hidden, "name": "hidden_matrices"}]).state_dict()
    with pytest.raises(InputError, match="queries, keys and values for one matrix"):
        MuonAdamW(parameter_groups(model)).load_state_dict(old)


@pytest.mark.parametrize("option", ["muon_lr", "momentum", "weight_decay"])
def test_a_negative_setting_is_refused(model, option: str):
    with pytest.raises(ValueError, match="must be at least 0"):
        MuonAdamW(parameter_groups(model), **{option: -0.1})
