"""A run once more, from its folder, and whether its numbers came again."""

import math
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from gpt2_lightning.errors import InputError
from gpt2_lightning.runs.folder import check_name
from gpt2_lightning.runs.run import Run, runs_of
from gpt2_lightning.runs.settings import settings_of

_COMPARED = ("train/nll", "train/grad_norm", "val/nll")
_CLOSE = 1e-3  # relative: what other versions, threads and processors change
_ENVIRONMENT = ("python", "git_commit", "cpu", "cpu_count", "torch_threads", "gpus")


def reproduce(run: str, name: str | None = None, program: str = "train.py") -> bool:
    """Repeat a run with the configuration of each of its starts, and compare what both have recorded.

    Args:
        run: its folder.
        name: of the new run's folder beside it; `<run>-again` if not given.
        program: the script that trains.

    Returns:
        Whether every number is the same, or closer than a thousandth.
    """
    found = runs_of([run])
    if len(found) > 1:
        raise InputError(f"{run}: names {len(found)} runs; give the folder of one")
    (first,) = found
    folder = first.folder
    check_name("--name", name := name or f"{folder.name}-again")
    again = folder.with_name(name)
    if again.exists():
        raise InputError(f"--name {again.name!r}: {again} exists; name another, or remove it")
    if not Path(program).is_file():
        raise InputError(f"--program {program!r}: is no file here; start where train.py lies")
    second = Run(again)
    _train_again(first, second, program)
    lines, is_close = _compared(first, second)
    print("\n".join([f"\n{folder} and {again}:", *lines, *_changed(first, second)]))
    return is_close


def _train_again(first: Run, second: Run, program: str) -> None:
    """Start the second run as the first one was, and as often with other settings, at the same steps.

    Raises:
        InputError: if it does not come to its end.
    """
    starts = groupby(first.starts, key=lambda start: settings_of(start["config"]))
    parts = [next(same) for _, same in starts]  # resumed with the same settings, it is one run
    experiment = first.folder.parent
    own = {"logs": str(experiment.parent), "experiment": experiment.name, "auto_resume": False}
    stops = [part["step"] for part in parts[1:]] + [0]
    for part, stop in zip(parts, stops, strict=True):
        config = part["config"] | own | {"run": second.folder.name, "ckpt_path": None}
        config["checkpoints"]["stop_after_step"] = stop
        if part["step"]:
            config["ckpt_path"] = str(second.checkpoints / "last.ckpt")
        with TemporaryDirectory() as folder:
            path = Path(folder) / "config.yaml"
            path.write_text(yaml.safe_dump(config), encoding="utf-8")
            if code := subprocess.run([sys.executable, program, "fit", f"--config={path}"]).returncode:
                raise InputError(f"the run ended with exit code {code}: it cannot be compared")


def _compared(first: Run, second: Run) -> tuple[list[str], bool]:
    lines, is_close = [], True
    for metric in _COMPARED:
        one, other = (
            {row["step"]: row[metric] for row in run.rows if metric in row} for run in (first, second)
        )
        common, missing = sorted(one.keys() & other.keys()), len(one.keys() ^ other.keys())
        if not common and not missing:
            continue
        apart = max((_apart(one[step], other[step]) for step in common), default=0.0)
        same = sum(_apart(one[step], other[step]) == 0.0 for step in common)
        is_close = is_close and apart < _CLOSE and not missing
        said = "the same to the last digit" if same == len(common) else f"at most {apart:.1e} apart, relative"
        lines.append(
            f"  {metric:<16} {same:,} of {len(common):,} records equal, {said}"
            + (f"; {missing:,} are of one run alone" if missing else "")
        )
    return lines or ["  nothing was recorded that can be compared"], is_close and bool(lines)


def _apart(one: float, other: float) -> float:
    """Relative difference; none between two that are no number, and no end to it where only one is."""
    if one == other or (math.isnan(one) and math.isnan(other)):
        return 0.0
    apart = abs(one - other) / max(abs(one), 1e-12)
    return apart if math.isfinite(apart) else math.inf


def _changed(first: Run, second: Run) -> list[str]:
    """What the runs depend on besides their configuration, and is not the same."""
    one, other = (
        {name: run.environment.get(name) for name in _ENVIRONMENT} | run.environment.get("packages", {})
        for run in (first, second)
    )
    changed = [
        f"{name} {one.get(name)} → {other.get(name)}"
        for name in dict.fromkeys((*one, *other))
        if one.get(name) != other.get(name)
    ]
    return [f"  changed since: {'; '.join(changed)}"] if changed else []
