"""Runs that are killed, and runs that are told to stop."""

import os
import random
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import STEPS, Drills, at_hook, at_step, killed_and_resumed, on_call, result, same

from gpt2_lightning.callbacks import checkpoint_io, checkpoints
from gpt2_lightning.errors import InputError
from gpt2_lightning.model.sampling import Chooser

LONG = 12000
ENDLESS = ["--trainer.max_steps", str(LONG), "--trainer.val_check_interval", "400"]
ENDLESS += ["--samples.every_n_steps", "100", "--checkpoints.every_n_steps", "20"]
ENDLESS += ["--trainer.log_every_n_steps", "10"]
TWO_RANKS = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--data.micro_batch_size", "1"]
TWO_RANKS += ["--trainer.max_steps", "600", "--trainer.val_check_interval", "150"]  # five seconds
TWO_RANKS += ["--samples.every_n_steps", "50", "--checkpoints.every_n_steps", "20"]


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
        "after its renaming": lambda n: on_call(checkpoint_io, "_write_digests", 2 * n),
        "between the last and the best": lambda n: on_call(checkpoints, "copy", min(n, 3)),
        "in the middle of an accumulation": lambda n: at_step(3 * n, "on_train_batch_end"),
        "in a validation": lambda n: at_step(5 * min(n, 4), "on_validation_batch_start"),
        "in a sample": lambda n: on_call(Chooser, "choose", 2 * n),
    }
    for name, make in points.items():
        drills.report(f"kill -9 {name}", [killed_and_resumed(drills, expected, make(n)) for n in range(1, 6)])


def random_kills(drills: Drills, tries: int) -> None:
    """Kill one run at so many random moments, and look at what is there after each."""
    logs = drills.folder / "killed"
    whole = drills.whole(drills.folder / "whole", ENDLESS)
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
    drills.report("that run at its end, against the whole one", [end == 0 and same(result(logs), whole)])


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


def ranks(drills: Drills) -> None:
    """SIGTERM to the first, and to the second, of two ranks; kill -9 of either; a port in use."""
    expected = drills.whole(drills.folder / "ranks", TWO_RANKS)

    def send(number: int, to_other: bool) -> Callable[[], None]:
        def to() -> None:
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            ranks = [child for child in children if "train.py" in Path(f"/proc/{child}/cmdline").read_text()]
            os.kill(int(ranks[0]) if to_other else os.getpid(), number)

        return to

    for to_other in (False, True):
        fault = at_step(4, "on_train_batch_start", send(signal.SIGTERM, to_other))
        each = [killed_and_resumed(drills, expected, fault, 143, TWO_RANKS)]
        drills.report(f"SIGTERM to rank {int(to_other)} of 2", each)
        fault = at_step(57, "on_train_batch_start", send(signal.SIGKILL, to_other))
        each = [killed_and_resumed(drills, expected, fault, 1 if to_other else -9, TWO_RANKS)]
        drills.report(f"kill -9 of rank {int(to_other)} of 2", each)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        said = drills.refusal(drills.new_logs(), TWO_RANKS, lambda: os.environ.update(MASTER_PORT=port))
    drills.report("MASTER_PORT in use", [f"MASTER_PORT {port}" in said])
