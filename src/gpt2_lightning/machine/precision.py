"""Which precision a machine trains fastest in, and what another one costs there."""

import torch

from gpt2_lightning.machine.hardware import cpu_kind, fastest_format, has_native_bf16, matrix_rate

_CPU = torch.device("cpu")
_NAMES = {torch.bfloat16: "bf16-mixed", torch.float16: "16-mixed", torch.float32: "32-true"}


def best_precision(accelerator: str = "auto") -> str:
    """Lightning's name of the precision that this machine trains fastest in.

    bf16 where products in it are native, or measured to be faster; fp16 on older GPUs; float32 elsewhere.

    Args:
        accelerator: `trainer.accelerator`.
    """
    if accelerator in {"auto", "gpu", "cuda"} and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.get_device_capability() >= (8, 0) else "16-mixed"
    return _NAMES[fastest_format(_CPU)] if takes_cpu(accelerator) else "32-true"


def takes_cpu(accelerator: str) -> bool:
    """Whether Lightning trains on the CPU under `trainer.accelerator`."""
    has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    return accelerator == "cpu" or (accelerator == "auto" and not has_gpu)


def product_format(precision: str) -> torch.dtype:
    """The format of the matrix products in one of Lightning's precisions."""
    if "bf16" in precision:
        return torch.bfloat16
    return torch.float16 if "16" in precision else torch.float32


def emulation_warning(precision: str, option: str = "--trainer.precision") -> str | None:
    """What training on a CPU that only emulates this precision costs, measured; `None` if it costs nothing.

    Args:
        precision: Lightning's name.
        option: that gave it.
    """
    dtype = product_format(precision)
    if dtype == torch.float32 or fastest_format(_CPU) == dtype:
        return None
    factor = matrix_rate(torch.float32) / matrix_rate(dtype)
    if factor < 1:
        return None
    name = "bf16" if dtype == torch.bfloat16 else "fp16"
    given = f"warning: {option} {precision}: "
    if name == "bf16" and has_native_bf16(_CPU) is None:
        return f"{given}a matrix product takes {factor:.1f} times as long as in float32 here ({cpu_kind()})"
    return (
        f"{given}this CPU ({cpu_kind()}) only emulates {name}: a matrix product takes at least {factor:,.0f} "
        "times as long as in float32; 32-true is faster"
    )
