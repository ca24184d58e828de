"""The processes that Lightning starts for the other ranks."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.pytorch import Trainer
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from gpt2_lightning.callbacks.stop_signals import RunInterrupted
from gpt2_lightning.errors import InputError


def check_port() -> None:
    """Refuse a `MASTER_PORT` that is taken: the ranks would wait half an hour for each other.

    Raises:
        InputError: if it is, or is no port. `torchrun` holds its own, and is left alone.
    """
    port = os.environ.get("MASTER_PORT")
    if port is None or "TORCHELASTIC_RUN_ID" in os.environ or "LOCAL_RANK" in os.environ:
        return
    try:
        socket.create_server(("", int(port))).close()
    except (OSError, ValueError, OverflowError):
        raise InputError(
            f"MASTER_PORT {port}: is no free port; name another, or none: one is found"
        ) from None


@contextmanager
def ending_together(trainer: Trainer) -> Iterator[None]:
    """Where this process fails, end those that it has started, which may wait for it.

    A run that was asked to stop, or is over, ends in every rank by itself.
    """
    try:
        yield
    except RunInterrupted:
        raise
    except BaseException:
        if isinstance(launcher := trainer.strategy.launcher, _SubprocessScriptLauncher):
            launcher.kill(signal.SIGTERM)
        raise
