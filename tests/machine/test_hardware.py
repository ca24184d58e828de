import os
import time
from pathlib import Path

import pytest
import torch

from gpt2_lightning.machine import hardware
from tests.machine.conftest import CPUS

CPU = torch.device("cpu")


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
