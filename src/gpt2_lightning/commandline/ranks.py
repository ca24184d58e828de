"""The processes that Lightning starts for the other ranks."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.pytorch import Trainer
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from gpt2_lightning.callbacks.stop_signals import RunInterrupted


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
