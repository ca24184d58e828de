"""The commands that are no verbs of Lightning's Trainer: `python -m gpt2_lightning generate`, ..."""

import gc
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from inspect import Parameter, signature
from itertools import takewhile
from typing import Any

import docstring_parser

from gpt2_lightning.commandline.option_errors import Parser, fail
from gpt2_lightning.commandline.quiet import quiet
from gpt2_lightning.commandline.resources import is_disk_full
from gpt2_lightning.errors import InputError

_WRITE = {"generate": "inference.generate", "chat": "inference.generate"}
_MEASURE = {"evaluate": "inference.evaluate"}
_OF_RUNS = {"sweep": "sweeps.sweep", "compare": "runs.compare", "reproduce": "runs.reproduce"}
_MODULES = _WRITE | _MEASURE | _OF_RUNS


def main(args: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code.

    Args:
        args: options; `sys.argv`'s if not given.
    """
    given = list(sys.argv[1:] if args is None else args)
    asked = [name for name in given[:1] if name in _MODULES]  # what others import takes seconds
    if not _OF_RUNS.keys() & asked:
        quiet()
    try:
        known = {name: _command(name) for name in asked or _MODULES}
        if not gc.isenabled():
            gc.freeze()
            gc.enable()
        parser = Parser(prog="python -m gpt2_lightning", description="Use what training made.")
        commands = parser.add_subcommands()
        for name, command in known.items():
            commands.add_subcommand(name, _parser_of(name, command), help=_first_line(command))
        config = parser.parse_args(_with_corpus(given) if asked == ["evaluate"] else given)
        command, options = known[config.subcommand], config[config.subcommand].as_dict()
        if config.subcommand in _MEASURE:
            command(**vars(parser.instantiate(config)[config.subcommand]))
        elif config.subcommand in _OF_RUNS:
            return int(command(**options) is False)
        else:
            command(_sampling(options), **options)
    except InputError as error:
        fail(" ".join(str(error).split()))
    except KeyboardInterrupt:
        print()
        return 130
    except BrokenPipeError:  # whoever reads has had enough, as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # where Python flushes to at its end
        return 141
    except OSError as error:
        if not is_disk_full(error):
            raise
        with suppress(OSError):  # what Python would flush at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        fail(f"{error.filename or 'the output'}: cannot be written: the disk is full")
    return 0


def _command(name: str) -> Callable[..., Any]:
    return getattr(import_module(f"gpt2_lightning.{_MODULES[name]}"), name)


def _parser_of(name: str, command: Callable[..., Any]) -> Parser:
    """What a command is about, a folder, a file or a list of them, is given without an option's name."""
    parser = Parser(description=_first_line(command))
    lists = [each.name for each in signature(command).parameters.values() if _is_needed_list(each)]
    for each in docstring_parser.parse(str(command.__doc__)).params:
        if each.arg_name in lists:
            parser.add_argument(each.arg_name, nargs="+", help=each.description)
    if name in _WRITE:
        from gpt2_lightning.model.sampling import Sampling

        parser.add_function_arguments(command, skip={"sampling"})
        parser.add_class_arguments(Sampling)
    else:
        parser.add_function_arguments(command, skip={*lists}, as_positional=name in _OF_RUNS)
    return parser


def _is_needed_list(parameter: Parameter) -> bool:
    return parameter.annotation == list[str] and parameter.default is Parameter.empty


def _sampling(options: dict[str, Any]) -> Any:
    """The settings of sampling, taken out of the options."""
    from gpt2_lightning.model.sampling import Sampling

    return Sampling(**{name: options.pop(name) for name in Sampling.__dataclass_fields__})


def _with_corpus(given: list[str]) -> list[str]:
    """The options of `evaluate`, with the corpus of the first model's run where none is given."""
    from gpt2_lightning.inference.trained_on import corpus_options

    models = list(takewhile(lambda each: not each.startswith("-"), given[1:]))
    options = given[1 + len(models) :]
    names = {option.split("=")[0] for option in options}
    if not models or names & {"--data", "--data.source", "--help", "-h"}:
        return given
    if (corpus := corpus_options(models[0])) is None:
        raise InputError(
            f"--data: give the corpus (DATA= names a file of configs/data); {models[0]!r} is of no run that "
            "has one"
        )
    return ["evaluate", *models, "--data", json.dumps(corpus), *options]


def _first_line(command: Callable[..., Any]) -> str:
    return str(command.__doc__).splitlines()[0]


if __name__ == "__main__":
    gc.disable()  # what is imported stays: looking for garbage in it takes a third of the start
    sys.exit(main())
