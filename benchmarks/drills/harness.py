"""What every drill uses: a tiny run in a process of its own, faults inside it, and what it left."""

import contextlib
import csv
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from lightning.pytorch import Callback

from gpt2_lightning.callbacks import checkpoint_io
from gpt2_lightning.commandline import cli

ROOT = Path(__file__).parent.parent.parent
CLOCK = ("tokens_per_second", "mfu", "data_wait_share", "peak_memory")
STEPS = 24
DEADLINE = 120  # seconds for a run of so many steps; most take two
WORDS = ["we", "you", "they", "see", "know", "the", "a", "book", "house"]
RECIPE = [
    "--config", str(ROOT / "configs" / "experiment" / "pretrain_tiny.yaml"),
    "--experiment", "drills", "--run", "drill", "--auto_resume", "true",
    "--data.corpus.source", "TextFiles", "--data.corpus.tokenizer", "ByteLevelBPE",
    "--data.corpus.tokenizer.vocab_size", "300", "--data.corpus.validation_fraction", "0.3",
    "--data.block_size", "16", "--data.micro_batch_size", "2",
    *(f"--model.architecture.{each}" for each in ("n_layer=1", "n_head=1", "n_embd=8", "n_positions=16")),
    "--model.architecture.resid_pdrop", "0.1",
    "--trainer.precision", "32-true", "--trainer.accelerator", "cpu",
    "--samples.prompts", "['','we']", "--trainer.accumulate_grad_batches", "2",
    "--samples.sampling.max_new_tokens", "4",
    "--histograms.every_n_steps", "0", "--trainer.enable_progress_bar", "false",
]  # fmt: skip
SHORT = ["--trainer.max_steps", str(STEPS), "--trainer.val_check_interval", "10"]
SHORT += ["--samples.every_n_steps", "5", "--checkpoints.every_n_steps", "3"]
SHORT += ["--trainer.log_every_n_steps", "2"]


class Drills:
    """The runs of all drills, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        text = folder / "text"
        text.mkdir()
        words = random.Random(0)
        for number in range(12):
            sentence = (" ".join(words.choices(WORDS, k=60)) for _ in range(4))
            (text / f"{number}.txt").write_text(".\n".join(sentence))
        self.rows: list[tuple[str, int, int]] = []

    def fit(self, logs: Path, options: list[str], before: Callable[[], Any] = lambda: None) -> int:
        """Start a run, or go on with it, in a process of its own; returns its number."""
        if child := os.fork():
            return child
        os.setsid()  # the processes that it starts end with it
        sys.modules["__main__"].__spec__ = None  # Lightning starts the other ranks by sys.argv then
        log = os.open(self.folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        arguments = [
            str(ROOT / "train.py"),
            "fit",
            *RECIPE,
            "--data.corpus.source.paths",
            f"['{self.folder}/text']",
        ]
        sys.argv = [*arguments, "--data.folder", str(self.folder / "data"), "--logs", str(logs), *options]
        code = 1
        try:
            torch.set_num_threads(1)
            before()
            code = cli.main(ROOT / "configs" / "default.yaml")
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)

    def run(self, logs: Path, options: list[str], before: Callable[[], Any] = lambda: None) -> int:
        """The exit code of such a process; minus the signal that ended it, also if it takes too long."""
        child, end = self.fit(logs, options, before), time.monotonic() + DEADLINE
        while not (ended := os.waitpid(child, os.WNOHANG))[0]:
            time.sleep(0.02)
            if time.monotonic() > end:
                print(f"stuck: {logs}", file=sys.stderr)
                os.killpg(child, signal.SIGKILL)
                ended = os.waitpid(child, 0)
                break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # other ranks
        return os.waitstatus_to_exitcode(ended[1])

    def whole(self, logs: Path, options: list[str]) -> dict[str, Any]:
        """A run that must end well: one that the others are compared with."""
        if self.run(logs, options):
            sys.exit((self.folder / "log.txt").read_text())
        return result(logs)

    def refusal(self, logs: Path, options: list[str], before: Callable[[], Any] = lambda: None) -> str:
        """The message of a run that is refused with exit code 2; nothing if it is not."""
        log = self.folder / "log.txt"
        start = log.stat().st_size
        code = self.run(logs, options, before)
        lines = log.read_bytes()[start:].decode().splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        return errors[0] if code == 2 and len(errors) == 1 and "Traceback (most" not in lines else ""

    def new_logs(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))

    def report(self, fault: str, survived: list[bool]) -> None:
        self.rows.append((fault, len(survived), sum(survived)))
        print(
            f"| {fault} | {len(survived)} | {sum(survived)} | {len(survived) - sum(survived)} |", flush=True
        )


def result(logs: Path) -> dict[str, Any]:
    """What a run has left, comparable."""
    (run,) = logs.glob("*/drill")
    content = checkpoint_io.read(run / "checkpoints" / "last.ckpt")
    rows = list(csv.DictReader((run / "metrics.csv").open(newline="")))
    return {
        "weights": content["state_dict"],
        "optimizer": content["optimizer_states"],
        "metrics": [{k: v for k, v in row.items() if not any(c in k for c in CLOCK)} for row in rows],
        "samples": (run / "samples.jsonl").read_text(),
        "files": sorted(path.name for path in (run / "checkpoints").iterdir()),
        "status": json.loads((run / "summary.json").read_text())["status"],
    }


def same(one: Any, other: Any) -> bool:
    """Whether two results are equal, tensors bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return one == other


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_hook(hook: str, act: Callable[..., Any]) -> Callable[[], None]:
    """Act in a hook of Lightning's callbacks, which comes before the project's own."""

    class Act(Callback):
        pass

    setattr(Act, hook, lambda self, *arguments: act(*arguments))

    def install() -> None:
        make = cli.GPT2CLI.instantiate_trainer

        def with_act(self: Any, **options: Any) -> Any:
            trainer = make(self, **options)
            trainer.callbacks.insert(0, Act())
            return trainer

        cli.GPT2CLI.instantiate_trainer = with_act

    return install


def at_step(step: int, hook: str, act: Callable[[], Any] = die, batch: int = 0) -> Callable[[], None]:
    """Act in such a hook when so many optimizer steps are done, at the first or second micro-batch."""

    def run(trainer: Any, *arguments: Any) -> None:
        batch_idx = arguments[-1] if isinstance(arguments[-1], int) else 0
        if trainer.global_step == step and batch_idx % 2 == batch:
            act()

    return at_hook(hook, run)


def on_call(
    owner: Any, name: str, number: int, act: Callable[..., Any] = die, after: bool = False
) -> Callable[[], None]:
    """Act before, or after, the call of a function of so high a number."""

    def install() -> None:
        function, calls = getattr(owner, name), 0

        def counted(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == number and not after:
                act()
            value = function(*arguments, **options)
            if calls == number and after:
                act()
            return value

        setattr(owner, name, counted)

    return install


def killed_and_resumed(
    drills: Drills,
    expected: dict[str, Any],
    before: Callable[[], Any],
    code: int = -9,
    options: list[str] = SHORT,
    repair: Callable[[], Any] = lambda: None,
) -> bool:
    """Whether a run that ends by `code` ends as the whole one does when it is started again."""
    logs = drills.new_logs()
    ended = drills.run(logs, options, before)
    repair()
    again = drills.run(logs, options)
    survived = ended == code and again == 0 and same(result(logs), expected)
    if not survived:
        print(f"lost: {logs}: ended {ended}, again {again}", file=sys.stderr)
    return survived
