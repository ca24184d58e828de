"""What follows a run that has trained: its export, its summary, and what to do next."""

import shutil
from functools import partial
from pathlib import Path

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from gpt2_lightning.callbacks.checkpoints import Checkpoints
from gpt2_lightning.callbacks.patience import Patience
from gpt2_lightning.callbacks.samples import SampleGenerator
from gpt2_lightning.data.datamodule import TextDataModule
from gpt2_lightning.inference.card import model_card
from gpt2_lightning.inference.export import export, load_weights
from gpt2_lightning.model.module import GPT2Module
from gpt2_lightning.model.run_length import time_share, total_steps
from gpt2_lightning.runs.record import RunRecord
from gpt2_lightning.runs.run import Run
from gpt2_lightning.runs.summary import find, table
from gpt2_lightning.sweeps.pruning import Pruning


def finish(trainer: Trainer, module: GPT2Module, data: TextDataModule) -> None:
    """Export the best model (the last, if none was validated), write the summary, and show it."""
    run, record = Run(Path(trainer.default_root_dir)), find(trainer, RunRecord)
    if _is_over(trainer, Pruning):
        record.write_summary(trainer, "pruned")
        print("pruned by the sweep")
        return
    checkpoints = find(trainer, Checkpoints)
    load_weights(module, checkpoints.best if checkpoints.best.exists() else checkpoints.last)
    record.write_summary(trainer, "running")
    export(module, data.tokenizer, run.export, card=partial(model_card, run, data))
    summary = record.write_summary(trainer, "finished")
    if record.has_trained:
        shutil.rmtree(run.merged_export, ignore_errors=True)  # of an earlier end of this run
    else:
        print("the run is at its end already; for more of it, raise --trainer.max_steps or .max_epochs")
    if time_share(trainer) == 1.0 and trainer.global_step < total_steps(trainer):
        print("the run ends here: --trainer.max_time is over")
    if _is_over(trainer, Patience):
        validations = find(trainer, Patience).patience
        print(f"the run ends here: no lower val/nll in --patience {validations} validations")
    print(f"\n{run.folder}\n{table(summary)}\n\nNext:  {_next_command(trainer, data, run)}")
    if any(isinstance(logger, TensorBoardLogger) for logger in trainer.loggers):
        print("       make tensorboard")


def _is_over(trainer: Trainer, kind: type[Callback]) -> bool:
    """Whether the callback of a class, if there is one, has ended the run."""
    callbacks: list[Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
    return any(isinstance(callback, kind) and callback.is_over for callback in callbacks)  # pyright: ignore


def _next_command(trainer: Trainer, data: TextDataModule, run: Run) -> str:
    if data.tokenizer.chat_template:
        return f"make chat RUN={run.folder}"
    prompts = [p for p in find(trainer, SampleGenerator).prompts or () if p and not set(p) & set('"$`\n\\')]
    return f"make sample RUN={run.folder}" + (f' PROMPT="{prompts[0]}"' if prompts else "")
