"""Mistakes in options and configuration files, said in one short message."""

import difflib
import re
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

from lightning.pytorch.cli import LightningArgumentParser

_WRONG_VALUE = re.compile(r'Parser key "(?P<key>[^"]*)":\s*(?P<reason>.*)', re.DOTALL)
_UNKNOWN_ARGUMENTS = re.compile(r"unrecognized arguments: (?P<key>\S+)")
_UNKNOWN_OPTION = re.compile(r"(?:Subcommand '\w+' does not accept option|Option) '(?P<key>[^']*)'")
_MISSING = re.compile(r"the following arguments are required: (?P<keys>.*)")
_RESTRICTION = re.compile(r"Not of type \w+: (?P<value>.*) does not conform to restriction (?P<rule>.*)")


class Parser(LightningArgumentParser):
    """LightningCLI's parser with errors of one message instead of the whole usage, and exit code 2."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)  # a mistyped name is a mistake, not a prefix

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        fail(explain(message, _known_options(self), sys.argv[1:]))


def fail(message: str) -> NoReturn:
    """Print one message for the user and exit with code 2."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def explain(message: str, known: Iterable[str], arguments: list[str]) -> str:
    """A parser's message with the option's whole name, the value, what is allowed, and what was meant.

    Args:
        message: of jsonargparse.
        known: names of the options that exist.
        arguments: of the command line; they tell the whole name where the message has its end only.
    """
    if match := _WRONG_VALUE.match(message):
        reason = _RESTRICTION.sub(r"\g<value> is out of range: it must be \g<rule>", match["reason"])
        reason = " ".join(reason.split()).replace("v>", ">").replace("v<", "<")
        return f"--{_whole_name(match['key'], arguments)}: {reason}"
    if match := _MISSING.match(message):
        missing = ", ".join("--" + key.strip().removeprefix("fit.") for key in match["keys"].split(","))
        return f"{missing} must be given; DATA= or an experiment's file under configs/ does so"
    if match := _UNKNOWN_ARGUMENTS.match(message) or _UNKNOWN_OPTION.match(message):
        name = _whole_name(match["key"].lstrip("-").split("=")[0], arguments)
        close = difflib.get_close_matches(name, list(known), n=1)
        return f"--{name}: no such option" + (f"; did you mean --{close[0]}?" if close else "; see --help")
    return " ".join(message.split())


def _whole_name(key: str, arguments: list[str]) -> str:
    for argument in arguments:
        name = argument.lstrip("-").split("=")[0]
        if argument.startswith("--") and name.endswith("." + key):
            return name
    return key


def _known_options(parser: Any) -> list[str]:
    """Names of the options of a parser and of its verbs; a broken default configuration is left out."""
    choices = [action.choices for action in parser._actions if isinstance(action.choices, dict)]
    verbs = [verb for verbs in choices for verb in verbs.values()]
    for each in (parser, *verbs):
        each.default_config_files = []
    return [key for each in (parser, *verbs) for key in each.get_defaults().keys()]  # noqa: SIM118  (a Namespace)
