"""Mistakes in options and configuration files, said in one short message."""

import difflib
import re
import sys
from argparse import ArgumentError
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ArgumentParser

from gpt2_lightning.commandline.phrase_book import VALUES, WORDS, option_for
from gpt2_lightning.files.yaml_file import read_mapping

_WRONG_VALUE = re.compile(r'Parser key "(?P<key>[^"]*)":\s*')
_UNKNOWN = re.compile(r"(?:unrecognized arguments:|.*[Oo]ption) ['-]*(?P<key>[^\s'=]+)")
_MISSING = re.compile(r"the following arguments are required: (?P<keys>.*)")
_CHOICES = re.compile(r"Expected a typing\.Literal\[(.*?)\](?=$|\. Got)", re.MULTILINE)
_VALUE = re.compile(r"(?:Got|Given) value: (.*)")
_PLAIN = (  # what is wrong with a value, and how it is said
    (r"(.*) does not conform to restriction (.*)", "{0} is out of range: it must be {1}"),
    (r"invalid literal for (\w+)\(\).*: '(.*)'", "{1} is not of type {0}"),
    (r"could not convert string to (\w+): '(.*)'", "{1} is not of type {0}"),
    (r"Expected a <class '(\w+)'>\. Got value: (.*)", "{1} is not of type {0}"),
    (r"Expected a dot import path string: (.*)", "{0} is no class and no file"),
    (r"Unexpected import path format: (.*)", "{0} is no class and no file"),
    (r"(module '.*' has no attribute '.*'|No module named '.*')", "is no class and no file: {0}"),
    (r"Expected an instantiatable class, .*", "name its class before its options, as TextFiles"),
)


class Parser(ArgumentParser):
    """A parser with errors of one message instead of the whole usage, and exit code 2."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)  # a mistyped name is a mistake, not a prefix

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error:  # of a class that an option names: the option's parser says it
            raise _ClassError(message, self) from ex
        fail(_explain(message, ex, self))


class _ClassError(ArgumentError):
    """A mistake in the options of a class, with its parser."""

    def __init__(self, message: str, parser: Parser) -> None:
        super().__init__(None, message)
        self.parser = parser


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


def _explain(message: str, error: BaseException | None, parser: Parser) -> str:
    """A parser's message with the option's whole name, the value, what is allowed, and what was meant."""
    owner, reason = "", message  # the last cause is about the value alone
    while error := error and error.__cause__:
        reason = str(error)
        if isinstance(error, _ClassError) and (match := _WRONG_VALUE.search(message)):
            owner, message, parser = f"{owner}{match['key']}.", reason, error.parser
    if match := _WRONG_VALUE.match(message):
        name, given = f"{owner}{match['key']}", (_VALUE.findall(message) or [""])[-1].strip("'\"")
        if here := VALUES.get(name, {}).get(given):
            return f"--{name}: {given} is unknown; here it is {here}"
        return f"--{name}: {_plain(reason, message)}"
    if match := _MISSING.match(message):
        return _missing(owner, match["keys"].split(", "), parser)
    if match := _UNKNOWN.match(message):
        return f"--{owner}{match['key']}: no such option; {_meant(owner, match['key'], parser)}"
    return " ".join(message.split())


def _plain(reason: str, message: str) -> str:
    """What is wrong with a value; the first of the reasons where its option may be of several types."""
    if choices := _CHOICES.findall(message):
        return f"{_VALUE.findall(message)[-1]} is unknown; there are: {', '.join(choices)}"
    reason = " ".join(_WRONG_VALUE.sub("", reason).split())
    for pattern, said in _PLAIN:
        if match := re.fullmatch(pattern, reason):
            return said.format(*match.groups()).replace("v>", ">").replace("v<", "<")
    return reason


def _missing(owner: str, keys: list[str], parser: Parser) -> str:
    keys = [key.partition(".")[2] if key.partition(".")[0] in _verbs(parser) else key for key in keys]
    names = [f"--{owner}{key}" if key in _options(parser) else key for key in keys]
    is_of_data = any(name in ("--data.corpus.source", "--data.source") for name in names)
    remedy = "; DATA= or an experiment's file under configs/ does so" if is_of_data else ""
    return f"{', '.join(names)} must be given{remedy}"


def _meant(owner: str, key: str, parser: Parser) -> str:
    """The option that was meant: by the word that others have for it, by its last word, or by its letters."""
    known = _options(parser)
    option = option_for(key, [*known, *([owner.split(".")[0]] if owner else [])])
    if option and option != f"{owner}{key}":
        return f"here it is --{option}"
    section, _, word = key.rpartition(".")
    beside = [name for name in known if name.rpartition(".")[0] == section]
    longer = [name for name in beside if name.startswith(f"{key}_")]
    last_words = {name.rpartition(".")[2]: name for name in reversed(known)}
    elsewhere = [last_words[each] for each in _close(word, last_words)]
    if found := _close(key, beside, cutoff=0.6) or longer or elsewhere or _close(key, known):
        return f"did you mean --{owner}{found[0]}?"
    if option := next((option_for(each, known) for each in _close(word, WORDS)), None):
        return f"did you mean --{option}?"
    return f"--{owner[:-1]} names another class, or none before it" if owner else "see docs/options.md"


def _close(word: str, words: Iterable[str], cutoff: float = 0.8) -> list[str]:
    return difflib.get_close_matches(word, list(words), n=1, cutoff=cutoff)


def _options(parser: Any) -> list[str]:
    """Names of the options of a parser and of its verbs; a positional argument is none."""
    parsers = [parser, *_verbs(parser).values()]
    return [name.lstrip("-") for each in parsers for name in each._option_string_actions]


def _verbs(parser: Any) -> dict[str, Any]:
    return next((action.choices for action in parser._actions if isinstance(action.choices, dict)), {})
