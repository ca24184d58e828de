import copy
from typing import Literal

import pytest
import torch

from gpt2_lightning.model.architecture import Architecture, build
from gpt2_lightning.model.optimizers import MuonAdamW, parameter_groups


@pytest.fixture
def model():
    torch.manual_seed(0)
    shape = Architecture(
        n_layer=2, n_head=2, n_embd=16, n_positions=8, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0
    )
    return build(shape, vocab_size=20, end_of_text=0)


def train(model, optimizer: torch.optim.Optimizer, steps: int) -> float:
    ids = torch.arange(16).reshape(2, 8)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(ids, labels=ids).loss
        loss.backward()
        optimizer.step()
    return loss.item()


def test_groups_hold_each_trainable_parameter_once(model):
    model.transformer.h[0].requires_grad_(False)
    groups = parameter_groups(model)
    assert [group["name"] for group in groups] == ["hidden_matrices", "embeddings", "vectors"]
    grouped = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters() if p.requires_grad)


def test_decay_is_on_matrices_only(model):
    optimizer = torch.optim.AdamW(parameter_groups(model), lr=1e-3, weight_decay=0.1)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.1 if parameter.ndim == 2 else 0)


def test_empty_groups_are_left_out():
    layer = torch.nn.LayerNorm(4)
    assert [group["name"] for group in parameter_groups(layer)] == ["vectors"]


@pytest.mark.parametrize("rule", ["match_rms_adamw", "original"])
def test_one_step_is_muons_and_adamws_own(model, rule: Literal["match_rms_adamw", "original"]):
    twin = copy.deepcopy(model)
    optimizer = MuonAdamW(parameter_groups(model), lr=1e-2, muon_lr=2e-2, adjust_lr_fn=rule)
    train(model, optimizer, steps=3)
    hidden, embeddings, vectors = parameter_groups(twin)
    muon = torch.optim.Muon(hidden["params"], lr=2e-2, adjust_lr_fn=rule)
    adamw = torch.optim.AdamW([embeddings, vectors], lr=1e-2, betas=(0.9, 0.95), weight_decay=0.1)
    ids = torch.arange(16).reshape(2, 8)
    for _ in range(3):
        twin.zero_grad()
        twin(ids, labels=ids).loss.backward()
        muon.step()
        adamw.step()
    torch.testing.assert_close(model.state_dict(), twin.state_dict())


def test_it_learns(model):
    optimizer = MuonAdamW(parameter_groups(model), lr=1e-2, muon_lr=1e-2)
    before = train(model, optimizer, 1)
    assert train(model, optimizer, 30) < before / 4


def test_resumed_state_continues_bit_for_bit(model):
    optimizer = MuonAdamW(parameter_groups(model))
    train(model, optimizer, 2)
    twin = copy.deepcopy(model)
    resumed = MuonAdamW(parameter_groups(twin))
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(model, optimizer, 2)
    train(twin, resumed, 2)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_a_changed_learning_rate_reaches_both_parts(model):
    optimizer = MuonAdamW(parameter_groups(model))
    optimizer.load_state_dict(optimizer.state_dict())
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = [parameter.clone() for parameter in model.parameters()]
    train(model, optimizer, 1)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_no_hidden_matrix_leaves_adamw_alone():
    layer = torch.nn.LayerNorm(4)
    optimizer = MuonAdamW(parameter_groups(layer), lr=0.1)
    layer(torch.arange(4.0)).sum().backward()
    optimizer.step()
    assert layer.bias.abs().sum() > 0
