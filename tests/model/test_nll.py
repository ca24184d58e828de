import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from gpt2_lightning.model import nll
from gpt2_lightning.model.nll import linear_nll


def random_inputs(vocab_size: int = 37, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(3, 5, 8, generator=generator, dtype=dtype, requires_grad=True)
    weight = torch.randn(vocab_size, 8, generator=generator, dtype=dtype, requires_grad=True)
    targets = torch.randint(vocab_size, (3, 5), generator=generator)
    targets[0, 0] = targets[2, 3] = -100
    return hidden, weight, targets


def test_five_logits_by_hand():
    """Logits 0, 0, ln 2, 0, ln 3 have the probabilities 1/8, 1/8, 2/8, 1/8, 3/8."""
    logits = torch.tensor([[0.0, 0.0, math.log(2), 0.0, math.log(3)]])
    for target, probability in [(0, 1 / 8), (2, 2 / 8), (4, 3 / 8)]:
        total, num_targets = linear_nll(torch.ones(1, 1), logits.T, torch.tensor([target]))
        assert total.item() == pytest.approx(-math.log(probability), abs=1e-6)
        assert num_targets == 1


def both_ways(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor):
    """Mean and gradients by `linear_nll` and by `cross_entropy`; and the number of targets."""
    results = []
    total, num_targets = linear_nll(hidden, weight, targets)
    for mean in (
        total / num_targets,
        cross_entropy((hidden @ weight.T).flatten(0, 1), targets.flatten()),
    ):
        hidden.grad = weight.grad = None
        mean.backward()
        results.append((mean.detach(), hidden.grad, weight.grad))
    return *results, num_targets


@pytest.fixture
def few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch):
    """Logits of six float32 rows at a time, four of them and then two: 15 rows fill neither."""
    monkeypatch.setattr(nll, "_LOGITS_BYTES_CPU", 6 * 37 * 4)
    monkeypatch.setattr(nll, "_LOGITS_BYTES_CPU_16_BIT", 6 * 37 * 2)
    monkeypatch.setattr(nll, "_FLOAT32_BYTES_CPU", 4 * 37 * 4)


@pytest.mark.usefixtures("few_rows_at_a_time")
def test_value_and_gradients_are_cross_entropys():
    found, expected, num_targets = both_ways(*random_inputs(dtype=torch.float32))
    assert num_targets == 13
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("few_rows_at_a_time")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2e-2), (torch.float16, 2e-3)])
def test_16_bit_autocast_stays_close_to_float32(dtype: torch.dtype, tolerance: float):
    """At the tolerance of the format: 8 or 11 bits of mantissa."""
    hidden, weight, targets = random_inputs(dtype=torch.float32)
    exact, _ = linear_nll(hidden, weight, targets)
    exact_grads = torch.autograd.grad(exact, (hidden, weight))
    with torch.autocast("cpu", dtype):
        total, _ = linear_nll(hidden, weight, targets)
    grads = torch.autograd.grad(total, (hidden, weight))
    assert total.dtype == grads[0].dtype == grads[1].dtype == torch.float32
    torch.testing.assert_close(total, exact, rtol=tolerance, atol=0)
    torch.testing.assert_close(grads, exact_grads, rtol=tolerance, atol=tolerance)


def test_a_common_token_does_not_overflow_in_fp16():
    """3,000 targets of one token, in hidden states of 60, sum to 180,000; fp16 ends at 65,504."""
    hidden = torch.full((3000, 4), 60.0, requires_grad=True)
    weight = torch.zeros(8, 4, requires_grad=True)
    with torch.autocast("cpu", torch.float16):
        total, _ = linear_nll(hidden, weight, torch.zeros(3000, dtype=torch.int64))
    total.backward()
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad[0], torch.full((4,), -3000 * 60 * 7 / 8), rtol=1e-2, atol=0)


def test_a_second_backward_pass_is_refused():
    """The first scales the kept gradients in place."""
    hidden, weight, targets = random_inputs(dtype=torch.float32)
    total, _ = linear_nll(hidden, weight, targets)
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="inplace"):
        total.backward()


@pytest.mark.usefixtures("few_rows_at_a_time")
def test_without_a_gradient_the_value_is_the_same():
    hidden, weight, targets = random_inputs(dtype=torch.float32)
    expected = linear_nll(hidden, weight, targets)
    with torch.no_grad():
        found = linear_nll(hidden, weight, targets)
    torch.testing.assert_close(found, (expected[0].detach(), expected[1]))


def test_no_targets_give_zero_and_no_nan():
    hidden, weight, targets = random_inputs(dtype=torch.float32)
    total, num_targets = linear_nll(hidden, weight, torch.full_like(targets, -100))
    total.backward()
    assert total == 0
    assert num_targets == 0
    assert hidden.grad is not None
    assert hidden.grad.abs().sum() == 0


def test_a_hidden_state_alone_may_need_the_gradient():
    hidden, weight, targets = random_inputs(dtype=torch.float32)
    weight = weight.detach()
    linear_nll(hidden, weight, targets)[0].backward()
    assert weight.grad is None
    assert hidden.grad is not None


@pytest.mark.gpu
def test_on_cuda_value_and_gradients_are_cross_entropys():
    """Through Liger's kernel where it is installed, else through ours."""
    hidden, weight, targets = (tensor.detach().cuda() for tensor in random_inputs(4096, torch.float32))
    found, expected, _ = both_ways(hidden.requires_grad_(), weight.requires_grad_(), targets)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
