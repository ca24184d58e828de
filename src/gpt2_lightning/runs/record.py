"""The files that describe a run, from its start to its end."""

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback

from gpt2_lightning.callbacks.checkpoints import Checkpoints
from gpt2_lightning.callbacks.stop_signals import RunInterrupted
from gpt2_lightning.data.datamodule import datamodule_of
from gpt2_lightning.data.packing import DocumentRows
from gpt2_lightning.files.lines import take_back
from gpt2_lightning.files.whole import write_json, write_text
from gpt2_lightning.machine.hardware import device_description
from gpt2_lightning.runs.environment import environment
from gpt2_lightning.runs.loggers import Description, RunLogger
from gpt2_lightning.runs.run import Run
from gpt2_lightning.runs.settings import differences, settings_of
from gpt2_lightning.runs.summary import base_of, find, length, summarize

_SETTINGS = ("seed_everything", "trainer", "model", "data", "warmup")
_NO_TRAINER_SETTINGS = {"logger", "default_root_dir", "callbacks", "plugins", "profiler"}


class RunRecord(SaveConfigCallback):
    """Keeps `config.yaml`, `environment.json` and `summary.json` of the run's folder.

    The first two are written when training starts, and again when the run is resumed, after its
    checkpoint has been taken: what is refused changes nothing. `starts.jsonl` keeps the configuration of
    every start with its step. `summary.json` says at any time how the run stands: `running`, `finished`,
    `interrupted`, `failed`, or `pruned` by its sweep.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._earlier_seconds = 0.0
        self._started: float | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        pass  # Lightning would write here, before it looks at the checkpoint

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        folder = Path(trainer.default_root_dir)
        config = self.config.clone()
        run = Run.of_checkpoint(Path(config.ckpt_path)) if config.ckpt_path else None
        if run and run.folder == folder:
            config.ckpt_path = None  # this folder's own: `make resume` names the newest
        text = self.parser.dump(config, skip_none=False)
        self._note_start(Run(folder), trainer.global_step, yaml.safe_load(text))
        write_text(folder / "config.yaml", text)
        write_json(folder / "environment.json", environment())

    def _note_start(self, run: Run, step: int, config: dict[str, Any]) -> None:
        """Add a line to `starts.jsonl`, and say which settings are others than before."""
        starts = take_back(run.starts_path, step - 1)
        if step:
            changed = differences([run.settings, settings_of(config)])
            known = {name: values for name, values in changed.items() if name in run.settings}
            said = [f"{name} {now}, was {before}" for name, (before, now) in known.items()]
            print(f"resumed at step {step}" + (f": {'; '.join(said)}" if said else ""))
            starts = starts or [{"step": 0, "config": run.config}]  # of an earlier version
        starts.append({"step": step, "time": datetime.now().isoformat(timespec="seconds"), "config": config})
        write_text(run.starts_path, "".join(json.dumps(start, default=str) + "\n" for start in starts))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        config = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        settings = {name: config[name] for name in _SETTINGS}
        for name in _NO_TRAINER_SETTINGS:
            settings["trainer"].pop(name, None)
        description = Description(settings, tuple(self.config.tags), self.config.notes)
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger):
                logger.begin(trainer.global_step, description)
        self._started = time.perf_counter()
        if trainer.is_global_zero:
            self.save_config(trainer, pl_module, "fit")
            summary = self.write_summary(trainer, "running")
            print("\n".join([trainer.default_root_dir, *_head(trainer, pl_module, summary)]), flush=True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._started is not None and trainer.is_global_zero:
            self.write_summary(trainer, "running")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if self._started is None or not trainer.is_global_zero:
            return
        stopped = isinstance(exception, RunInterrupted | KeyboardInterrupt)
        self.write_summary(trainer, "interrupted" if stopped else "failed")
        checkpoints = find(trainer, Checkpoints)
        if stopped:
            print(f"\nstopped at step {trainer.global_step} of this run; to continue it:")
            if checkpoints.last.exists():
                print(f"  make resume RUN={trainer.default_root_dir}")
            else:
                print("  there is no checkpoint yet; start it again")

    def write_summary(self, trainer: Trainer, status: str) -> dict[str, Any]:
        """Write `summary.json` as things stand, and return its content; for rank zero."""
        summary = summarize(trainer, status, self._train_seconds())
        write_json(Path(trainer.default_root_dir) / "summary.json", summary)
        return summary

    @property
    def has_trained(self) -> bool:
        """Whether there was a step left to train."""
        return self._started is not None

    def _train_seconds(self) -> float:
        """Of this run, interruptions left out; a finished run that is resumed does not train again."""
        return self._earlier_seconds + (time.perf_counter() - self._started if self._started else 0.0)

    def state_dict(self) -> dict[str, Any]:
        return {"train_seconds": self._train_seconds()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._earlier_seconds = state_dict["train_seconds"]


def _head(trainer: Trainer, module: LightningModule, summary: dict[str, Any]) -> list[str]:
    """What is trained, on what, and for how long: lines that fit a terminal."""
    data, base = datamodule_of(trainer), base_of(trainer)
    total, trainable = summary["parameters_total"], summary["parameters_trainable"]
    parameters = f"GPT-2 of {total:,} parameters"
    if trainable < total:
        parameters += f", {trainable:,} train ({trainable / total:.2%})"
    rows = data.rows_of("train")
    cut = rows.truncated if isinstance(rows, DocumentRows) else 0
    lines = {
        "model": parameters,
        "base": str(base) if base else "",
        "data": f"{data.corpus.name}, {data.store.splits['train'].tokens:,} training tokens",
        "cut": f"{cut:,} documents are longer than a row of {data.block_size} tokens" if cut else "",
        "length": length(trainer),
        "machine": f"{trainer.precision} on {device_description(module.device)}",
    }
    return [f"  {name:<8} {line}" for name, line in lines.items() if line]
