"""Every way to adapt one base to another text: what trains, what it costs, what it brings, what is forgotten.

`python benchmarks/adaptation.py [BASE] [--steps 200]`: from the newest `pretrain_tiny` (documentation) to
Python code, with the options of configs/experiment/finetune_*.yaml and the learning rates below. Each run
is a process of its own, one after the other. Prints a Markdown table.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from gpt2_lightning.machine.hardware import machine

ROOT = Path(__file__).parent.parent
RATES = {
    "full": 1e-3,
    "last_layers": 3e-3,
    "lora": 5e-3,
    "dora": 5e-3,
    "rslora": 2e-3,
    "adalora": 1e-2,
    "ia3": 3e-2,
    "vera": 3e-2,
    "norms": 1e-2,
    "prefix": 3e-2,
    "prompt": 1e-1,
    "ptuning": 1e-2,
}


def train_py(*arguments: str) -> str:
    command = [sys.executable, str(ROOT / "train.py"), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if result.returncode:
        raise SystemExit(f"{' '.join(command)}\n{result.stdout[-2000:]}{result.stderr[-2000:]}")
    return result.stdout


def options(method: str, base: str) -> list[str]:
    """Of a method: an experiment of its own, or prefix tuning's or LoRA's with another adapter."""
    experiment = method if method in ("full", "last_layers", "lora", "prefix") else "lora"
    given = ["--config", str(ROOT / "configs" / "experiment" / f"finetune_{experiment}.yaml")]
    if experiment != method:
        given += ["--model.adapter", str(ROOT / "configs" / "adapter" / f"{method}.yaml")]
    if method in ("prompt", "ptuning"):
        given += ["--data.block_size", "224"]
    held_out = ["--data.corpus.validation_fraction", "0.03"]  # 300 kB of code
    return [*given, *held_out, "--model.pretrained", base, "--data.corpus.tokenizer.path", base]


def bits_per_byte(printed: str) -> float:
    return float(re.findall(r"bits per byte ([0-9.]+)", printed)[-1])


def main(base: str, steps: int, methods: list[str], rate: float | None) -> None:
    print(machine(), end="\n\n")
    documentation = ["--data.corpus.source", "PythonDocs"]
    start = options("full", base)
    before = [bits_per_byte(train_py("validate", *start, *extra)) for extra in ([], documentation)]
    print(f"before: {before[0]:.4f} bits per byte on code, {before[1]:.4f} on documentation; {steps} steps\n")
    columns = ("Method", "Learning rate", "Trains", "Checkpoint, MB", "Time, s", "Memory, MB", "Code", "Text")
    print(f"| {' | '.join(columns)} |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for method in methods:
        with tempfile.TemporaryDirectory() as logs:
            lr = rate or RATES[method]
            bounds = ["--trainer.max_steps", str(steps), "--trainer.val_check_interval", str(steps)]
            quiet = ["--samples.every_n_steps", "0", "--histograms.every_n_steps", "0", "--logs", logs]
            train_py("fit", *options(method, base), *bounds, *quiet, "--model.optimizer.lr", str(lr))
            (run,) = Path(logs).glob("*/*")
            summary = json.loads((run / "summary.json").read_text())
            best = run / "checkpoints" / "best.ckpt"
            config = ["--config", str(run / "config.yaml"), "--ckpt_path", str(best)]
            after = bits_per_byte(train_py("validate", *config, *documentation))
            print(
                f"| {method} | {lr:g} | {summary['parameters_trainable']:,} | "
                f"{best.stat().st_size / 1e6:.2f} | "
                f"{summary['train_seconds']:.0f} | {summary['peak_memory_bytes'] / 1e6:,.0f} | "
                f"{summary['val_bits_per_byte']:.4f} | {after:.4f} |",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "base", nargs="?", default="logs/pretrain_tiny/latest", help="a run, a folder, a hub id"
    )
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--methods", nargs="+", default=list(RATES))
    parser.add_argument("--rate", type=float, help="one learning rate for all")
    given = parser.parse_args()
    main(given.base, given.steps, given.methods, given.rate)
