"""Which folder a run writes: a new one, or that of the run it continues."""

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from jsonargparse import Namespace
from lightning.pytorch.utilities import rank_zero_only

from gpt2_lightning.callbacks.checkpoint_io import newest_whole
from gpt2_lightning.commandline.said import Said
from gpt2_lightning.errors import InputError
from gpt2_lightning.locations import LATEST
from gpt2_lightning.runs.folder import create, path_of
from gpt2_lightning.runs.run import Run

_FOLDER = "GPT2_LIGHTNING_RUN_FOLDER"  # tells the processes that Lightning starts for other ranks
_NEW = "GPT2_LIGHTNING_NEW_FOLDER"  # the same, if this command has made it

_CORPUS = "data.corpus"
_OF_NO_TEXT = (f"{_CORPUS}.on_error", f"{_CORPUS}.tokenizer")
_UNUSABLE = re.compile(r"[^A-Za-z0-9._]+")
_OF_NO_SHAPE = ("resid_pdrop", "embd_pdrop", "attn_pdrop", "activation_function")


def choose(config: Namespace, said: Said) -> Path:
    """The run's folder, made by rank zero if it is new; names the checkpoint to continue in the options.

    Raises:
        InputError: if a name cannot be one, the run is there already, or its checkpoints are damaged.
    """
    experiment = _experiment(config, said)
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


def _experiment(config: Namespace, said: Said) -> str:
    """Its own name, or the experiment's; with what is typed in place of its files behind it.

    So the newest `pretrain_tiny` is one of those data and that model always.
    """
    if said.typed("experiment"):
        return str(config.experiment)
    name = config.experiment or (Path(str(config.config[-1])).stem if config.config else "default")
    others = filter(None, [_of_data(said), *_of_model(said)])
    return "-".join([name, *(_UNUSABLE.sub("_", other) for other in others)])[:100]


def _of_data(said: Said) -> str:
    """The corpus that is typed: by its file, what it is read from, or its class."""
    if piece := said.piece(_CORPUS):
        return piece.stem
    typed = said.typed(_CORPUS)
    for field in ("paths", "name"):
        if value := typed.get(f"{_CORPUS}.source.{field}"):
            path = Path(str(value[0] if isinstance(value, list) else value))
            return path.stem if path.stem.strip("*") else path.parent.name  # of a glob, its folder
    kind = str(typed.get(f"{_CORPUS}.source", "")).rpartition(".")[2]
    others = {name for name in typed if not name.startswith(_OF_NO_TEXT)}
    return kind or ("data" if others else "")


def _of_model(said: Said) -> list[str]:
    """The shape, base, vocabulary and adapter that are typed."""
    shape = {name.rpartition(".")[2]: value for name, value in said.typed("model.architecture").items()}
    piece, adapter = said.piece("model.architecture"), said.piece("model.adapter")
    base = Path(said.typed("model.pretrained").get("model.pretrained") or "")
    is_own = said.typed(f"{_CORPUS}.tokenizer") and not (base.name or said.piece(_CORPUS))
    return [
        piece.stem if piece else "-".join(f"{n}{shape[n]}" for n in shape if n not in _OF_NO_SHAPE),
        base.parent.name if base.name == LATEST else base.name,
        "tokenizer" if is_own else "",
        adapter.stem if adapter else "",
    ]


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
    is_mine = rank_zero_only.rank == 0  # pyright: ignore[reportFunctionMemberAccess]
    if is_mine and folder.is_dir() and not Run(folder).has_begun:
        shutil.rmtree(folder)
        with suppress(OSError):  # the experiment has other runs
            folder.parent.rmdir()
