"""Faults around a run: disks, memory, damage, the clock, W&B, and settings that do not fit."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from harness import ROOT, SHORT, Drills, at_hook, at_step, killed_and_resumed, result, same

from gpt2_lightning.callbacks import checkpoint_io
from gpt2_lightning.errors import InputError


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
    logs = drills.new_logs()
    ended = drills.run(logs, SHORT, lambda: os.environ.update(TMPDIR="/nowhere"))
    drills.report("TMPDIR that is not there", [ended == 0 and same(result(logs), expected)])
    small, logs = drills.folder / "small", drills.new_logs()
    small.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "drill", small], capture_output=True
    ).returncode:
        print("not tried, as mounting is not allowed here: other file systems", file=sys.stderr)
        return
    ended = drills.run(logs, SHORT, lambda: os.environ.update(TMPDIR=str(small)))
    drills.report("TMPDIR on another file system", [ended == 0 and same(result(logs), expected)])
    full(drills, expected, small)
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    drills.report("a folder that is read-only", ["cannot be written" in drills.refusal(small / "x", SHORT)])
    subprocess.run(["umount", small], check=True)


def full(drills: Drills, expected: dict[str, Any], small: Path) -> None:
    """A file system of 8 MB that something else fills up, at every third optimizer step."""
    filler, each = small / "filler", []

    def fill() -> None:
        with open(filler, "wb", buffering=0) as file:  # noqa: PTH123  (unbuffered, and to the last byte)
            size = 1 << 20
            while size:
                try:
                    file.write(bytes(size))
                except OSError:
                    size //= 2

    for step in range(2, 24, 3):
        logs = small / str(step)
        ended = drills.run(logs, SHORT, at_step(step, "on_train_batch_start", fill))
        log = (drills.folder / "log.txt").read_text().splitlines()
        said = log[-1].startswith("error: ") and "disk is full" in log[-1]
        filler.unlink()
        again = drills.run(logs, SHORT)
        survived = ended == 2 and said and again == 0 and same(result(logs), expected)
        if not survived:
            print(f"lost: {logs}: ended {ended}, again {again}: {log[-1]}", file=sys.stderr)
        each.append(survived)
        shutil.rmtree(logs)
    drills.report("a tmpfs of 8 MB that is full", each)


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
        code = drills.run(drills.new_logs(), ["--trainer.max_steps", "1", *SHORT[2:]])
        found.append(code in (0, 2) and (code == 2 or tokens.read_bytes() == whole))
        tokens.write_bytes(whole)
    drills.report("a flipped bit of a token store", found)


def memory(drills: Drills) -> None:
    """An address space that is too small for the micro-batch: each layer's inner width takes 400 MB."""

    def limit() -> None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        room = 600 << 20  # with less, a small allocation may fail first, where C++ ends the process
        resource.setrlimit(resource.RLIMIT_AS, (used + room, resource.RLIM_INFINITY))

    logs = drills.new_logs()
    big = [*SHORT, "--model.architecture.n_inner", "3000000"]
    ended = drills.run(logs, big, limit)
    text = (drills.folder / "log.txt").read_text()
    drills.report("out of memory", [ended == 2 and "--data.micro_batch_size 1 --trainer.acc" in text])


def clock(drills: Drills, expected: dict[str, Any]) -> None:
    """The clock of the machine goes back by an hour in the middle of a run."""

    def go_back() -> None:
        now = time.time
        time.time = lambda: now() - 3600

    logs = drills.new_logs()
    ended = drills.run(logs, SHORT, at_step(8, "on_train_batch_start", go_back))
    drills.report("a clock that goes backwards", [ended == 0 and same(result(logs), expected)])


def not_a_number(drills: Drills, expected: dict[str, Any]) -> None:
    """A weight that becomes NaN ends the run with exit code 1; what is on disk goes on without it."""

    def spoil(step: int) -> Callable[[], None]:
        def act(trainer: Any, module: Any, *arguments: Any) -> None:
            if trainer.global_step == step:
                with torch.no_grad():
                    next(module.parameters()).fill_(float("nan"))

        return at_hook("on_train_batch_start", act)

    each = [killed_and_resumed(drills, expected, spoil(step), 1) for step in range(1, 24, 4)]
    drills.report("NaN", each)


