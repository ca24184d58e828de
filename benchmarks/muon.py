"""What a step of Muon costs: ours against torch's, and against its matrix products alone.

Random gradients on the matrices of `pretrain_tiny` and of GPT-2 small. Prints a Markdown table: milliseconds
of an optimizer step, medians in turns. torch's multiplies in bf16 on every machine, ours in the format that
is fastest; where bf16 is emulated, torch's is left out for GPT-2 small, whose step takes minutes.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from gpt2_lightning.machine.hardware import fastest_format, machine
from gpt2_lightning.machine.malloc import keep_freed_memory
from gpt2_lightning.model import muon
from gpt2_lightning.model.architecture import Architecture, build
from gpt2_lightning.model.muon import Muon
from gpt2_lightning.model.optimizers import parameter_groups

MODELS = {
    "pretrain_tiny": (Architecture(n_layer=3, n_head=3, n_embd=192, n_positions=256), 4096),
    "GPT-2 small": (Architecture(), 50_257),
}
ROUNDS = 5


def products_alone(groups: list[dict]) -> Callable[[], None]:
    """The matrix products of `orthogonalize`, on as many matrices of the same shapes, in the same batches."""
    numbers: dict[tuple[int, int], int] = {}
    for parameter, layout in zip(groups[0]["params"], groups[0]["layouts"], strict=True):
        shape = tuple(parameter.chunk(layout["parts"], 1)[0].shape)
        numbers[shape] = numbers.get(shape, 0) + layout["parts"]
    dtype = fastest_format(torch.device("cpu"))
    batches = []
    for shape, number in numbers.items():
        at_once = max(1, muon._BATCH_ELEMENTS // (shape[0] * shape[1]))
        sizes = [min(at_once, number - start) for start in range(0, number, at_once)]
        batches += [torch.randn(size, min(shape), max(shape)).to(dtype) for size in sizes]
    steps = len(muon._COEFFICIENTS)

    def run() -> None:
        for x in batches:
            gram = x @ x.mT
            if dtype == torch.float32 and 2 * x.shape[1] <= x.shape[2]:
                for _ in range(4 * steps - 3):  # 3 in the first step, 2 in the last, 4 in each between
                    torch.bmm(gram, gram)
                torch.bmm(gram, x)
                continue
            for step in range(steps):
                torch.bmm(gram, gram)
                torch.bmm(gram, x)
                if step:
                    torch.bmm(x, x.mT)

    return run


def variants(model: nn.Module, with_torch: bool) -> dict[str, Callable[[], None]]:
    """What is timed, by name."""
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    groups = parameter_groups(model)
    ours = {"ours": Muon(groups[:1]).step, "its products alone": products_alone(groups)}
    if not with_torch:
        return ours  # pyright: ignore[reportReturnType]
    return {"torch.optim.Muon": torch.optim.Muon(groups[0]["params"]).step} | ours  # pyright: ignore


def milliseconds(run: Callable[[], None]) -> float:
    started = time.perf_counter()
    run()
    return (time.perf_counter() - started) * 1e3


def main() -> None:
    keep_freed_memory()
    dtype = fastest_format(torch.device("cpu"))
    print(f"{machine()}; ours in {dtype}")
    print(f"medians of {ROUNDS} rounds\n\n| Matrices of | Muon | ms a step |\n|---|---|---:|")
    for name, (architecture, vocab_size) in MODELS.items():
        model = build(architecture, vocab_size, end_of_text=0)
        runs = variants(model, with_torch=dtype != torch.float32 or name == "pretrain_tiny")
        for run in runs.values():
            run()
        times = {kind: [] for kind in runs}
        for _ in range(ROUNDS):
            for kind, run in runs.items():
                times[kind].append(milliseconds(run))
        for kind, each in times.items():
            print(f"| {name} | {kind} | {statistics.median(each):,.1f} |", flush=True)


if __name__ == "__main__":
    main()
