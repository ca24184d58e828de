"""Other machines than this one."""

import os

import pytest
import torch

from gpt2_lightning.machine import hardware

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
