"""A step of GPT-2 small: this project against nanoGPT, a plain loop and Hugging Face's Trainer.

`python benchmarks/gpt2_small.py [--nanogpt FOLDER]` trains 124 million parameters in float32 on random
tokens, 8 rows of 256, without dropout: each variant in a process of its own, in turns. nanoGPT takes part
where FOLDER holds its `model.py`. Prints a Markdown table of the seconds of a step and of the peak resident
memory.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import torch
from lightning.pytorch import Callback

from gpt2_lightning.machine.hardware import machine, peak_memory_bytes
from gpt2_lightning.machine.malloc import keep_freed_memory

ROOT = Path(__file__).parent.parent
ROWS, BLOCK, VOCABULARY = 8, 256, 50_257
SHAPE = {"n_layer": 12, "n_head": 12, "n_embd": 768, "n_positions": BLOCK}
DROPOUTS = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
RECIPE = {"lr": 6e-4, "betas": (0.9, 0.95), "weight_decay": 0.1}
VARIANTS = ("nanoGPT", "plain loop", "train.py fit", "Hugging Face Trainer")

ends: list[float] = []
"""When each step of this process ended."""


class Clock(Callback):
    """Notes when each step ends."""

    def on_train_batch_end(self, *arguments: object) -> None:
        ends.append(time.perf_counter())


def tokens(steps: int) -> torch.Tensor:
    """`(steps, ROWS, BLOCK + 1)` random ids, the same in every variant."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(VOCABULARY, (steps, ROWS, BLOCK + 1), generator=generator)


def nanogpt(steps: int, folder: str) -> None:
    """The loop of its train.py, without compile."""
    sys.path.insert(0, folder)
    import model as theirs  # pyright: ignore[reportMissingImports]

    config = theirs.GPTConfig(
        BLOCK, VOCABULARY, SHAPE["n_layer"], SHAPE["n_head"], SHAPE["n_embd"], 0.0, True
    )
    model = theirs.GPT(config)
    optimizer = model.configure_optimizers(
        RECIPE["weight_decay"], RECIPE["lr"], RECIPE["betas"], device_type="cpu"
    )
    for rows in tokens(steps):
        _, loss = model(rows[:, :-1].contiguous(), rows[:, 1:].contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ends.append(time.perf_counter())


def plain_loop(steps: int) -> None:
    """This project's module, loss and groups, without a Trainer."""
    from gpt2_lightning.model.architecture import Architecture, build
    from gpt2_lightning.model.module import GPT2Module
    from gpt2_lightning.model.optimizers import parameter_groups

    keep_freed_memory()
    module = GPT2Module(Architecture(**SHAPE, **DROPOUTS))
    module.model = build(module.recipe.architecture, VOCABULARY, end_of_text=VOCABULARY - 1)
    optimizer = torch.optim.AdamW(parameter_groups(module), fused=True, **RECIPE)
    for rows in tokens(steps):
        nll, num_targets = module(rows[:, :-1].contiguous(), rows[:, 1:].contiguous())
        (nll / num_targets).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ends.append(time.perf_counter())


def fit(steps: int) -> None:
    """`train.py fit` on the same number of tokens, from token files."""
    from gpt2_lightning.commandline.cli import main

    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, __file__, f"--steps={steps}", f"--prepare={name}"]
        subprocess.run(command, check=True)  # its memory is not the run's
        options = {
            "config": ROOT / "configs/experiment/pretrain_gpt2_small.yaml",
            "trainer.callbacks": "gpt2_small.Clock",
            "trainer.max_steps": steps,
            "trainer.precision": "32-true",
            "trainer.accelerator": "cpu",
            "trainer.accumulate_grad_batches": 1,
            "trainer.limit_val_batches": 0,
            "model.compile": "false",
            "model.architecture.n_positions": BLOCK,
            "data.block_size": BLOCK,
            "data.micro_batch_size": ROWS,
            "data.corpus.source.paths": f"{name}/train.bin",
            "data.corpus.validation.paths": f"{name}/val.bin",
            "data.corpus.tokenizer.path": f"{name}/tokenizer",
            "data.folder": f"{name}/data",
            "warmup.warmup_steps": 1,
            "samples.every_n_steps": 0,
            "histograms.every_n_steps": 0,
            "logs": f"{name}/logs",
        }
        sys.argv = ["train.py", "fit", *(f"--{option}={value}" for option, value in options.items())]
        sys.modules["gpt2_small"] = sys.modules["__main__"]
        if code := main(ROOT / "configs" / "default.yaml"):
            sys.exit(code)


