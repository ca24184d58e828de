"""Lightning's Trainer, with the verbs that do not train."""

from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from gpt2_lightning.data.datamodule import TextDataModule
from gpt2_lightning.errors import InputError
from gpt2_lightning.inference.card import model_card
from gpt2_lightning.inference.export import export, load_weights
from gpt2_lightning.model.module import GPT2Module
from gpt2_lightning.runs import preflight
from gpt2_lightning.runs.run import Run


class GPT2Trainer(Trainer):
    """Lightning's Trainer with two verbs that do not train and take the configuration of `fit`.

    Args:
        args: Lightning's.
        max_steps: optimizer steps of the run; no limit if not given.
        kwargs: Lightning's.
    """

    def __init__(self, *args: Any, max_steps: int | None = None, **kwargs: Any) -> None:
        super().__init__(*args, max_steps=-1 if max_steps is None else max_steps, **kwargs)

    def preflight(
        self,
        model: GPT2Module,
        datamodule: TextDataModule,
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
        measure: bool = True,
    ) -> None:
        """Build the token store, and say what a run would do: counts, arithmetic, time, one decoded row.

        Args:
            model: whose parameters are counted.
            datamodule: whose corpus it is.
            ckpt_path: not used; a run's configuration has it.
            weights_only: not used; a run's configuration has it.
            measure: take a few optimizer steps, to tell the run's time and memory.
        """
        self._get_ready(model, datamodule)
        print(preflight.report(self, model, datamodule, measure))

    def _get_ready(self, model: GPT2Module, datamodule: TextDataModule) -> None:
        """Give both to each other, as Lightning does for its own verbs, with the token store there."""
        datamodule.prepare_data()
        datamodule.setup()
        datamodule.trainer = model.trainer = self  # whose devices and accumulation decide the steps
        self.datamodule = datamodule

    def export(
        self,
        model: GPT2Module,
        datamodule: TextDataModule,
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
        folder: str | None = None,
        merge: bool = False,
    ) -> None:
        """Write a checkpoint's model as a Hugging Face folder.

        Args:
            model: of the run's configuration.
            datamodule: whose tokenizer goes with it.
            ckpt_path: the checkpoint.
            weights_only: not used; a checkpoint is loaded as data always.
            folder: to write; `export`, or merged `export-merged`, in the run's folder if not given.
            merge: work an adapter into the model's weights.
        """
        checkpoint = Path(ckpt_path or "")
        if not checkpoint.is_file():
            raise InputError("--ckpt_path must be given: logs/<experiment>/<run>/checkpoints/best.ckpt")
        run = Run.of_checkpoint(checkpoint)
        if folder is not None:
            place = Path(folder)
        elif run is not None:
            place = run.merged_export if merge else run.export
        else:
            raise InputError(
                f"--ckpt_path {ckpt_path!r}: lies in no run's folder; say where to write with --folder"
            )
        self._get_ready(model, datamodule)
        model.configure_model()
        load_weights(model, checkpoint)
        card = partial(model_card, run, datamodule) if run and run.has_begun else None
        export(model, datamodule.tokenizer, place, merge, card, is_foreign=folder is not None)
        print(place)
