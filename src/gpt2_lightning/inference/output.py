"""Files that a command writes for its user."""

import json
from pathlib import Path
from typing import Any, Literal, TextIO

from gpt2_lightning.errors import InputError


def opened(output: str, mode: Literal["w", "a"] = "w") -> TextIO:
    """The file of `--output`.

    Raises:
        InputError: if it cannot be written.
    """
    try:
        return Path(output).open(mode, encoding="utf-8")
    except OSError as error:
        raise InputError(f"--output {output!r}: cannot be written: {error.strerror}") from None


def check_writable(output: str | None) -> None:
    """Find out before the work is done; nothing is changed in a file that is there.

    Raises:
        InputError: if it cannot be written.
    """
    if output is not None:
        opened(output, "a").close()


def write_figures(output: str | None, results: list[dict[str, Any]]) -> None:
    """Write figures as JSON, if a file is wanted."""
    if output is not None:
        with opened(output) as file:
            file.write(json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
