"""The precision a run takes, and what is slow."""

import pytest
import torch

from gpt2_lightning.machine.precision import best_precision, emulation_warning, takes_cpu
from tests.machine.conftest import AVX2, CPUS


@pytest.mark.parametrize(("factor", "precision"), [(3.0, "bf16-mixed"), (1.1, "32-true"), (0.1, "32-true")])
def test_a_cpu_that_does_not_tell_is_measured(
    cpu, rates, monkeypatch: pytest.MonkeyPatch, factor: float, precision: str
):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)  # an older torch, an unknown CPU
    cpu({})
    rates(factor)
    assert best_precision("cpu") == precision


def test_an_emulated_precision_is_warned_about_with_its_factor(cpu, rates):
    cpu(AVX2)
    rates(1 / 40)
    warning = emulation_warning("bf16-mixed")
    assert warning is not None
    assert "--trainer.precision bf16-mixed" in warning
    assert "(AVX2) only emulates bf16" in warning
    assert "at least 40 times as long" in warning
    assert emulation_warning("32-true") is None
    cpu(CPUS["Graviton 3"][0])
    rates(1 / 1.5)
    assert "takes 1.5 times as long as in float32 here (NEON bf16)" in str(emulation_warning("bf16-mixed"))
    cpu(CPUS["Zen 4"][0])
    assert emulation_warning("bf16-mixed") is None


def test_macs_train_on_their_gpu_in_float32(cpu, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert best_precision("auto") == "32-true"
    assert not takes_cpu("auto")
    assert takes_cpu("cpu")
