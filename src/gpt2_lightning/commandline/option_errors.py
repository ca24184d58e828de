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
_UNKNOWN_ARGUMENTS = re.compile(r"unrecognized arguments: (?P<key>\S+)")
_UNKNOWN_OPTION = re.compile(r"(?:Subcommand '\w+' does not accept option|Option) '(?P<key>[^']*)'")
_MISSING = re.compile(r"the following arguments are required: (?P<keys>.*)")
_RESTRICTION = re.compile(r"Not of type \w+: (?P<value>.*) does not conform to restriction (?P<rule>.*)")
_UNION = re.compile(
    r"Does not validate against any of the Union subtypes.*?Errors:(?P<errors>.*)"
    r"Given value type:.*?Given value: (?P<value>.*)",
    re.DOTALL,
)
_VALUE_LAST = re.compile(r"(?P<error>Expected a typing\.Literal\[.*\])\. Got value: (?P<value>.*)", re.DOTALL)
_ABSTRACT = re.compile(r"Expected an instantiatable class, but .* is abstract|Unexpected import path format")
_PLAIN_ERRORS = (  # of one member of a union, and how it is said
    (
        re.compile(r"Not of type \w+: does not conform to restriction (?P<it>.*)"),
        "is out of range: it must be {}",
    ),
    (re.compile(r"Not of type \w+: invalid literal for (?P<it>\w+)\(\).*"), "is no {}"),
    (re.compile(r"Expected a typing.Literal\[(?P<it>.*)\]"), "is unknown; there are: {}"),
    (re.compile(r"(?:Expected a dot|Unexpected) import path (?P<it>\w+).*"), "is no class and no file"),
    (re.compile(r"Expected a <class '(?P<it>\w+)'>"), "is no {}"),
)


class Parser(ArgumentParser):
    """A parser with errors of one message instead of the whole usage, and exit code 2."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)  # a mistyped name is a mistake, not a prefix

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        fail(explain(message, _known_options(self), sys.argv[1:]))


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


def explain(message: str, known: Iterable[str], arguments: list[str]) -> str:
    """A parser's message with the option's whole name, the value, what is allowed, and what was meant.

    Args:
        message: of jsonargparse.
        known: names of the options that exist.
        arguments: of the command line; they tell the whole name where the message has its end only.
    """
    if match := _WRONG_VALUE.match(message):
        reason = _RESTRICTION.sub(r"\g<value> is out of range: it must be \g<rule>", match["reason"])
        if union := _UNION.search(reason):
            reason = _explain_union(union["errors"], union["value"])
        if plain := _VALUE_LAST.match(reason):
            reason = _explain_union(plain["error"], plain["value"])
        if _ABSTRACT.search(reason):
            return (
                f"--{_whole_name(match['key'], arguments)}: name its class before its options, as TextFiles"
            )
        reason = " ".join(reason.split()).replace("v>", ">").replace("v<", "<")
        return f"--{_whole_name(match['key'], arguments)}: {reason}"
    if match := _MISSING.match(message):
        verb = next(iter(arguments), "fit")
        keys = [key.strip().removeprefix(f"{verb}.") for key in match["keys"].split(",")]
        missing = ", ".join(key if key == "models" else f"--{key}" for key in keys) + " must be given"
        is_of_data = any(key.startswith("data") for key in keys)
        return missing + ("; DATA= or an experiment's file under configs/ does so" if is_of_data else "")
    if match := _UNKNOWN_ARGUMENTS.match(message) or _UNKNOWN_OPTION.match(message):
        key = match["key"].lstrip("-").split("=")[0]  # of a class, it is what follows the option's name
        owner = _whole_name(key, arguments).removesuffix(key)
        known = list(known)
        longer = [name for name in known if name.startswith(f"{key}_")]
        if close := difflib.get_close_matches(key, known, n=1) or longer:
            return f"--{owner}{key}: no such option; did you mean --{owner}{close[0]}?"
        if owner:
            return f"--{owner}{key}: no such option; --{owner[:-1]} names another class, or none before it"
        return f"--{key}: no such option; see --help"
    return " ".join(message.split())


def _explain_union(errors: str, value: str) -> str:
    """The first thing that is wrong with a value of an option that may also be left out."""
    parts = [part.strip() for part in errors.split("\n    - ") if part.strip()]
    wrong = next((part for part in parts if "NoneType" not in part), errors.strip())
    for pattern, said in _PLAIN_ERRORS:
        if match := pattern.match(wrong):
            return f"{value} {said.format(match['it'])}"
    return f"{value}: {wrong}"


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
