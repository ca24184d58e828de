"""The LightningCLI: sections of options, checks across them, the run's folder, and what follows a run."""

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_only
from torch.distributed import DistNetworkError

from gpt2_lightning.callbacks.adalora import AdaLoRA
from gpt2_lightning.callbacks.checkpoint_io import SafeCheckpointIO
from gpt2_lightning.callbacks.checkpoints import Checkpoints
from gpt2_lightning.callbacks.guards import Guards
from gpt2_lightning.callbacks.histograms import Histograms
from gpt2_lightning.callbacks.pace import Pace
from gpt2_lightning.callbacks.patience import Patience
from gpt2_lightning.callbacks.progress import Progress
from gpt2_lightning.callbacks.samples import SampleGenerator
from gpt2_lightning.callbacks.stop_signals import RunInterrupted
from gpt2_lightning.callbacks.throughput import Throughput
from gpt2_lightning.callbacks.warmup import WarmupSchedule
from gpt2_lightning.commandline import place
from gpt2_lightning.commandline.consistency import check
from gpt2_lightning.commandline.ending import finish
from gpt2_lightning.commandline.option_errors import Parser, check_configs, fail
from gpt2_lightning.commandline.output import lasting_output
from gpt2_lightning.commandline.precedence import STEPS, settle
from gpt2_lightning.commandline.quiet import quiet
from gpt2_lightning.commandline.ranks import ending_together
from gpt2_lightning.commandline.resources import (
    is_disk_full,
    is_out_of_memory,
    make_room,
    quiet_writers,
    remedy,
)
from gpt2_lightning.commandline.said import Said
from gpt2_lightning.commandline.trainer import GPT2Trainer
from gpt2_lightning.data.datamodule import TextDataModule
from gpt2_lightning.errors import DivergedError, InputError
from gpt2_lightning.locations import LATEST, locate
from gpt2_lightning.machine.hardware import thread_warning
from gpt2_lightning.machine.malloc import keep_freed_memory
from gpt2_lightning.machine.precision import best_precision, emulation_warning, takes_cpu
from gpt2_lightning.model.module import GPT2Module
from gpt2_lightning.ranges import NonNegativeInt, PositiveInt
from gpt2_lightning.runs.loggers import weights_and_biases
from gpt2_lightning.runs.record import RunRecord
from gpt2_lightning.runs.run import Run
from gpt2_lightning.runs.secret_options import check_arguments, check_config
from gpt2_lightning.sweeps.assignment import Assignment
from gpt2_lightning.sweeps.pruning import Pruning


class GPT2Parser(Parser, LightningArgumentParser):
    """LightningCLI's parser, with our errors."""


