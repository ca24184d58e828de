"""What to do when memory or the disk is full."""

import errno
import threading

from jsonargparse import Namespace

from gpt2_lightning.runs.run import Run

_CPU_MESSAGES = ("can't allocate memory", "not enough memory", "bad allocation", "bad_alloc")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the GPU's memory, or the process's, is over."""
    import torch  # not by those who ask for the disk alone

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _CPU_MESSAGES)


def remedy(config: Namespace) -> str:
    """A smaller micro-batch with the accumulation that keeps the rows of a step, if there is one."""
    rows, accumulate = int(config.data.micro_batch_size), config.trainer.accumulate_grad_batches
    options = []
    if rows > 1:
        factor = next(divisor for divisor in range(2, rows + 1) if rows % divisor == 0)
        options.append(f"--data.micro_batch_size {rows // factor}")
        options.append(f"--trainer.accumulate_grad_batches {accumulate * factor}")
    same = f"{' '.join(options)} takes less and gives the same steps; " if options else ""
    return (
        f"out of memory with --data.micro_batch_size {rows} and --data.block_size {config.data.block_size}: "
        f"{same}--model.gradient_checkpointing true takes less too. The newest checkpoint is whole"
    )


def is_disk_full(error: OSError) -> bool:
    """Whether there is no room, or none for this user."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def quiet_writers() -> None:
    """Let a thread that writes events end without a traceback on a full disk: the run says so itself."""

    def said(arguments: threading.ExceptHookArgs) -> None:
        if not (isinstance(arguments.exc_value, OSError) and is_disk_full(arguments.exc_value)):
            threading.__excepthook__(arguments)

    threading.excepthook = said


def make_room(error: OSError, run: Run, trains: bool) -> str:
    """What was not written for lack of room, and how to continue a run that trains and has a checkpoint."""
    said = f"{error.filename or run.folder}: cannot be written: the disk is full"
    can_continue = trains and (run.checkpoints / "last.ckpt").is_file()
    return said + (f"; make room, and go on with make resume RUN={run.folder}" if can_continue else "")
