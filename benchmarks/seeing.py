"""What seeing a run costs: per step above a plain PyTorch loop, and as a share of a pretrain_tiny run.

`python benchmarks/seeing.py` needs no text of its own. The first table times a model so small that what is
besides it shows (2 layers of width 64, one thread); each figure is the slope between a short and a long
run, in processes of their own and in turns. The second runs configs/experiment/pretrain_tiny.yaml with
everything off, and with samples, histograms and both loggers at their default cadence.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gpt2_lightning.machine.hardware import machine

ROOT = Path(__file__).parent.parent
ROUNDS = 3
SHORT, LONG = 500, 3000  # steps
BLOCK, BATCH, VOCABULARY = 32, 4, 300
TINY = [f"--model.architecture.{field}" for field in ("n_layer=2", "n_head=2", "n_embd=64", "n_positions=32")]
RECIPE = [
    f"--data.block_size={BLOCK}",
    f"--data.micro_batch_size={BATCH}",
    f"--data.corpus.tokenizer.vocab_size={VOCABULARY}",
    "--model.optimizer=AdamW",
    "--model.optimizer.fused=true",
    "--trainer.precision=32-true",
    "--trainer.accelerator=cpu",
    "--trainer.limit_val_batches=0",
]
NOTHING = ["--samples.every_n_steps=0", "--histograms.every_n_steps=0"]
LOGGER = str(ROOT / "configs" / "logger")
VARIANTS = {
    "no logger": [*NOTHING, "--trainer.logger=false"],
    "default logging (TensorBoard, metrics.csv)": NOTHING,
    "and histograms every 100 steps": ["--samples.every_n_steps=0"],
    "and W&B": ["--samples.every_n_steps=0", f"--trainer.logger={LOGGER}/tensorboard,wandb.yaml"],
}
EVERYTHING = {
    "off": [*NOTHING, "--trainer.logger=false"],
    "samples, histograms, both loggers": [f"--trainer.logger={LOGGER}/tensorboard,wandb.yaml"],
}


def fit(folder: Path, steps: int, options: list[str], threads: str = "2") -> float:
    """Seconds of training of a run of configs/experiment/pretrain_tiny.yaml with other options."""
    command = [sys.executable, str(ROOT / "train.py"), "fit"]
    command += [f"--config={ROOT}/configs/experiment/pretrain_tiny.yaml", f"--logs={folder}/logs"]
    command += [f"--data.folder={folder}/data", f"--trainer.max_steps={steps}", *options]
    environment = os.environ | {"WANDB_MODE": "offline", "OMP_NUM_THREADS": threads}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    newest = max((folder / "logs").glob("*/*/summary.json"), key=lambda path: path.stat().st_mtime)
    return json.loads(newest.read_text())["train_seconds"]


def plain(folder: Path, steps: int) -> float:
    """Seconds of a plain loop with the same model, rows, loss, optimizer, clipping and schedule."""
    import torch

    from gpt2_lightning.callbacks.warmup import lr_multiplier
    from gpt2_lightning.data.corpus import Corpus
    from gpt2_lightning.data.datamodule import TextDataModule
    from gpt2_lightning.data.packing import PackedRows
    from gpt2_lightning.data.sampler import RowOrder
    from gpt2_lightning.data.sources import PythonDocs
    from gpt2_lightning.data.tokenizer import ByteLevelBPE
    from gpt2_lightning.model.architecture import Architecture, build
    from gpt2_lightning.model.nll import linear_nll
    from gpt2_lightning.model.optimizers import parameter_groups

    data = TextDataModule(Corpus(PythonDocs(), ByteLevelBPE(VOCABULARY)), folder=str(folder / "data"))
    data.setup()
    store = data.store
    rows = PackedRows(store.tokens("train"), BLOCK)
    batches = RowOrder(len(rows), BATCH).batches(0)
    model = build(Architecture(2, 2, 64, BLOCK), len(store.tokenizer()), 0)
    optimizer = torch.optim.AdamW(parameter_groups(model), fused=True)
    torch.set_num_threads(1)
    started = time.perf_counter()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * lr_multiplier(step, steps, 0.03 * steps)
        batch = [rows[row] for row in next(batches)]
        inputs, targets = (torch.stack([row[name] for row in batch]) for name in ("input_ids", "targets"))
        hidden = model.transformer(inputs, use_cache=False).last_hidden_state
        nll, num_targets = linear_nll(hidden, model.lm_head.weight, targets)
        (nll / num_targets).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - started


def per_step(folder: Path) -> None:
    """Print milliseconds of a step, of the plain loop and of each variant."""
    names = ["plain loop", *VARIANTS]
    figures: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        for name in names:
            seconds = []
            for steps in (SHORT, LONG):
                if name == "plain loop":
                    command = [sys.executable, __file__, "--plain", str(folder), str(steps)]
                    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                    seconds.append(float(printed))
                else:
                    seconds.append(fit(folder, steps, [*TINY, *RECIPE, *VARIANTS[name]], "1"))
            figures[name].append(1000 * (seconds[1] - seconds[0]) / (LONG - SHORT))
    base = statistics.median(figures["plain loop"])
    print(f"2 layers of width 64, one thread, medians of {ROUNDS} rounds in turns\n")
    print("| | ms a step | above the plain loop |\n|---|---:|---:|")
    for name, each in figures.items():
        median = statistics.median(each)
        listed = ", ".join(f"{one:.2f}" for one in each)
        print(f"| {name} | {median:.2f} ({listed}) | {median - base:.2f} |")


def share(folder: Path, steps: int) -> None:
    """Print the seconds of pretrain_tiny with nothing to see and with everything."""
    figures: dict[str, list[float]] = {name: [] for name in EVERYTHING}
    for _ in range(ROUNDS):
        for name, options in EVERYTHING.items():
            figures[name].append(fit(folder, steps, options))
    print(f"\npretrain_tiny, {steps} steps, medians of {ROUNDS} rounds in turns\n\n| | seconds |\n|---|---:|")
    for name, each in figures.items():
        listed = ", ".join(f"{one:.1f}" for one in each)
        print(f"| {name} | {statistics.median(each):.1f} ({listed}) |")
    without, with_all = (statistics.median(each) for each in figures.values())
    print(f"\nshare {with_all / without - 1:.1%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=560, help="of pretrain_tiny")
    parser.add_argument("--plain", nargs=2, help="run the plain loop alone: folder, steps")
    options = parser.parse_args()
    if options.plain:
        print(plain(Path(options.plain[0]), int(options.plain[1])))
    else:
        print(machine(), end="\n\n")
        with tempfile.TemporaryDirectory() as name:
            fit(Path(name), 1, [*TINY, *RECIPE, *NOTHING])  # builds the token store
            per_step(Path(name))
            share(Path(name), options.steps)
