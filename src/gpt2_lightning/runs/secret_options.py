"""Refuses secrets among the options, which runs keep in many places."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from jsonargparse import Namespace

from gpt2_lightning.errors import InputError
from gpt2_lightning.runs.settings import leaves

_NAME = re.compile(
    r"(?!(?:bos|eos|pad|unk|sep|cls|mask)_)(?:.*[_-])?(?:api[_-]?key|(?:access|secret|private)[_-]?key|token|secret"
    r"|password|passwd|passphrase|credentials?)",
    re.IGNORECASE,
)
_VALUE = re.compile(
    r"\bhf_\w{30,}|\bwandb_v\d_\w{30,}|\bgh[oprsu]_\w{30,}|\bgithub_pat_\w{30,}|\bsk-[\w-]{30,}"
    r"|\bAKIA[0-9A-Z]{16}\b|\w+://[^/\s:@]+:[^/\s@]+@"
)


def is_secret_name(name: str) -> bool:
    """Whether an option of that name would hold a secret."""
    return bool(_NAME.fullmatch(name))


def masked(text: str) -> str:
    """A text with stars in the place of what looks like a secret."""
    return _VALUE.sub("***", text)


def check_arguments(arguments: Iterable[str]) -> None:
    """Refuse a command line with a secret, before anything of it is parsed, printed or kept.

    Raises:
        InputError: naming the option, never the value.
    """
    for argument in arguments:
        option, _, value = argument.partition("=")
        if option.startswith("--") and is_secret_name(option.rpartition(".")[2].lstrip("-")):
            raise _refusal(option)
        if _VALUE.search(argument):
            raise _refusal(option if value and option.startswith("--") else "an option's value")


def check_config(config: Namespace) -> None:
    """Refuse a configuration with a secret, which may have come from a file.

    Raises:
        InputError: naming the option, never the value.
    """
    for name, value in _strings(config.as_dict()):
        if value and (is_secret_name(name.rpartition(".")[2]) or _VALUE.search(value)):
            raise _refusal(f"--{name}")


def _refusal(option: str) -> InputError:
    return InputError(
        f"{option} looks like a secret, and a run's options are kept in its folder and shown by its loggers: "
        "give it in the environment instead, HF_TOKEN for the Hugging Face hub, WANDB_API_KEY for W&B"
    )


def _strings(config: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """The texts of a configuration, those in lists too, each under the name of its option."""
    for option, value in leaves(config, name):
        if isinstance(value, list | tuple):
            for part in value:
                yield from _strings(part, option)
        elif isinstance(value, str):
            yield option, value
