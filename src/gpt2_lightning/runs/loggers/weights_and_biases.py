"""Weights & Biases: offline without an account, online with a key, and never in the way of training."""

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from gpt2_lightning.errors import InputError
from gpt2_lightning.files.whole import write_text
from gpt2_lightning.runs.loggers.description import Description, WhenUsed
from gpt2_lightning.runs.run import Run

_SECONDS_TO_REACH = 8  # the server, at the start; after that the run is offline
_SECONDS_TO_FINISH = 60  # uploading what is left, at the end


class WeightsAndBiases(WandbLogger):
    """Weights & Biases, in `wandb/` of the run's folder; the x-axis is the optimizer step.

    Without a key (`WANDB_API_KEY`, or `wandb login`) it is written offline, and the line that uploads
    it is printed at the end. With one it is online, unless the server cannot be reached at the start;
    `WANDB_MODE` overrides this. If W&B fails in any way, training continues without it.

    A resumed run continues the same W&B run. Offline, its new file holds the earlier rows of `metrics.csv`
    too, without histograms and samples, as the upload of a second file takes the place of the first. Online,
    W&B keeps the rows that it has: those of a killed try past the checkpoint stay, and the run's own for
    these steps are left out.

    Args:
        project: name of the W&B project; `WANDB_PROJECT` is ignored.
        name: of the run; that of its folder if not given.
        entity: W&B user or team; the account's own if not given.
        group: name under which W&B shows runs together; the experiment's if not given.
        save_dir: the run's folder, set by the command line.
    """

    def __init__(
        self,
        project: str = "gpt2-lightning",
        name: str | None = None,
        entity: str | None = None,
        group: str | None = None,
        save_dir: str = "",
    ) -> None:
        self._mode = mode()
        folder = Path(save_dir)
        super().__init__(
            name=name or folder.name or None,
            project=project,
            save_dir=save_dir or ".",
            entity=entity,
            group=group or folder.parent.name or None,
        )
        self._wandb_init.pop("anonymous", None)  # wandb 0.31 warns of it, whatever its value
        self._folder = folder
        self._is_lost = False

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The W&B run; it begins when something is recorded."""
        if self._experiment is not None:
            return self._experiment
        return WhenUsed(self._begin)

    @rank_zero_only
    def begin(self, step: int, description: Description) -> None:
        self._wandb_init |= {
            "config": description.hyperparameters,
            "tags": list(description.tags),
            "notes": description.notes or None,
            "allow_val_change": True,  # a resumed run may have other settings
        }
        rows = Run(self._folder).rows if step else []
        try:
            run = self._begin()
            for row in rows:
                if run.step <= row["step"] <= step:  # online, W&B has the earlier ones
                    run.log({name: row[name] for name in row if name != "step"}, step=int(row["step"]))
        except InputError:
            raise
        except Exception as error:
            self._lose(error)

    def _begin(self) -> Any:
        """The W&B run, online or offline; a resumed folder continues its own.

        Raises:
            InputError: if the server refuses the key.
        """
        import wandb
        from wandb.errors import AuthenticationError, CommError

        if self._experiment is not None:
            return self._experiment
        options = self._wandb_init | {"id": self._run_id()}
        try:
            self._experiment = self._open(options)
        except AuthenticationError as error:
            raise InputError(f"WANDB_API_KEY: the server refuses it: {error}") from None
        except CommError as error:
            if self._mode == "offline":
                raise
            reason = next(iter(str(error).splitlines()), "")
            print(f"W&B cannot be reached ({reason}): this run is written offline", flush=True)
            self._mode = "offline"
            wandb.teardown()  # its process still holds the run's name
            self._experiment = self._open(options)
        return self._experiment

    def _open(self, options: dict[str, Any]) -> Any:
        import wandb

        settings = wandb.Settings(
            console="off",
            silent=True,
            disable_git=True,  # environment.json has commit and diff
            init_timeout=_SECONDS_TO_REACH,
            finish_timeout=_SECONDS_TO_FINISH,
        )
        return wandb.init(**options, mode=self._mode, settings=settings)  # pyright: ignore[reportArgumentType]

    def _run_id(self) -> str:
        """Drawn once per run folder, or given by a W&B agent."""
        path = self._folder / "wandb" / "run_id"
        if not path.exists():
            given = os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, (given or secrets.token_hex(4)) + "\n")
        return path.read_text().strip()

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        if self._is_lost:
            return
        try:
            self._begin().log(dict(metrics), step=step)
        except Exception as error:
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        import wandb

        self._is_lost = True
        with suppress(Exception):
            wandb.teardown()  # or its process is missed again when this one ends
        print(f"W&B has died ({type(error).__name__}: {error}): training goes on without it", flush=True)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the W&B run, and print the command that uploads an offline one."""
        if self._experiment is None or self._is_lost:
            return
        try:
            place = self._experiment.settings.sync_dir
            self._experiment.finish(exit_code=0 if status == "success" else 1)
        except Exception as error:
            self._lose(error)
            return
        self._experiment = None
        if self._mode == "offline":
            print(f"to upload this run to W&B:\n  wandb sync {place}", flush=True)


def mode() -> str:
    """`online`, `offline` or `disabled`: by `WANDB_MODE`, or by whether there is a key.

    Raises:
        InputError: if wandb is not installed, or the key cannot be one.
    """
    try:
        import wandb
        from wandb.errors import AuthenticationError
        from wandb.sdk.lib.wbauth import check_api_key, read_netrc_auth
    except ModuleNotFoundError:
        raise InputError(
            "--trainer.logger: the package wandb is not installed: pip install wandb, or leave W&B out"
        ) from None
    settings = wandb.setup().settings
    asked = os.environ.get("WANDB_MODE")
    if asked in ("offline", "disabled", "dryrun"):
        return "disabled" if asked == "disabled" else "offline"
    try:
        key = settings.api_key or read_netrc_auth(host=settings.base_url) or ""
    except AuthenticationError as error:
        raise InputError(f"the key that `wandb login` has kept: {error}") from None
    if not key and asked != "online":
        return "offline"
    if problem := check_api_key(key):
        raise InputError(f"WANDB_API_KEY: {problem} Give a whole key, or none: then the run is offline")
    return "online"
