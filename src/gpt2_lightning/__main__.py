"""The commands that are no verbs of Lightning's Trainer: `python -m gpt2_lightning generate`, ..."""

import errno
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import takewhile
from typing import Any

from gpt2_lightning.errors import InputError
from gpt2_lightning.inference.evaluate import evaluate
from gpt2_lightning.inference.generate import chat, generate
from gpt2_lightning.inference.last_words import last_words
from gpt2_lightning.inference.trained_on import corpus_options
from gpt2_lightning.model.sampling import Sampling
from gpt2_lightning.option_errors import Parser, fail
from gpt2_lightning.quiet import quiet
from gpt2_lightning.runs.compare import compare
from gpt2_lightning.runs.reproduce import reproduce
from gpt2_lightning.sweeps.sweep import sweep

_OF_RUNS: dict[str, Callable[..., Any]] = {"sweep": sweep, "compare": compare, "reproduce": reproduce}
_MEASURES: dict[str, Callable[..., Any]] = {"evaluate": evaluate, "last_words": last_words}


def main(args: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code.

    Args:
        args: options; `sys.argv`'s if not given.
    """
    quiet()
    given = list(sys.argv[1:] if args is None else args)
    parser = Parser(prog="python -m gpt2_lightning", description="Use what training made.")
    commands = parser.add_subcommands()
    for name, command in (("generate", generate), ("chat", chat)):
        commands.add_subcommand(name, _writing_parser(command), help=_first_line(command))
    for name, command in _MEASURES.items():
        commands.add_subcommand(name, _measuring_parser(command), help=_first_line(command))
    for name, command in _OF_RUNS.items():
        commands.add_subcommand(name, _parser_of_runs(command), help=_first_line(command))
    try:
        config = parser.parse_args(_with_corpus(given) if given[:1] == ["evaluate"] else given)
        if measure := _MEASURES.get(config.subcommand):
            measure(**vars(parser.instantiate(config)[config.subcommand]))
        elif command := _OF_RUNS.get(config.subcommand):
            return int(command(**config[config.subcommand].as_dict()) is False)
        else:
            options = config[config.subcommand].as_dict()
            sampling = Sampling(**{name: options.pop(name) for name in Sampling.__dataclass_fields__})
            {"generate": generate, "chat": chat}[config.subcommand](sampling, **options)
    except InputError as error:
        fail(" ".join(str(error).split()))
    except KeyboardInterrupt:
        print()
        return 130
    except BrokenPipeError:  # whoever reads has had enough, as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # where Python flushes to at its end
        return 141
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        with suppress(OSError):  # what Python would flush at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        fail(f"{error.filename or 'the output'} cannot be written: the disk is full")
    return 0


def _writing_parser(command: Callable[..., None]) -> Parser:
    parser = Parser(description=_first_line(command))
    parser.add_function_arguments(command, skip={"sampling"})
    parser.add_class_arguments(Sampling)
    return parser


def _parser_of_runs(command: Callable[..., Any]) -> Parser:
    """What a command is about, a folder, a file or several, stands without a name."""
    parser = Parser(description=_first_line(command))
    if command is compare:
        parser.add_argument("runs", nargs="+", help="Folders of runs, or globs.")
    parser.add_function_arguments(command, skip={"runs"}, as_positional=True)
    return parser


def _measuring_parser(command: Callable[..., Any]) -> Parser:
    parser = Parser(description=_first_line(command))
    parser.add_argument("models", nargs="+", help="Runs, exports, adapters, folders of a GPT-2, or hub ids.")
    parser.add_function_arguments(command, skip={"models"})
    return parser


def _with_corpus(given: list[str]) -> list[str]:
    """The options of `evaluate`, with the corpus of the first model's run where none is given."""
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
    sys.exit(main())
