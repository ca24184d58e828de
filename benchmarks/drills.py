"""Faults that a run must survive: fault, tries, survived, lost.

`python benchmarks/drills.py [--kills 200]` trains a tiny GPT-2 on text of its own making, with dropout,
accumulation, validations and samples, and compares what each fault leaves with a run that had none: the
last checkpoint's tensors, metrics.csv (but for the clock) and samples.jsonl, bit for bit. Every try is a
process of its own, forked from one that has imported everything.
"""

import argparse
import contextlib
import csv
import json
import os
import random
import resource
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

from gpt2_lightning import cli
from gpt2_lightning.callbacks import checkpoint_io, checkpoints, samples
from gpt2_lightning.errors import InputError

ROOT = Path(__file__).parent.parent
CLOCK = ("tokens_per_second", "mfu", "data_wait_share", "peak_memory")
STEPS, LONG = 24, 12000
WORDS = ["we", "you", "they", "see", "know", "the", "a", "book", "house"]
RECIPE = [
    "--config", str(ROOT / "configs" / "experiment" / "pretrain_tiny.yaml"),
    "--run", "drill", "--auto_resume", "true",
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
SHORT = [
    "--trainer.max_steps",
    str(STEPS),
    "--trainer.val_check_interval",
    "10",
    "--samples.every_n_steps",
    "5",
]
SHORT += ["--checkpoints.every_n_steps", "3", "--trainer.log_every_n_steps", "2"]
ENDLESS = ["--trainer.max_steps", str(LONG), "--trainer.val_check_interval", "400"]
ENDLESS += ["--samples.every_n_steps", "100"]
ENDLESS += ["--checkpoints.every_n_steps", "20", "--trainer.log_every_n_steps", "10"]


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
        log = os.open(self.folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        arguments = ["train.py", "fit", *RECIPE, "--data.corpus.source.paths", f"['{self.folder}/text']"]
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
        """The exit code of such a process; minus the signal that ended it."""
        return os.waitstatus_to_exitcode(os.waitpid(self.fit(logs, options, before), 0)[1])

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
    drills: Drills, expected: dict[str, Any], before: Callable[[], None], code: int = -9
) -> bool:
    """Whether a run that ends by `code` ends as the whole one does when it is started again."""
    logs = Path(tempfile.mkdtemp(dir=drills.folder))
    ended = drills.run(logs, SHORT, before)
    again = drills.run(logs, SHORT)
    survived = ended == code and again == 0 and same(result(logs), expected)
    if not survived:
        print(f"lost: {logs}: ended {ended}, again {again}", file=sys.stderr)
    return survived


def kills(drills: Drills, expected: dict[str, Any]) -> None:
    """Kill -9 at every optimizer step, and at points inside the writing of a checkpoint and elsewhere."""
    hook = "on_train_batch_end"
    each = [killed_and_resumed(drills, expected, at_step(step, hook, batch=1)) for step in range(1, STEPS)]
    drills.report("kill -9 at every optimizer step", each)
    io = checkpoint_io.SafeCheckpointIO
    points = {
        "before a checkpoint is written": lambda n: on_call(io, "save_checkpoint", n),
        "in the middle of writing it": lambda n: on_call(checkpoint_io._Hashing, "write", 20 * n),
        "between writing and renaming it": lambda n: on_call(
            checkpoint_io, "_write_digests", 2 * n - 1, after=True
        ),
        "after its renaming": lambda n: on_call(checkpoint_io, "_sync_folder", n),
        "between the last and the best": lambda n: on_call(checkpoints, "copy", min(n, 3)),
        "in the middle of an accumulation": lambda n: at_step(3 * n, "on_train_batch_end"),
        "in a validation": lambda n: at_step(5 * min(n, 4), "on_validation_batch_start"),
        "in a sample": lambda n: on_call(samples, "continue_text", 2 * min(n, 4)),
    }
    for name, make in points.items():
        drills.report(f"kill -9 {name}", [killed_and_resumed(drills, expected, make(n)) for n in range(1, 6)])


def random_kills(drills: Drills, tries: int) -> None:
    """Kill one run at so many random moments, and look at what is there after each."""
    whole, logs = drills.folder / "whole", drills.folder / "killed"
    assert drills.run(whole, ENDLESS) == 0
    moments, loadable, step = random.Random(0), [], 0
    started = drills.folder / "started"
    begun = at_hook("on_train_batch_start", lambda *_: started.touch())
    for number in range(tries):
        started.unlink(missing_ok=True)
        child = drills.fit(logs, ENDLESS, begun)
        while number % 10 and not started.exists():  # one in ten may die on its way there
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.4))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        last = next(logs.glob("*/drill/checkpoints/last.ckpt"), None)
        try:
            step = checkpoint_io.read(last)["global_step"] if last else 0
            loadable.append(True)
        except InputError:
            loadable.append(False)
        if step == LONG:  # nothing is left to kill
            break
    drills.report(f"kill -9 at random moments of one run (until step {step:,} of {LONG:,})", loadable)
    end = drills.run(logs, ENDLESS)
    drills.report(
        "that run at its end, against the whole one", [end == 0 and same(result(logs), result(whole))]
    )


