"""Faults that a run must survive: fault, tries, survived, lost.

`python benchmarks/drills [--kills 200]` trains a tiny GPT-2 on text of its own making, with dropout,
accumulation, validations and samples, and compares what each fault leaves with a run that had none: the
last checkpoint's tensors, metrics.csv (but for the clock) and samples.jsonl, bit for bit. Every try is a
process of its own, forked from one that has imported everything.
"""

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path

from harness import SHORT, Drills
from kills import kills, random_kills, ranks, stops
from surroundings import (
    clock,
    damage,
    disks,
    memory,
    mismatches,
    names,
    not_a_number,
    weights_and_biases,
)


def main(tries: int, only: str | None) -> int:
    """Print the table; returns 1 if anything was lost."""
    with tempfile.TemporaryDirectory() as name:
        drills = Drills(Path(name))
        expected = drills.whole(drills.folder / "first", SHORT)
        assert expected["status"] == "finished"
        parts = {
            "kills": lambda: kills(drills, expected),
            "stops": lambda: stops(drills, expected),
            "ranks": lambda: ranks(drills),
            "disks": lambda: disks(drills, expected),
            "damage": lambda: damage(drills, 200),
            "memory": lambda: memory(drills),
            "not_a_number": lambda: not_a_number(drills, expected),
            "mismatches": lambda: mismatches(drills, expected),
            "names": lambda: names(drills),
            "clock": lambda: clock(drills, expected),
            "weights_and_biases": lambda: weights_and_biases(drills, expected),
            "random_kills": lambda: random_kills(drills, tries),
        }
        if only is not None and only not in parts:
            sys.exit(f"--only {only}: there are: {', '.join(parts)}")
        print("| Fault | Tries | Survived | Lost |\n|---|---:|---:|---:|", flush=True)
        for part, run in parts.items():
            if only in (None, part):
                run()
    return int(any(count != survived for _, count, survived in drills.rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="random ones")
    parser.add_argument("--only", help="one part of the table")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main(options.kills, options.only))
