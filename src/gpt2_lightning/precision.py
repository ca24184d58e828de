"""Which precision a machine trains fastest in, and what another one costs there."""

import torch

from gpt2_lightning.hardware import cpu_kind, fastest_format, matrix_rate

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
    if accelerator == "cpu" or (accelerator == "auto" and not torch.backends.mps.is_available()):
        return _NAMES[fastest_format(_CPU)]
    return "32-true"


def product_format(precision: str) -> torch.dtype:
    """The format of the matrix products in one of Lightning's precisions."""
    if "bf16" in precision:
        return torch.bfloat16
    return torch.float16 if "16" in precision else torch.float32


def emulation_warning(precision: str) -> str | None:
    """What a CPU that only emulates this precision loses by it, measured; `None` if it loses nothing.

    Args:
        precision: Lightning's name.
    """
    dtype = product_format(precision)
    if dtype == torch.float32 or fastest_format(_CPU) == dtype:
        return None
    factor = matrix_rate(torch.float32) / matrix_rate(dtype)
    if factor < 1:
        return None
    return (
        f"this CPU ({cpu_kind()}) only emulates {'bf16' if dtype == torch.bfloat16 else 'fp16'}: a matrix "
        f"product takes {factor:,.1f} times as long as in float32"
    )