def prepare(folder: Path, steps: int) -> None:
    """Token files, and a tokenizer with GPT-2's number of entries; no text goes through it."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    entries = {f"<{number}>": number for number in range(VOCABULARY - 1)} | {"<|endoftext|>": VOCABULARY - 1}
    backend = Tokenizer(models.WordLevel(entries, unk_token="<0>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>")
    tokenizer.save_pretrained(folder / "tokenizer")
    for split in ("train", "val"):
        tokens(steps).to(torch.uint16).numpy().tofile(folder / f"{split}.bin")


def hugging_face(steps: int) -> None:
    """Its Trainer with its model, as they come."""
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

    class TheirClock(TrainerCallback):
        def on_step_end(self, *arguments: object, **options: object) -> None:
            ends.append(time.perf_counter())

    rows = [{"input_ids": row[:-1], "labels": row[:-1]} for batch in tokens(steps) for row in batch]
    with tempfile.TemporaryDirectory() as name:
        settings = TrainingArguments(
            name,
            per_device_train_batch_size=ROWS,
            max_steps=steps,
            learning_rate=RECIPE["lr"],
            weight_decay=RECIPE["weight_decay"],
            use_cpu=True,
            report_to="none",
            save_strategy="no",
        )
        model = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, **SHAPE, **DROPOUTS))
        Trainer(model, settings, train_dataset=rows, callbacks=[TheirClock()]).train()  # pyright: ignore


def measure(variant: str, steps: int, folder: str | None) -> tuple[float, float]:
    """Seconds of a step, the median of all but the first two, and GiB at the peak."""
    ways = {
        "nanoGPT": lambda: nanogpt(steps, str(folder)),
        "plain loop": lambda: plain_loop(steps),
        "train.py fit": lambda: fit(steps),
        "Hugging Face Trainer": lambda: hugging_face(steps),
    }
    torch.manual_seed(0)
    ways[variant]()
    seconds = [end - start for start, end in pairwise(ends[1:])]
    return statistics.median(seconds), peak_memory_bytes() / 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nanogpt", help="folder with nanoGPT's model.py")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--variant", choices=VARIANTS, help="this one alone, in this process")
    parser.add_argument("--prepare", type=Path, help="write the files of `train.py fit` into this folder")
    options = parser.parse_args()
    if options.prepare:
        prepare(options.prepare, options.steps)
        return
    if options.variant:
        print(*measure(options.variant, options.steps, options.nanogpt))
        return
    variants = VARIANTS if options.nanogpt else VARIANTS[1:]
    figures: dict[str, list[list[float]]] = {variant: [] for variant in variants}
    command = [sys.executable, __file__, f"--steps={options.steps}"]
    command += [f"--nanogpt={options.nanogpt}"] if options.nanogpt else []
    for _ in range(options.rounds):
        for variant in variants:
            run = subprocess.run([*command, f"--variant={variant}"], capture_output=True, text=True)
            if run.returncode:
                sys.exit(f"{variant} failed:\n{run.stderr[-2000:]}")
            figures[variant].append([float(number) for number in run.stdout.splitlines()[-1].split()])
    print(f"{machine()}, float32;")
    print(
        f"{ROWS} rows of {BLOCK}, medians of {options.rounds} rounds of {options.steps - 2} steps in turns\n"
    )
    print("| | seconds a step | of each round | GiB |\n|---|---:|---:|---:|")
    for variant, rounds in figures.items():
        seconds, gibibytes = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"| {variant} | {seconds:.2f} | {', '.join(f'{s:.2f}' for s, _ in rounds)} | {gibibytes:.2f} |")


if __name__ == "__main__":
    main()
