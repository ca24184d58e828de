"""What a sweep costs: two workers against one, the engine's own seconds, and the start of a run.

`python benchmarks/sweeps.py [--trials 8] [--rounds 5]` trains short trials of a small GPT-2 on the
documentation inside Python, and prints seconds. The start is measured from the start of the process to the
end of the first optimizer step, on a token store that is there, against Hugging Face's Trainer with the same
model and rows.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
RUN = [
    "--config=configs/experiment/pretrain_tiny.yaml",
    "--model.optimizer=AdamW",
    "--trainer.precision=32-true",
]
SHORT = ["--trainer.max_steps=20", "--trainer.val_check_interval=20", "--trainer.limit_val_batches=8"]
OFF = ["--samples.every_n_steps=0", "--histograms.every_n_steps=0"]

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
    options = ["fit", *RUN, *OFF, f"--logs={folder / 'logs'}"]
    command = [sys.executable, "train.py", "preflight", *RUN]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)  # the token store is there
    stores = sorted(ROOT.glob("data/*/train.bin"), key=lambda path: path.stat().st_mtime)
    sides = {
        "train.py": OURS.format(options=options),
        "Hugging Face Trainer": THEIRS.format(store=str(stores[-1]), folder=str(folder / "hf")),
    }
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, script in sides.items():
            found[name].append(seconds_to_first_step(script))
    print("\n| Start to the end of the first optimizer step | seconds | least | most |\n|---|---:|---:|---:|")
    for name, (_, *seconds) in found.items():  # the first is of cold files
        print(f"| {name} | {statistics.median(seconds):.2f} | {min(seconds):.2f} | {max(seconds):.2f} |")


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def sweeps(folder: Path, trials: int) -> None:
    rates = [round(0.001 * 1.1**number, 6) for number in range(trials)]
    content = {
        "program": "train.py",
        "method": "grid",
        "metric": {"name": "val/nll", "goal": "minimize"},
        "parameters": {"model.optimizer.init_args.lr": {"values": rates}},
        "command": ["${env}", "${interpreter}", "${program}", "fit", *RUN, *SHORT, *OFF, "${args}"],
    }
    (folder / "short.yaml").write_text(yaml.safe_dump(content, sort_keys=False))

    def sweep(workers: int, name: str) -> None:
        options = ["--workers", str(workers), "--name", name, "--logs", str(folder / "logs")]
        command = [sys.executable, "-m", "gpt2_lightning", "sweep", str(folder / "short.yaml"), *options]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)

    def alone() -> None:
        command = [sys.executable, "train.py", "fit", *RUN, *SHORT, *OFF, f"--logs={folder / 'logs'}"]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)

    by_itself = statistics.median(timed(alone) for _ in range(3))
    one = timed(lambda: sweep(1, "one"))
    again = timed(lambda: sweep(1, "one"))  # nothing is left to do: what start and report take
    two = timed(lambda: sweep(2, "two"))
    print(f"| {trials} trials of 20 steps | seconds |\n|---|---:|")
    print(f"| one worker, all cores | {one:.1f} |\n| two workers, half of them each | {two:.1f} |")
    print(f"| two against one | {two / one:.2f} |\n| start and report of a sweep | {again:.1f} |")
    print(f"| such a run by itself | {by_itself:.2f} |")
    print(f"| the sweep's own part of a trial | {(one - again) / trials - by_itself:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    os.environ.pop("OMP_NUM_THREADS", None)
    with tempfile.TemporaryDirectory() as folder:
        sweeps(Path(folder), arguments.trials)
        starts(Path(folder), arguments.rounds)


if __name__ == "__main__":
    main()
