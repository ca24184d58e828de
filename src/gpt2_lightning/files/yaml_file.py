"""YAML files that users write."""

from pathlib import Path
from typing import Any

import yaml

from gpt2_lightning.errors import InputError


def read_mapping(path: Path, wanted: str) -> dict[str, Any]:
    """The fields of a file.

    Args:
        path: of the file.
        wanted: what it should be, for the message where it has no fields.

    Raises:
        InputError: naming the file, and the line where YAML ends.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise InputError(f"{path}: cannot be read: {reason}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise InputError(f"{path}{line}: is no YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: is no {wanted}")
    return content
