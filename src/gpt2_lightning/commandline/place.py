"""Which folder a run writes: a new one, or that of the run it continues."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from jsonargparse import Namespace
from lightning.pytorch.utilities import rank_zero_only

from gpt2_lightning.callbacks.checkpoint_io import newest_whole
from gpt2_lightning.errors import InputError
from gpt2_lightning.runs.folder import create, path_of
from gpt2_lightning.runs.run import Run

_FOLDER = "GPT2_LIGHTNING_RUN_FOLDER"  # tells the processes that Lightning starts for other ranks
_NEW = "GPT2_LIGHTNING_NEW_FOLDER"  # the same, if this command has made it


def choose(config: Namespace) -> Path:
    """The run's folder, made by rank zero if it is new; names the checkpoint to continue in the options.

    Raises:
        InputError: if a name cannot be one, the run is there already, or its checkpoints are damaged.
    """
    experiment = config.experiment or (Path(str(config.config[-1])).stem if config.config else "default")
    logs, name, run = Path(config.logs), config.run, None
    if config.auto_resume and not config.ckpt_path:
        name = name or _slurm_name()
        run = Run(path_of(logs, experiment, name))
        if any(run.checkpoints.glob("*.ckpt")):
            config.ckpt_path = str(newest_whole(run.checkpoints))
        elif not run.folder.is_dir():
            run = None
    elif config.ckpt_path:
        run = Run.of_checkpoint(Path(config.ckpt_path))
    if rank_zero_only.rank != 0:  # pyright: ignore[reportFunctionMemberAccess]
        return run.folder if run else Path(os.environ.get(_FOLDER) or logs)  # only rank zero writes there
    folder = run.folder if run else create(logs, experiment, name)
    os.environ[_FOLDER] = str(folder)
    if run is None:
        os.environ[_NEW] = str(folder)
    return folder


def _slurm_name() -> str:
    """The same for every start of a job, also after it was put back into the queue."""
    job = os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID")
    if not job:
        raise InputError("--auto_resume true: name the run with --run, by which it is found again")
    return "-".join(["slurm", job, *filter(None, [os.environ.get("SLURM_ARRAY_TASK_ID")])])


def forget() -> None:
    """Start a command: it has made no folder yet."""
    os.environ.pop(_NEW, None)


def remove_unused() -> None:
    """Remove the folder that this command has made, if its run never began to train."""
    folder = Path(os.environ.get(_NEW) or os.devnull)
    if folder.is_dir() and not Run(folder).has_begun:
        shutil.rmtree(folder)
        with suppress(OSError):  # the experiment has other runs
            folder.parent.rmdir()
