"""Files of a JSON object a line, each with the optimizer step that it belongs to."""

import json
from pathlib import Path
from typing import Any

from gpt2_lightning.files.whole import replacing


def take_back(path: Path, step: int) -> list[dict[str, Any]]:
    """Remove what was written past `step`, and what a kill has cut; returns the rest.

    Args:
        path: of the file, which need not be there.
        step: optimizer steps done.
    """
    if not path.exists():
        return []
    *lines, _ = path.read_bytes().split(b"\n")  # after the last line's end is nothing, or half a line
    kept = [(row, line) for row, line in ((json.loads(line), line) for line in lines) if row["step"] <= step]
    with replacing(path, "wb") as file:
        file.writelines(line + b"\n" for _, line in kept)
    return [row for row, _ in kept]
