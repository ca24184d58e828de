"""Writing a checkpoint of GPT-2 small with Adam's moments: this project's writer and Lightning's.

`python benchmarks/checkpoints.py [--repeats 5]` writes each in turn over the one before, and prints the
median time, the memory it took beyond the tensors, and the time of this project's copy of the best and
of its check before loading.
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from transformers import GPT2Config, GPT2LMHeadModel

from gpt2_lightning.callbacks import checkpoint_io
from gpt2_lightning.callbacks.checkpoint_io import SafeCheckpointIO
from gpt2_lightning.machine.hardware import machine


def content() -> dict[str, Any]:
    """What a run of GPT-2 small saves: weights and two moments of each, 1.5 GB."""
    weights = dict(GPT2LMHeadModel(GPT2Config()).named_parameters())
    moments = {
        number: {"exp_avg": torch.randn_like(weight), "exp_avg_sq": torch.rand_like(weight)}
        for number, weight in enumerate(weights.values())
    }
    return {"state_dict": weights, "optimizer_states": [{"state": moments}], "global_step": 1}


def measured(act: Callable[[], Any]) -> tuple[float, float]:
    """Seconds, and GB that the process held beyond what it held before."""
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    start = time.perf_counter()
    act()
    seconds = time.perf_counter() - start
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    return seconds, (peak - before) / 1e9


def main(repeats: int) -> None:
    print(machine(), end="\n\n")
    checkpoint = content()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        last, best = folder / "last.ckpt", folder / "best.ckpt"
        safe, plain = SafeCheckpointIO(), TorchCheckpointIO()
        acts: dict[str, Callable[[], Any]] = {
            "Lightning's writer": lambda: plain.save_checkpoint(checkpoint, folder / "plain.ckpt"),
            "this project's writer": lambda: safe.save_checkpoint(checkpoint, last),
            "its copy of the best": lambda: checkpoint_io.copy(last, best),
            "its check and loading": lambda: checkpoint_io.read(last),
            "torch.load": lambda: torch.load(folder / "plain.ckpt", weights_only=True),
        }
        found: dict[str, list[tuple[float, float]]] = {what: [] for what in acts}
        for _ in range(repeats):
            for what, act in acts.items():
                found[what].append(measured(act))
        print(f"{last.stat().st_size / 1e9:.2f} GB, median of {repeats}\n")
    print("| | Seconds | GB of memory |\n|---|---:|---:|")
    for what, each in found.items():
        seconds, memory = (statistics.median(numbers) for numbers in zip(*each, strict=True))
        print(f"| {what} | {seconds:.2f} | {memory:.2f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    main(parser.parse_args().repeats)