def mismatches(drills: Drills, expected: dict[str, Any]) -> None:
    """Another text, tokenizer, vocabulary or shape than the checkpoint's: refused, with both values."""
    logs = drills.new_logs()
    assert drills.run(logs, SHORT, at_step(13, "on_train_batch_start", lambda: os._exit(9))) == 9
    fingerprint = ["--data.corpus: the checkpoint was made on corpus ", ", this is "]
    changes: dict[str, tuple[list[str], list[str]]] = {
        "another text": (["--data.corpus.source.paths", f"['{drills.folder}/other']"], fingerprint),
        "another tokenizer": (
            ["--data.corpus.tokenizer", "Characters"],
            ["(282, 8) in the checkpoint and (17, 8)"],
        ),
        "another vocabulary": (["--data.corpus.tokenizer.vocab_size", "290"], fingerprint),
        "another shape": (
            ["--model.architecture.n_embd", "16"],
            ["(282, 8) in the checkpoint and (282, 16)"],
        ),
        "another seed": (["--seed_everything", "7"], ["--seed_everything: 7 now", "0 when"]),
    }
    shutil.copytree(drills.folder / "text", drills.folder / "other")
    (drills.folder / "other" / "0.txt").write_text("we know the house " * 50)
    for name, (options, values) in changes.items():
        said = drills.refusal(logs, [*SHORT, *options])
        if not (refused := all(value in said for value in values)):
            print(f"lost: {name}: {said!r}", file=sys.stderr)
        drills.report(f"{name} when a run goes on", [refused])
    end = drills.run(logs, SHORT)
    drills.report("the run so refused, with its own", [end == 0 and same(result(logs), expected)])


def names(drills: Drills) -> None:
    """Names that would leave the folder of runs, or that no file system takes."""
    there = sorted(path.name for path in drills.folder.parent.iterdir())
    bad = ["../../x", "a" * 300, "a\nb", "", "..", "a/b"]
    each = ["--run" in drills.refusal(drills.folder / "none", [*SHORT, "--run", name]) for name in bad]
    each += ["--experiment" in drills.refusal(drills.folder / "none", [*SHORT, "--experiment", "../../x"])]
    outside = sorted(path.name for path in drills.folder.parent.iterdir()) == there
    drills.report(
        "names such as ../../x, or of 300 characters",
        [one and outside and not (drills.folder / "none").exists() for one in each],
    )


def weights_and_biases(drills: Drills, expected: dict[str, Any]) -> None:
    """W&B that is not installed, has a key that is none, cannot be reached, or dies."""
    options = [*SHORT, "--trainer.logger", str(ROOT / "configs" / "logger" / "wandb.yaml")]

    def clean(**variables: str) -> None:
        os.chdir(drills.folder)
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            del os.environ[name]
        os.environ.update({"NETRC": "/nowhere", **variables})

    def missing() -> None:
        clean()
        sys.modules["wandb"] = None  # pyright: ignore[reportArgumentType]

    def dying() -> None:
        clean()
        at_step(
            8,
            "on_train_batch_start",
            lambda: subprocess.run(["pkill", "-9", "-P", str(os.getpid()), "-f", "wandb-core"]),
        )()

    said = drills.refusal(drills.new_logs(), options, missing)
    drills.report("W&B is not installed", ["wandb" in said])
    said = drills.refusal(drills.new_logs(), options, lambda: clean(WANDB_API_KEY="short"))
    drills.report("W&B has a key that is none", ["WANDB_API_KEY" in said])
    unreachable = {"WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    for name, before in (
        ("W&B cannot be reached", lambda: clean(**unreachable)),
        ("W&B dies", dying),
    ):
        logs = drills.new_logs()
        ended = drills.run(logs, options, before)
        said = name in (drills.folder / "log.txt").read_text().replace("has died", "dies")
        drills.report(name, [said and ended == 0 and same(result(logs), expected)])
