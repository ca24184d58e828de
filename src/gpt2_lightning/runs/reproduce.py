"""A run once more, from its folder, and whether its numbers came again."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from gpt2_lightning.errors import InputError
from gpt2_lightning.runs.history import History, matching, read_history

_COMPARED = ("train/nll", "train/grad_norm", "val/nll")
_CLOSE = 1e-3  # relative: what other versions, threads and processors change
_ENVIRONMENT = ("python", "packages", "git_commit", "cpu_count", "torch_threads", "gpus")


def reproduce(run: str, name: str | None = None, program: str = "train.py") -> bool:
    """Repeat a run with the configuration in its folder, and compare what both have recorded.

    Args:
        run: its folder.
        name: of the new run's folder beside it; `<run>-again` if not given.
        program: the script that trains.

    Returns:
        Whether every number is the same, or closer than a thousandth.
    """
    (folder,) = matching([run])
    first = read_history(folder)
    again = folder.with_name(name or f"{folder.name}-again")
    if again.exists():
        raise InputError(f"--name {again.name!r}: {again} exists; name another, or remove it")
    if not Path(program).is_file():
        raise InputError(f"--program {program!r}: is no file here; start where train.py lies")
    options = [f"--config={folder / 'config.yaml'}", f"--logs={folder.parent.parent}", "--auto_resume=false"]
    options += [f"--experiment={folder.parent.name}", f"--run={again.name}", "--ckpt_path=null"]
    if code := subprocess.run([sys.executable, program, "fit", *options]).returncode:
        raise InputError(f"the run ended with exit code {code}: it cannot be compared")
    second = read_history(again)
    lines, is_close = _compared(first, second)
    print("\n".join([f"\n{folder} and {again}:", *lines, *_changed(folder, again)]))
    return is_close


def _compared(first: History, second: History) -> tuple[list[str], bool]:
    lines, is_close = [], True
    for metric in _COMPARED:
        one, other = (
            dict(zip(each["step"].tolist(), each["value"].tolist(), strict=True))
            for each in (first.series(metric), second.series(metric))
        )
        common = sorted(one.keys() & other.keys())
        if not common:
            continue
        apart = max(abs(one[step] - other[step]) / max(abs(one[step]), 1e-12) for step in common)
        same = sum(one[step] == other[step] for step in common)
        missing = len(one.keys() ^ other.keys())
        is_close = is_close and apart < _CLOSE and not missing
        said = "the same to the last digit" if same == len(common) else f"at most {apart:.1e} apart, relative"
        lines.append(
            f"  {metric:<16} {same:,} of {len(common):,} records equal, {said}"
            + (f"; {missing:,} are of one run alone" if missing else "")
        )
    return lines or ["  nothing was recorded that can be compared"], is_close and bool(lines)


def _changed(first: Path, second: Path) -> list[str]:
    """What the runs depend on besides their configuration, and is not the same."""
    one, other = (_environment(folder) for folder in (first, second))
    changed = []
    for name in _ENVIRONMENT:
        if name == "packages":
            before, after = one.get(name, {}), other.get(name, {})
            changed += [
                f"{each} {before.get(each)} → {after.get(each)}"
                for each in sorted(before.keys() | after.keys())
                if before.get(each) != after.get(each)
            ]
        elif one.get(name) != other.get(name):
            changed.append(f"{name} {one.get(name)} → {other.get(name)}")
    return [f"  changed since: {'; '.join(changed)}"] if changed else []


def _environment(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
