"""A run's folder `logs/<experiment>/<run>/` is made; and what a run depends on besides its configuration."""

import os
import platform
import re
import subprocess
import sys
from datetime import datetime
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from gpt2_lightning.errors import InputError
from gpt2_lightning.runs.secret_options import masked

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


def environment() -> dict[str, Any]:
    """What a run depends on besides its configuration: versions, code, hardware."""
    import torch

    from gpt2_lightning.machine.hardware import cpu_description

    return {
        "python": sys.version,
        "platform": platform.platform(),
        "packages": _packages(),
        "git_commit": git("rev-parse", "HEAD"),
        "git_diff": masked(git("diff", "HEAD") or "") or None,
        "cpu": cpu_description(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def _packages() -> dict[str, str]:
    """Version of each distribution that Python finds; its file of metadata is read once."""
    found = [distribution.metadata for distribution in distributions()]
    return dict(sorted((package["Name"], package["Version"]) for package in found if package["Name"]))


@cache
def git(*arguments: str) -> str | None:
    """What git printed, when first asked, for the repository around this package; `None` without one."""
    try:
        result = subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
