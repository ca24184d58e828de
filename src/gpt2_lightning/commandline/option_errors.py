"""Mistakes in options and configuration files, said in one short message."""

import difflib
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ArgumentParser

from gpt2_lightning.files.yaml_file import read_mapping

_WRONG_VALUE = re.compile(r'Parser key "(?P<key>[^"]*)":\s*(?P<reason>.*)', re.DOTALL)
_UNKNOWN = re.compile(
    r"unrecognized arguments: (\S+)|(?:Subcommand '\w+' does not accept option|Option) '([^']*)'"
)
_MISSING = re.compile(r"the following arguments are required: (.*)")
_PLAIN = (  # what is wrong with a value, and how it is said
    (r"(.*) does not conform to restriction (.*)", "{0} is out of range: it must be {1}"),
    (r"invalid literal for (\w+)\(\).*: '(.*)'", "{1} is not of type {0}"),
    (r"Expected a <class '(\w+)'>\. Got value: (.*)", "{1} is not of type {0}"),
    (r"Expected a typing\.Literal\[(.*)\]\. Got value: (.*)", "{1} is unknown; there are: {0}"),
    (
        r"(?:Expected a dot import path string|Unexpected import path format): (.*)",
        "{0} is no class and no file",
    ),
    (r"Expected an instantiatable class, .*", "name its class before its options, as TextFiles"),
)


class Parser(ArgumentParser):
    """A parser with errors of one message instead of the whole usage, and exit code 2."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)  # a mistyped name is a mistake, not a prefix

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        fail(explain(message, ex, _known_options(self), sys.argv[1:]))


def fail(message: str) -> NoReturn:
    """Print one message for the user and exit with code 2."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def check_configs(arguments: list[str]) -> None:
    """Look at the files that `--config` names: a parser does not say which of them it could not read.

    Raises:
        InputError: naming the file, and the line.
    """
    for option, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, _, value = option.partition("=")
        if name in ("--config", "-c") and "\n" not in (path := value or following) and Path(path).is_file():
            read_mapping(Path(path), "configuration: options and their values are needed")


def explain(message: str, error: Exception | None, known: Iterable[str], arguments: list[str]) -> str:
    """A parser's message with the option's whole name, the value, what is allowed, and what was meant.

    Args:
        message: of jsonargparse.
        error: that it comes from; its cause is about the value alone.
        known: names of the options that exist.
        arguments: of the command line; they tell the whole name where the message has its end only.
    """
    if match := _WRONG_VALUE.match(message):
        return f"--{_whole_name(match['key'], arguments)}: {_reason(error, match['reason'])}"
    if match := _MISSING.match(message):
        return _missing(match[1], next(iter(arguments), "fit"))
    if match := _UNKNOWN.match(message):
        key = (match[1] or match[2]).lstrip("-").split("=")[0]  # of a class, it follows the option's name
        return _unknown(key, _whole_name(key, arguments).removesuffix(key), list(known))
    return " ".join(message.split())


def _reason(error: BaseException | None, reason: str) -> str:
    """What is wrong with a value: the first of the errors, if its option may be of several types."""
    if choices := re.findall(r"- Expected a typing\.Literal\[(.*)\]", reason):
        return f"{reason.rpartition('Given value: ')[2]} is unknown; there are: {', '.join(choices)}"
    while error and (cause := error.__cause__ or error.__context__):
        error, reason = cause, str(cause)
    if match := _WRONG_VALUE.match(reason):  # of a file that the value names
        reason = match["reason"]
    for pattern, said in _PLAIN:
        if match := re.match(pattern, reason, re.DOTALL):
            reason = said.format(*match.groups())
    return " ".join(reason.split()).replace("v>", ">").replace("v<", "<")


def _missing(names: str, verb: str) -> str:
    keys = [key.strip().removeprefix(f"{verb}.") for key in names.split(",")]
    missing = ", ".join(key if key == "models" else f"--{key}" for key in keys) + " must be given"
    is_of_data = any(key.startswith("data") for key in keys)
    return missing + ("; DATA= or an experiment's file under configs/ does so" if is_of_data else "")


def _unknown(key: str, owner: str, known: list[str]) -> str:
    longer = [name for name in known if name.startswith(f"{key}_")]
    if close := difflib.get_close_matches(key, known, n=1) or longer:
        return f"--{owner}{key}: no such option; did you mean --{owner}{close[0]}?"
    if owner:
        return f"--{owner}{key}: no such option; --{owner[:-1]} names another class, or none before it"
    return f"--{key}: no such option; see --help"


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
