import copy

import pytest
import torch

from gpt2_lightning.errors import InputError
from gpt2_lightning.model.architecture import Architecture, build
from gpt2_lightning.model.optimizers import MuonAdamW, fuse, keep_own_settings, parameter_groups


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


def test_where_nothing_is_said_adamw_is_fused(model):
    optimizer, twin = (torch.optim.AdamW(parameter_groups(m)) for m in (model, copy.deepcopy(model)))
    fuse(optimizer)
    assert all(group["fused"] for group in optimizer.param_groups)
    for step in range(3):
        for group, other in zip(optimizer.param_groups, twin.param_groups, strict=True):
            for parameter, same in zip(group["params"], other["params"], strict=True):
                parameter.grad = torch.full_like(parameter, 0.1 * (step + 1))
                same.grad = parameter.grad.clone()
        optimizer.step()
        twin.step()
    for group, other in zip(optimizer.param_groups, twin.param_groups, strict=True):
        torch.testing.assert_close(group["params"], other["params"])


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda groups: torch.optim.AdamW(groups, fused=False),
        lambda groups: torch.optim.AdamW(groups, foreach=True),
        lambda groups: torch.optim.Adagrad(groups),
    ],
)
def test_what_was_said_of_fusing_stays(model, optimizer):
    optimizer = optimizer(parameter_groups(model))
    fuse(optimizer)
    assert not any(group["fused"] for group in optimizer.param_groups)


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


def test_one_rate_moves_all_groups_unless_muon_s_is_given_too(model):
    def rates(**options) -> list[float]:
        return [group["lr"] for group in MuonAdamW(parameter_groups(model), **options).param_groups]

    assert rates(lr=0.01) == [0.01, 0.01, 0.01]
    assert rates(lr=0.01, muon_lr_ratio=0.5) == [0.005, 0.01, 0.01]
    assert rates(lr=0.01, muon_lr_ratio=0.5, muon_lr=0.3) == [0.3, 0.01, 0.01]


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD, MuonAdamW])
def test_a_checkpoint_restores_state_and_the_settings_stay_those_given(model, kind):
    first = kind(parameter_groups(model), lr=1e-3, weight_decay=0.1)
    keep_own_settings(first)
    train(model, first, 2)
    for group in first.param_groups:
        group["lr"], group["initial_lr"] = 1e-5, 1e-3  # as the schedule leaves them
    saved = copy.deepcopy(first.state_dict())
    second = kind(parameter_groups(model), lr=1e-2, weight_decay=0.3)
    keep_own_settings(second)
    second.load_state_dict(saved)
    for group in second.param_groups:
        assert (group["lr"], group["initial_lr"]) == (1e-2, 1e-2)
        assert group["weight_decay"] == (0 if group["name"] == "vectors" else 0.3)
    assert len(second.state_dict()["state"]) == len(saved["state"])
    assert second.state_dict()["state"].keys() == saved["state"].keys()


def test_how_a_step_is_taken_stays_the_checkpoint_s_where_nothing_was_said(model):
    def adamw(**options) -> torch.optim.AdamW:
        optimizer = torch.optim.AdamW(parameter_groups(model), **options)
        keep_own_settings(optimizer)
        return optimizer

    fused = adamw(fused=True).state_dict()
    optimizer = adamw()
    optimizer.load_state_dict(fused)
    assert all(group["fused"] for group in optimizer.param_groups)
    said = adamw(fused=False)
    said.load_state_dict(fused)
    assert not any(group["fused"] for group in said.param_groups)


def test_the_state_of_another_optimizer_or_of_other_tensors_is_refused(model):
    adamw = torch.optim.AdamW(parameter_groups(model))
    keep_own_settings(adamw)
    saved = copy.deepcopy(adamw.state_dict())
    sgd = torch.optim.SGD(parameter_groups(model))
    keep_own_settings(sgd)
    with pytest.raises(InputError, match=r"--model.optimizer SGD: the checkpoint has the state of AdamW"):
        sgd.load_state_dict(copy.deepcopy(saved))
    for group in saved["param_groups"]:
        del group["kind"]  # of an earlier version
    adamw.load_state_dict(copy.deepcopy(saved))
    with pytest.raises(InputError, match=r"the state of another optimizer"):
        sgd.load_state_dict(copy.deepcopy(saved))
    model.transformer.h[0].requires_grad_(False)
    fewer = torch.optim.AdamW(parameter_groups(model))
    keep_own_settings(fewer)
    with pytest.raises(InputError, match=r"--model.trainable: "):
        fewer.load_state_dict(copy.deepcopy(saved))
