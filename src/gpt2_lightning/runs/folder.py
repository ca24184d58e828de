"""Where a run's folder `logs/<experiment>/<run>/` lies, and how it is made."""

import re
from datetime import datetime
from pathlib import Path

from gpt2_lightning.errors import InputError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def path_of(logs: Path, experiment: str, run: str) -> Path:
    """Where the run of a name has its folder.

    Raises:
        InputError: if `experiment` or `run` is no plain name.
    """
    check_name("--experiment", experiment)
    check_name("--run", run)
    return logs / experiment / run


def check_name(option: str, name: str) -> None:
    """Refuse what is no plain name of a folder.

    Raises:
        InputError: naming the option.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{option} {name!r}: use letters, digits, '.', '_' and '-', at most 100, the first a letter "
            "or digit"
        )


def create(logs: Path, experiment: str, run: str | None = None) -> Path:
    """A new, empty run folder, named by the time if by nothing else; two of one second get different ones.

    Raises:
        InputError: if a name is no plain one, the run exists, or the folder cannot be written.
    """
    name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S") if run is None else run
    folder, number = path_of(logs, experiment, name), 1
    while True:
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            if run is not None:
                raise InputError(
                    f"--run {run!r}: {folder} exists; continue it with make resume RUN={folder}, or say "
                    "--auto_resume true"
                ) from None
            number += 1
            folder = folder.with_name(f"{name}-{number}")
        except OSError as error:
            raise InputError(f"--logs {str(logs)!r}: cannot be written ({error.strerror})") from None
