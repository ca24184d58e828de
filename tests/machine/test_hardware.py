import os
import time
from pathlib import Path

import pytest
import torch

from gpt2_lightning.machine import hardware
from gpt2_lightning.machine.precision import best_precision, emulation_warning, takes_cpu

CPU = torch.device("cpu")
AVX2 = {"avx2": True, "architecture": "x86_64"}
CPUS = {
    "Sapphire Rapids": (AVX2 | {"avx512_f": True, "avx512_bf16": True, "amx_bf16": True}, "AMX", True),
    "Zen 4": (AVX2 | {"avx512_f": True, "avx512_bf16": True}, "AVX-512 bf16", True),
    "Skylake server": (AVX2 | {"avx512_f": True}, "AVX-512", False),
    "a laptop": (AVX2, "AVX2", False),
    "Lunar Lake": (AVX2 | {"avx_ne_convert": True}, "AVX2", None),
    "Graviton 3": ({"neon": True, "bf16": True}, "NEON bf16", None),
    "Graviton 2": ({"neon": True, "bf16": False}, "NEON", False),
}


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch):
    """Makes torch tell of another CPU."""
    for variable in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setitem(os.environ, hardware._MEASURED, "")  # so that it is put back
    monkeypatch.delitem(os.environ, hardware._MEASURED)

    def set_to(capabilities: dict) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)

    return set_to


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch):
    """Makes a machine multiply so many times as fast in 16 bits as in float32."""

    def set_to(factor: float) -> None:
        def rate(dtype: torch.dtype) -> float:
            return 1e11 * (1 if dtype == torch.float32 else factor)

        monkeypatch.setattr(hardware, "matrix_rate", rate)
        monkeypatch.setattr("gpt2_lightning.machine.precision.matrix_rate", rate)

    return set_to


@pytest.mark.parametrize("name", CPUS)
def test_kinds_of_cpu(cpu, name: str):
    capabilities, kind, native = CPUS[name]
    cpu(capabilities)
    assert (hardware.cpu_kind(), hardware.has_native_bf16(CPU)) == (kind, native)


@pytest.mark.parametrize(
    ("limit", "kind", "native"),
    [
        ("AVX2", "AVX2", False),
        ("avx512_core", "AVX-512", False),
        ("AVX512_CORE_VNNI", "AVX-512", False),
        ("AVX512_CORE_BF16", "AVX-512 bf16", True),
        ("AVX512_CORE_AMX", "AMX", True),
        ("ALL", "AMX", True),
    ],
)
def test_what_onednn_may_not_use_is_not_there(
    cpu, monkeypatch: pytest.MonkeyPatch, limit: str, kind: str, native: bool
):
    cpu(CPUS["Sapphire Rapids"][0])
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert (hardware.cpu_kind(), hardware.has_native_bf16(CPU)) == (kind, native)


@pytest.mark.parametrize(("factor", "precision"), [(3.0, "bf16-mixed"), (1.1, "32-true"), (0.1, "32-true")])
def test_a_cpu_that_does_not_tell_is_measured(
    cpu, rates, monkeypatch: pytest.MonkeyPatch, factor: float, precision: str
):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)  # an older torch, an unknown CPU
    cpu({})
    rates(factor)
    assert best_precision("cpu") == precision


def test_the_ranks_take_what_the_first_one_measured(cpu, rates, monkeypatch: pytest.MonkeyPatch):
    cpu(CPUS["Graviton 3"][0])
    rates(3.0)
    assert hardware.fastest_format(CPU) == torch.bfloat16
    rates(0.5)
    assert hardware.fastest_format(CPU) == torch.bfloat16, "the environment, which they get, says so"


def test_a_container_has_the_cores_of_its_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)), raising=False)
    monkeypatch.setattr(hardware, "_CPU_QUOTA", tmp_path / "cpu.max")
    for content, cores in (("150000 100000", 2), ("max 100000", 64), ("50000 100000", 1)):
        (tmp_path / "cpu.max").write_text(content + "\n")
        assert hardware.available_cores() == cores


def test_the_matrix_rate_is_soon_there_in_every_format():
    """In a fifth of a second and what the machine needs to get going, also where a format is emulated."""
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        started = time.perf_counter()
        rate = hardware.matrix_rate.__wrapped__(dtype)
        assert time.perf_counter() - started < 2
        assert 1e7 < rate < 1e14


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


def test_more_threads_than_cores_are_warned_about(monkeypatch: pytest.MonkeyPatch):
    cores = hardware.available_cores()
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    assert hardware.thread_warning() is None
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4 * cores)
    assert f"{4 * cores} threads for {cores} cores" in str(hardware.thread_warning())


def test_cores_where_nobody_tells_of_affinity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(hardware, "_CPU_QUOTA", tmp_path / "none")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert hardware.available_cores() == os.cpu_count()


def test_macs_train_on_their_gpu_in_float32(cpu, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert best_precision("auto") == "32-true"
    assert not takes_cpu("auto")
    assert takes_cpu("cpu")
