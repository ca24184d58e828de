"""What this machine multiplies matrices with, and how fast in each number format."""

import math
import os
import platform
import sys
import time
from functools import cache
from pathlib import Path

import torch

_X86 = {"AMX": "amx_bf16", "AVX-512 bf16": "avx512_bf16", "AVX-512": "avx512_f", "AVX2": "avx2"}
"""Kinds of x86 CPU, the fastest at matrix products first, each with torch's name of what makes it one."""
_NATIVE_BF16 = ("AMX", "AVX-512 bf16")
_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_MEASURE_SECONDS = 0.2
_MEASURED = "GPT2_LIGHTNING_BF16_IS_FASTER"  # tells the processes of other ranks what the first one measured
_CLEARLY_FASTER = 1.5  # between formats that a measurement must tell apart; real gains are 2 and more


def cpu_kind() -> str:
    """`AMX`, `AVX-512 bf16`, `AVX-512`, `AVX2`, `NEON bf16`, `NEON`, or the architecture's name.

    The best that both the CPU has and oneDNN may use: `ONEDNN_MAX_CPU_ISA=AVX2` makes every x86 CPU an
    `AVX2` one, since it is oneDNN that multiplies in bf16.
    """
    has = _capabilities()
    allowed = list(_X86.items())[_first_allowed() :]
    for kind, capability in allowed:
        if has.get(capability):
            return kind
    if has.get("neon"):
        return "NEON bf16" if has.get("bf16") else "NEON"
    return platform.machine() or "unknown"


def cpu_description() -> str:
    """Model, kind, and cores of this process."""
    name = _capabilities().get("cpu_name") or platform.processor() or "CPU"
    return f"{name} ({cpu_kind()}), {available_cores()} cores"


def device_description(device: torch.device) -> str:
    """The device, and of a CPU its kind and this process' threads."""
    if device.type != "cpu":
        return device.type
    return f"cpu ({cpu_kind()}, {torch.get_num_threads()} threads on {available_cores()} cores)"


def machine() -> str:
    """What a benchmark's figures stand on: the CPU, torch's version and its threads."""
    return f"{cpu_description()}, torch {torch.__version__}, {torch.get_num_threads()} threads"


def available_cores() -> int:
    """Cores that this process may use: those of the machine, of its affinity, or of its container."""
    has_affinity = hasattr(os, "sched_getaffinity")  # not on macOS and Windows
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return max(1, min(cores, _container_cores()))


def _container_cores() -> int:
    """The quota of a Linux container, rounded up; without one, more than any machine has."""
    try:
        quota, period = _CPU_QUOTA.read_text().split()
        return math.ceil(int(quota) / int(period))
    except (OSError, ValueError):  # no container, or "max"
        return sys.maxsize


def total_memory_bytes() -> int:
    """Memory of this machine and of its GPUs."""
    import psutil

    gpus = (torch.cuda.get_device_properties(i).total_memory for i in range(torch.cuda.device_count()))
    return psutil.virtual_memory().total + sum(gpus)


def peak_memory_bytes() -> int:
    """Most memory that this process has had so far."""
    try:
        import resource
    except ImportError:  # on Windows
        import psutil

        memory = psutil.Process().memory_info()
        return getattr(memory, "peak_wset", memory.rss)
    unit = 1 if sys.platform == "darwin" else 1024  # Linux reports kibibytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def thread_warning() -> str | None:
    """What more threads than cores cost; `None` where there are not more."""
    threads, cores = torch.get_num_threads(), available_cores()
    if threads <= cores:
        return None
    return (
        f"warning: torch has {threads} threads for {cores} cores: they wait for each other, which can take a "
        f"hundred times as long; set OMP_NUM_THREADS={cores}"
    )


def _capabilities() -> dict[str, object]:
    return dict(getattr(torch.cpu, "get_capabilities", dict)())  # not in every torch that we allow


def _first_allowed() -> int:
    """Index of the best kind of `_X86` that the environment leaves to oneDNN."""
    limit = (os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "ALL").upper()
    if limit in ("ALL", "DEFAULT") or "AMX" in limit:
        return 0
    if limit.endswith("16") or limit.startswith("AVX10"):  # AVX512_CORE_BF16, AVX512_CORE_FP16
        return 1
    return 2 if limit.startswith("AVX512") else 3


def has_native_bf16(device: torch.device) -> bool | None:
    """Whether bf16 products have instructions of their own; `None` where only a measurement can tell.

    True of GPUs from compute capability 8, and of CPUs with AMX or AVX-512 BF16. An ARM CPU with bf16 has
    them, but not every build of torch uses them.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    kind, has = cpu_kind(), _capabilities()
    if kind in _X86:
        converts = has.get("avx_ne_convert") and _first_allowed() == 0
        return kind in _NATIVE_BF16 or (None if converts else False)
    return False if kind == "NEON" else None


@cache
def matrix_rate(dtype: torch.dtype) -> float:
    """Floating-point operations per second of the CPU in matrix products of this format, measured.

    In square products of doubling size, as far as a fifth of a second reaches; the best of the largest.
    Where a format is emulated, that is small, and larger ones may be far slower.
    """
    started, size, best = time.perf_counter(), 64, 0.0
    torch.mm(*[torch.ones(size, size, dtype=dtype)] * 2)  # warm-up
    while True:
        matrix = torch.ones(size, size, dtype=dtype)
        begun = time.perf_counter()
        torch.mm(matrix, matrix)
        ended = time.perf_counter()
        best = max(best, 2 * size**3 / (ended - begun))
        left = _MEASURE_SECONDS - (ended - started)
        if 16 * (ended - begun) < left:  # twice the size is 8 times the work, and more where it is emulated
            size, best = 2 * size, 0.0
        elif 2 * (ended - begun) > left:
            return best


def bf16_is_faster() -> bool:
    """Whether the CPU, measured, multiplies so much faster in bf16 than in float32 that no noise explains it.

    Measured once: the processes that this one starts take its answer, so that all ranks compute alike.
    """
    if _MEASURED not in os.environ:
        is_faster = matrix_rate(torch.bfloat16) > _CLEARLY_FASTER * matrix_rate(torch.float32)
        os.environ[_MEASURED] = str(int(is_faster))
    return os.environ[_MEASURED] == "1"


def fastest_format(device: torch.device) -> torch.dtype:
    """The number format in which the device multiplies matrices fastest.

    bf16 where it is native, fp16 on GPUs with older tensor cores (compute capability 7), float32 elsewhere;
    measured on CPUs whose capabilities do not tell.
    """
    native = has_native_bf16(device)
    if native or (native is None and bf16_is_faster()):
        return torch.bfloat16
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0):
        return torch.float16
    return torch.float32