class GPT2CLI(LightningCLI):
    """`fit`, `validate` and `test` as users of Lightning know them, `preflight` and `export`.

    Args:
        args: LightningCLI's.
        defaults: a configuration that every run starts from.
        kwargs: LightningCLI's.
    """

    def __init__(self, *args: Any, defaults: Path | None = None, **kwargs: Any) -> None:
        self._said = Said(sys.argv[2:], defaults)
        super().__init__(*args, **kwargs)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        verbs = LightningCLI.subcommands()
        own = {verb: {"model", "datamodule"} for verb in ("preflight", "export")}
        known = {verb: verbs[verb] for verb in ("fit", "validate", "test")} | own
        asked = {verb: known[verb] for verb in sys.argv[1:2] if verb in known}
        return asked or known  # a parser takes a tenth of a second to make, and only help shows them all

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--experiment",
            type=str | None,
            default=None,
            help="Name of the folder below `logs` for this run; the last --config's name if not given.",
        )
        parser.add_argument(
            "--run", type=str | None, default=None, help="Name of the run's folder; the time if not given."
        )
        parser.add_argument(
            "--auto_resume",
            type=bool,
            default=False,
            help="Go on with the run of that name where it has a checkpoint, so that a scheduler may start "
            "the same command again; in a SLURM job its number is the name if --run gives none.",
        )
        parser.add_argument("--logs", type=str, default="logs", help="Folder that holds the runs.")
        parser.add_argument("--tags", type=list[str], default=[], help="Words to find the run by.")
        parser.add_argument("--notes", type=str, default="", help="What the run is for.")
        parser.add_argument(
            f"--{STEPS}",
            type=PositiveInt | None,
            default=None,
            help="Optimizer steps between validations, which also follow the last step.",
        )
        parser.add_argument(
            "--patience",
            type=NonNegativeInt,
            default=0,
            help="Validations in a row without a lower val/nll after which the run ends; 0 means never.",
        )
        parser.add_lightning_class_args(Throughput, "throughput")  # its clock leaves out those after it
        parser.add_lightning_class_args(WarmupSchedule, "warmup")
        parser.add_lightning_class_args(Guards, "guards")
        parser.add_lightning_class_args(Histograms, "histograms")
        parser.add_lightning_class_args(SampleGenerator, "samples")
        parser.add_lightning_class_args(Checkpoints, "checkpoints")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
        parser.set_defaults({"data.corpus.tokenizer": {"class_path": "ByteLevelBPE"}})  # as files name it
        parser.set_defaults({"model.optimizer": {"class_path": "torch.optim.AdamW"}})

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        super().parse_arguments(parser, args)
        config = self.config[self.config.subcommand]
        notes = settle(config, self._said)
        if notes and rank_zero_only.rank == 0:  # pyright: ignore[reportFunctionMemberAccess]
            print("\n".join(notes))
        check(config)
        check_config(config)

    def _parse_ckpt_path(self) -> None:
        """Nothing: Lightning would let a checkpoint's hyperparameters name classes to make."""

    def _run_subcommand(self, subcommand: str) -> None:
        trains = subcommand == "fit" and rank_zero_only.rank == 0  # pyright: ignore[reportFunctionMemberAccess]
        run = Run(Path(self.trainer.default_root_dir))
        try:
            with run.lock() if trains else nullcontext(), ending_together(self.trainer):
                super()._run_subcommand(subcommand)
        except DistNetworkError as error:
            port = os.environ.get("MASTER_PORT")  # Lightning finds one where the user names none
            raise InputError(f"MASTER_PORT {port}: the ranks cannot meet there: {error}") from None
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise InputError(remedy(self.config[subcommand])) from None
        except OSError as error:
            if not is_disk_full(error):
                raise
            raise InputError(make_room(error, run, trains=subcommand == "fit")) from None

    def before_instantiate_classes(self) -> None:
        config = self.config[str(self.subcommand)]
        trainer = config.trainer
        if trainer.precision is None:
            trainer.precision = best_precision(trainer.accelerator)
        self._warn_of_slowness(trainer)
        if config.model.optimizer is None:  # a default of the option would hand its settings to other classes
            config.model.optimizer = Namespace(class_path="torch.optim.AdamW", init_args=Namespace())
        if config.model.compile:
            trainer.inference_mode = False  # what a compiled body has seen in inference mode cannot train
        _pin_latest(config)
        if self.subcommand != "fit":
            trainer.logger = False
            return
        folder = place.choose(config, self._said)
        config.experiment = folder.parent.name
        trainer.default_root_dir = str(folder)
        for logger in _as_list(trainer.logger):
            if isinstance(logger, Namespace) and "save_dir" in logger.get("init_args", {}):
                logger.init_args.save_dir = str(folder)
            if isinstance(logger, Namespace) and logger.class_path.endswith(".WeightsAndBiases"):
                weights_and_biases.mode()  # refuses a key that is none; a constructor's errors are wrapped

    def _warn_of_slowness(self, trainer: Namespace) -> None:
        """Say what the CPU will be slow at, before it is.

        Raises:
            InputError: for fp16 with a loss scaler, in whose place Lightning would take bf16.
        """
        precision = str(trainer.precision)
        if self.subcommand == "export" or not takes_cpu(str(trainer.accelerator)):
            return
        if precision in ("16", "16-mixed"):
            raise InputError(
                f"--trainer.precision {precision}: is not supported on a CPU; give 32-true, or bf16-mixed "
                "where the CPU has bf16"
            )
        if rank_zero_only.rank == 0:  # pyright: ignore[reportFunctionMemberAccess]
            for warning in filter(None, (emulation_warning(precision), thread_warning())):
                print(warning, file=sys.stderr)

    def instantiate_classes(self) -> None:
        super().instantiate_classes()
        self.model.config(self.datamodule)  # looks at every option of the model, before any text is read

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        trainer = self._get(self.config_init, "trainer")
        trainer.callbacks = _as_list(trainer.callbacks)
        trainer.callbacks[:0] = AdaLoRA.needed_by(self.model.recipe.adapter)  # before who reads gradients
        if patience := self._get(self.config_init, "patience"):
            trainer.callbacks.append(Patience(int(patience)))
        if self.subcommand == "fit" and (assignment := Assignment.given()):
            trainer.callbacks.append(Pruning(assignment))
        if trainer.enable_progress_bar is not False:
            trainer.callbacks.append(Progress(self._get(self.config_init, "throughput")))
        trainer.callbacks.append(Pace(self._get(self.config_init, "throughput")))
        plugins = [*_as_list(trainer.plugins), SafeCheckpointIO()]
        try:
            return super().instantiate_trainer(plugins=plugins, **kwargs)
        except (ValueError, TypeError) as error:  # Lightning's own check of its options
            raise InputError(f"--trainer: {error}") from None

    def after_fit(self) -> None:
        if self.trainer.is_global_zero and not self.trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
            finish(self.trainer, self.model, self.datamodule)


