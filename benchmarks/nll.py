"""Time and memory of the loss layer: `linear_nll` against `cross_entropy` on float32 logits.

Forward and backward of the output layer alone, in bf16 autocast where the CPU has bf16 and in float32
elsewhere, each variant in a process of its own, side by side and several times. Prints a Markdown table.
"""

import resource
import statistics
import subprocess
import sys
import time

import torch
from torch.nn.functional import cross_entropy

from gpt2_lightning.machine.hardware import fastest_format, machine
from gpt2_lightning.model.nll import linear_nll

SHAPES = {"tiny": (2048, 192, 4096), "GPT-2 small": (2048, 768, 50_257)}  # tokens, width, vocabulary
VARIANTS = ("cross_entropy", "linear_nll")
ROUNDS, STEPS = 3, 5


def measure(dtype: str, variant: str, tokens: int, width: int, vocab_size: int) -> tuple[float, float]:
    """Milliseconds per step (median), and mebibytes above what the process held before."""
    torch.manual_seed(0)
    hidden = torch.randn(tokens, width, requires_grad=True)
    weight = (torch.randn(vocab_size, width) * 0.02).requires_grad_()
    targets = torch.randint(vocab_size, (tokens,))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = []
    for _ in range(STEPS):
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "torch.bfloat16"):
            if variant == "linear_nll":
                loss = linear_nll(hidden, weight, targets)[0] / tokens
            else:
                loss = cross_entropy((hidden @ weight.T).float(), targets)
        loss.backward()
        times.append(time.perf_counter() - started)
        hidden.grad = weight.grad = None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return statistics.median(times) * 1e3, (peak - before) / 1024


def main() -> None:
    if len(sys.argv) > 1:
        print(*measure(*sys.argv[1:3], *SHAPES[sys.argv[3]]))
        return
    dtype = str(fastest_format(torch.device("cpu")))
    print(f"{machine()}, {dtype}, medians of {ROUNDS} rounds\n")
    print("| Shape (tokens × width × vocabulary) | Variant | ms | MiB |")
    print("|---|---|---:|---:|")
    for shape, sizes in SHAPES.items():
        results: dict[str, list[list[float]]] = {variant: [] for variant in VARIANTS}
        for _ in range(ROUNDS):
            for variant in VARIANTS:
                command = [sys.executable, __file__, dtype, variant, shape]
                printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                results[variant].append([float(number) for number in printed.split()])
        for variant, rows in results.items():
            milliseconds, mebibytes = (statistics.median(column) for column in zip(*rows, strict=True))
            name = f"{shape} ({' × '.join(f'{size:,}' for size in sizes)})"
            print(f"| {name} | `{variant}` | {milliseconds:.0f} | {mebibytes:.0f} |")


if __name__ == "__main__":
    main()
