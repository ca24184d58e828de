"""Which number format a machine trains fastest in."""

import torch


def best_precision(accelerator: str = "auto") -> str:
    """Lightning's name of the precision that this machine does natively.

    bf16 on GPUs from compute capability 8 and on CPUs with AMX or AVX-512 BF16; fp16 on older
    GPUs; float32 elsewhere.

    Args:
        accelerator: `trainer.accelerator`.
    """
    if accelerator in {"auto", "gpu", "cuda"} and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.get_device_capability() >= (8, 0) else "16-mixed"
    if accelerator in {"auto", "cpu"} and not torch.backends.mps.is_available():
        cpu = getattr(torch.cpu, "get_capabilities", dict)()  # not in every torch that we allow
        return "bf16-mixed" if cpu.get("amx_bf16") or cpu.get("avx512_bf16") else "32-true"
    return "32-true"
