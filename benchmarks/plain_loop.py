"""The wall-clock of an experiment against the same model and recipe in a plain PyTorch loop.

`python benchmarks/plain_loop.py input.txt [--steps 2000]` runs configs/experiment/shakespeare_char.yaml
and the loop below, in turns and in processes of their own. The loop has neither validations, samples nor
histograms, and they are off in the experiment; its curves, last checkpoint and export are on, and counted.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gpt2_lightning.machine.hardware import machine

ROOT = Path(__file__).parent.parent
ROUNDS = 3
BLOCK, BATCH, WARMUP, PEAK, FLOOR = 64, 12, 100, 1e-3, 1e-4


def plain(text: Path, steps: int) -> float:
    """Seconds of the loop in float32: cross-entropy, AdamW, clipping, warm-up and cosine."""
    import math

    import torch
    from torch.nn.functional import cross_entropy

    from gpt2_lightning.model.architecture import Architecture, build
    from gpt2_lightning.model.optimizers import parameter_groups

    content = text.read_text()
    content = content[: int(0.9 * len(content))]
    ids = {character: number for number, character in enumerate(sorted(set(content)))}
    data = torch.tensor([ids[character] for character in content])
    torch.manual_seed(0)
    shape = Architecture(4, 4, 128, BLOCK, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    model = build(shape, len(ids) + 2, 0)
    optimizer = torch.optim.AdamW(
        parameter_groups(model), lr=PEAK, betas=(0.9, 0.99), weight_decay=0.1, fused=True
    )
    started = time.perf_counter()
    for step in range(steps):
        progress = max(0.0, (step - WARMUP) / (steps - WARMUP))
        rate = FLOOR + (PEAK - FLOOR) * 0.5 * (1 + math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = PEAK * (step + 1) / WARMUP if step < WARMUP else rate
        starts = torch.randint(len(data) - BLOCK - 1, (BATCH,))
        rows = torch.stack([data[start : start + BLOCK + 1] for start in starts])
        logits = model(rows[:, :-1], use_cache=False).logits
        loss = cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return time.perf_counter() - started


def ours(text: Path, steps: int, folder: Path) -> float:
    """Seconds of training of the experiment, as its summary has them."""
    command = [
        *(sys.executable, str(ROOT / "train.py"), "fit"),
        *("--config", str(ROOT / "configs" / "experiment" / "shakespeare_char.yaml")),
        *("--data.corpus.source.paths", str(text), "--data.corpus.validation.paths", str(text)),
        *("--data.folder", str(folder / "data"), "--logs", str(folder / "logs")),
        *(
            "--trainer.max_steps",
            str(steps),
            "--trainer.limit_val_batches",
            "0",
            "--trainer.accelerator",
            "cpu",
        ),
        *("--samples.every_n_steps", "0", "--histograms.every_n_steps", "0"),
    ]
    subprocess.run(command, check=True, capture_output=True, text=True)
    newest = max((folder / "logs").glob("*/*/summary.json"), key=lambda path: path.stat().st_mtime)
    return json.loads(newest.read_text())["train_seconds"]


def main(text: Path, steps: int) -> None:
    print(machine(), end="\n\n")
    seconds: dict[str, list[float]] = {"plain loop": [], "experiment": []}
    with tempfile.TemporaryDirectory() as name:
        for _ in range(ROUNDS):
            command = [sys.executable, __file__, str(text), "--steps", str(steps), "--plain"]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            seconds["plain loop"].append(float(printed))
            seconds["experiment"].append(ours(text, steps, Path(name)))
    medians = {kind: statistics.median(each) for kind, each in seconds.items()}
    print(f"{steps:,} steps, medians of {ROUNDS} rounds in turns\n\n| | seconds |\n|---|---:|")
    for kind, each in seconds.items():
        print(f"| {kind} | {medians[kind]:.1f} ({', '.join(f'{one:.1f}' for one in each)}) |")
    print(f"\nratio {medians['experiment'] / medians['plain loop']:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path, help="Tiny Shakespeare, or another UTF-8 text")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument(
        "--plain", action="store_true", help="run the plain loop alone, and print its seconds"
    )
    options = parser.parse_args()
    if options.plain:
        print(plain(options.text, options.steps))
    else:
        main(options.text, options.steps)