def _pin_latest(config: Namespace) -> None:
    """Put the run's own name in place of `latest`, so that the configuration repeats the run."""
    tokenizer = config.data.corpus.tokenizer
    options = [(config.model, "pretrained", "--model.pretrained")]
    if tokenizer and "path" in tokenizer.get("init_args", {}):
        options.append((tokenizer.init_args, "path", "--data.corpus.tokenizer.path"))
    for section, name, option in options:
        if section[name] and Path(section[name]).name == LATEST:
            section[name] = locate(section[name], option)


def _as_list(option: Any) -> list[Any]:
    """Lightning takes one value, a list of them, or none."""
    if option is None or isinstance(option, list):
        return option or []
    return [option]


def main(defaults: Path | None = None) -> int:
    """Run the command line in `sys.argv`; returns the exit code.

    Args:
        defaults: a configuration that every run starts from.
    """
    with lasting_output():
        return _main(defaults)


def _main(defaults: Path | None) -> int:
    quiet()
    quiet_writers()
    keep_freed_memory()
    place.forget()
    verb_defaults = {"default_config_files": [str(defaults)] if defaults else []}
    try:
        check_arguments(sys.argv[1:])
        check_configs(sys.argv[1:])
        GPT2CLI(
            GPT2Module,
            TextDataModule,
            defaults=defaults,
            trainer_class=GPT2Trainer,
            parser_class=GPT2Parser,
            parser_kwargs={verb: dict(verb_defaults) for verb in GPT2CLI.subcommands()},
            trainer_defaults={
                "enable_model_summary": False,
                "use_distributed_sampler": False,  # the data module gives each rank its share
            },
            save_config_callback=RunRecord,
            save_config_kwargs={"save_to_log_dir": False},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )
    except (InputError, MisconfigurationException) as error:
        fail(" ".join(str(error).split()))
    except DivergedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except RunInterrupted as stopped:
        return stopped.exit_code
    except KeyboardInterrupt:
        print("\nstopped")
        return 130
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # Lightning turns Ctrl-C into exit code 1
            return 130
        raise
    finally:
        place.remove_unused()
    return 0