def stops(drills: Drills, expected: dict[str, Any]) -> None:
    """SIGTERM and SIGUSR1 inside an accumulation and inside a validation; SIGTERM twice."""

    def send(*numbers: int) -> Callable[[], None]:
        return lambda: [os.kill(os.getpid(), number) for number in numbers] and None

    for number in (signal.SIGTERM, signal.SIGUSR1):
        places = [at_step(step, "on_train_batch_start", send(number)) for step in (0, 4, 9)]
        places += [at_step(5, "on_validation_batch_start", send(number))]
        each = [killed_and_resumed(drills, expected, place, 143) for place in places]
        drills.report(f"{signal.Signals(number).name}", each)
    twice = at_step(7, "on_train_batch_start", send(signal.SIGTERM, signal.SIGTERM))
    drills.report("SIGTERM twice", [killed_and_resumed(drills, expected, twice, -signal.SIGTERM)])


def disks(drills: Drills, expected: dict[str, Any]) -> None:
    """A file system without room while a checkpoint is written; a TMPDIR that is not there."""

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        save = checkpoint_io.SafeCheckpointIO.save_checkpoint
        calls = 0

        def with_limit(*arguments: Any, **options: Any) -> None:
            nonlocal calls
            calls += 1
            endless = resource.RLIM_INFINITY
            if calls == 4:
                resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, endless))
            try:
                save(*arguments, **options)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (endless, endless))

        checkpoint_io.SafeCheckpointIO.save_checkpoint = with_limit

    drills.report("a write that fails in the middle", [killed_and_resumed(drills, expected, limited, 2)])
    logs = Path(tempfile.mkdtemp(dir=drills.folder))
    ended = drills.run(logs, SHORT, lambda: os.environ.update(TMPDIR="/nowhere"))
    drills.report("TMPDIR that is not there", [ended == 0 and same(result(logs), expected)])


def damage(drills: Drills, tries: int) -> None:
    """One flipped byte of a checkpoint and of a token store; a checkpoint cut short; the better one taken."""
    flips = random.Random(0)
    logs = next(drills.folder.glob("tmp*"))
    (run,) = logs.glob("*/drill")
    last = run / "checkpoints" / "last.ckpt"
    content = last.read_bytes()

    def is_found(changed: bytes) -> bool:
        last.write_bytes(changed)
        try:
            checkpoint_io.read(last)
        except InputError:
            return True
        return False

    def flipped(data: bytes) -> bytes:
        place = flips.randrange(len(data))
        return data[:place] + bytes([data[place] ^ (1 << flips.randrange(8))]) + data[place + 1 :]

    drills.report("a flipped bit of a checkpoint", [is_found(flipped(content)) for _ in range(tries)])
    cuts = [b"", *(content[: flips.randrange(len(content))] for _ in range(tries // 10))]
    drills.report("a checkpoint cut short", [is_found(cut) for cut in cuts])
    last.write_bytes(flipped(content))
    end = drills.run(logs, SHORT)
    drills.report("--auto_resume with a damaged last.ckpt goes on from best.ckpt", [end == 0])
    (tokens,) = drills.folder.glob("data/TextFiles-*/train.bin")
    whole, found = tokens.read_bytes(), []
    for _ in range(tries // 10):
        tokens.write_bytes(flipped(whole))
        # A store that was changed is built anew, with the bytes that belong there.
        code = drills.run(Path(tempfile.mkdtemp(dir=drills.folder)), ["--trainer.max_steps", "1", *SHORT[2:]])
        found.append(code in (0, 2) and (code == 2 or tokens.read_bytes() == whole))
        tokens.write_bytes(whole)
    drills.report("a flipped bit of a token store", found)


def memory(drills: Drills) -> None:
    """An address space that is too small for the micro-batch."""

    def limit() -> None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (200 << 20), resource.RLIM_INFINITY))

    logs = Path(tempfile.mkdtemp(dir=drills.folder))
    big = [*SHORT, "--data.micro_batch_size", "200000", "--data.rows", "stream"]
    ended = drills.run(logs, big, limit)
    text = (drills.folder / "log.txt").read_text()
    drills.report("out of memory", [ended == 2 and "--data.micro_batch_size 100000" in text])


def main(tries: int) -> int:
    """Print the table; returns 1 if anything was lost."""
    with tempfile.TemporaryDirectory() as name:
        drills = Drills(Path(name))
        if drills.run(drills.folder / "first", SHORT):
            sys.exit((drills.folder / "log.txt").read_text())
        expected = result(drills.folder / "first")
        assert expected["status"] == "finished"
        print("| Fault | Tries | Survived | Lost |\n|---|---:|---:|---:|", flush=True)
        kills(drills, expected)
        stops(drills, expected)
        disks(drills, expected)
        damage(drills, 200)
        memory(drills)
        random_kills(drills, tries)
    return int(any(count != survived for _, count, survived in drills.rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="random ones")
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main(parser.parse_args().kills))
