"""What a sweep costs: two workers against one, the engine's own seconds, and the start of a run.

`python benchmarks/sweeps.py [--trials 8] [--rounds 5]` trains short trials of `pretrain_tiny`, and prints
seconds. Two workers can save only what one run leaves idle of the cores: beside their times stand those of
one run on all cores and on half of them. The start is measured from the start of the process to the end of
the first optimizer step, on a token store that is there, against Hugging Face's Trainer with the same model
and rows.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from gpt2_lightning.machine.hardware import available_cores, machine

ROOT = Path(__file__).parent.parent
EXPERIMENT = "--config=configs/experiment/pretrain_tiny.yaml"
RUN = [EXPERIMENT, "--model.optimizer=AdamW", "--trainer.precision=32-true"]  # as the Trainer does
LENGTHS = (5, 20, 60)  # optimizer steps of a trial
OFF = ["--samples.every_n_steps=0", "--histograms.every_n_steps=0"]
SHORT = [*OFF, "--trainer.limit_val_batches=8"]

FIRST_STEP = """
import os, sys, time
from torch.optim.optimizer import register_optimizer_step_post_hook
register_optimizer_step_post_hook(lambda *_: (print(time.time(), flush=True), os._exit(0)))
"""

OURS = """
import runpy
sys.argv = ["train.py", *{options!r}]
runpy.run_path("train.py", run_name="__main__")
"""

THEIRS = """
import numpy as np, torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

class Rows(torch.utils.data.Dataset):
    def __init__(self):
        self.ids = np.memmap({store!r}, dtype="<u2", mode="r")
    def __len__(self):
        return (len(self.ids) - 1) // 256
    def __getitem__(self, row):
        ids = torch.from_numpy(self.ids[256 * row : 256 * row + 256].astype(np.int64))
        return dict(input_ids=ids, labels=ids)

config = GPT2Config(vocab_size=4096, n_layer=3, n_head=3, n_embd=192, n_positions=256)
options = dict(per_device_train_batch_size=8, max_steps=5, report_to="none", use_cpu=True)
options = TrainingArguments({folder!r}, **options)
Trainer(GPT2LMHeadModel(config), options, train_dataset=Rows()).train()
"""


def seconds_to_first_step(script: str) -> float:
    began = time.time()
    ended = subprocess.run(
        [sys.executable, "-c", FIRST_STEP + script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    return float(ended.stdout.split()[-1]) - began


def starts(folder: Path, rounds: int) -> None:
    data = f"--data.folder={folder / 'data'}"
    options = ["fit", *RUN, *OFF, data, f"--logs={folder / 'logs'}"]
    command = [sys.executable, "train.py", "preflight", *RUN, data]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)  # the token store is there
    (store,) = (folder / "data").glob("*/train.bin")
    sides = {
        "train.py": OURS.format(options=options),
        "Hugging Face Trainer": THEIRS.format(store=str(store), folder=str(folder / "hf")),
    }
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, script in sides.items():
            found[name].append(seconds_to_first_step(script))
    print("\n| Start to the end of the first optimizer step | seconds | least | most |\n|---|---:|---:|---:|")
    for name, (_, *seconds) in found.items():  # the first is of cold files
        print(f"| {name} | {statistics.median(seconds):.2f} | {min(seconds):.2f} | {max(seconds):.2f} |")


def seconds_of(command: list[str], threads: int) -> float:
    began = time.perf_counter()
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env=environment)
    return time.perf_counter() - began


def sweeps(folder: Path, trials: int) -> None:
    """One worker on all cores against two on half of them each, at trials of several lengths."""
    cores = available_cores()
    print("| Steps of a trial | run, all cores | run, half | one worker | two | two / one | own part |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for steps in LENGTHS:
        options = [
            EXPERIMENT,
            f"--trainer.max_steps={steps}",
            f"--trainer.val_check_interval={steps}",
            *SHORT,
        ]
        file = sweep_file(folder / f"steps_{steps}.yaml", options, trials)
        run = [sys.executable, "train.py", "fit", *options, f"--logs={folder / 'logs'}"]
        whole = statistics.median(seconds_of(run, cores) for _ in range(3))
        half = statistics.median(seconds_of(run, cores // 2) for _ in range(3))
        sweep = [sys.executable, "-m", "gpt2_lightning", "sweep", str(file), "--logs", str(folder / "logs")]
        empty = seconds_of([*sweep, "--name", f"empty_{steps}", "--trials", "1"], cores) - whole
        one = seconds_of([*sweep, "--name", f"one_{steps}"], cores)
        two = seconds_of([*sweep, "--name", f"two_{steps}", "--workers", "2"], cores)
        own = (one - empty) / trials - whole
        print(f"| {steps} | {whole:.2f} | {half:.2f} | {one:.1f} | {two:.1f} | {two / one:.2f} | {own:.2f} |")
    print(f"\nA sweep starts and reports in {empty:.1f} seconds, which stand in its times above.")


def sweep_file(path: Path, options: list[str], trials: int) -> Path:
    """A grid of learning rates that are close together."""
    rates = [round(0.01 * 1.01**number, 6) for number in range(trials)]
    content = {
        "program": "train.py",
        "method": "grid",
        "metric": {"name": "val/nll", "goal": "minimize"},
        "parameters": {"model.optimizer.init_args.lr": {"values": rates}},
        "command": ["${env}", "${interpreter}", "${program}", "fit", *options, "${args}"],
    }
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    os.environ.pop("OMP_NUM_THREADS", None)
    print(machine(), end="\n\n")
    with tempfile.TemporaryDirectory() as folder:
        sweeps(Path(folder), arguments.trials)
        starts(Path(folder), arguments.rounds)


if __name__ == "__main__":
    main()
