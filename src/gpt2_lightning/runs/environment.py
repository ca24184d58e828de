"""What a run depends on besides its configuration: versions, code, hardware."""

import os
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from gpt2_lightning.runs.secret_options import masked


def environment() -> dict[str, Any]:
    """The content of `environment.json`."""
    import torch

    from gpt2_lightning.machine.hardware import cpu_description

    return {
        "python": sys.version,
        "platform": platform.platform(),
        "packages": _packages(),
        "git_commit": git("rev-parse", "HEAD"),
        "git_diff": None if (diff := git("diff", "HEAD")) is None else masked(diff),  # unknown, or empty
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
            encoding="utf-8",
            errors="replace",  # a diff may hold any bytes
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
