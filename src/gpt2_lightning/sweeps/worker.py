"""A worker of a sweep, as a process of its own: `python -m gpt2_lightning.sweeps.worker`."""

import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from gpt2_lightning.errors import InputError
from gpt2_lightning.sweeps.definition import read
from gpt2_lightning.sweeps.study import Settings, open_study
from gpt2_lightning.sweeps.trial import TrialRunner, work

_VARIABLE = "GPT2_LIGHTNING_WORKER"  # not the command line, which others see: an address may have a password


@dataclass(frozen=True)
class Job:
    """What a worker is told.

    Attributes:
        sweep: the sweep's file.
        folder: of the sweep.
        settings: of its study, as a dictionary.
        number: of the worker.
        until: seconds since the epoch; no trial is begun after it.
        environment: of its runs.
    """

    sweep: str
    folder: str
    settings: dict[str, object]
    number: int
    until: float
    environment: dict[str, str]

    def variable(self) -> dict[str, str]:
        """What passes it on."""
        return {_VARIABLE: json.dumps(asdict(self))}


def main() -> int:
    """Take trials of the sweep until there are none; the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    job = Job(**json.loads(os.environ.pop(_VARIABLE)))
    settings = Settings(**job.settings)  # pyright: ignore[reportArgumentType]
    parent = os.getppid()
    try:
        sweep = read(Path(job.sweep))
        folder = Path(job.folder)
        queue = FileLock(folder / "queue.lock")
        runner = TrialRunner(sweep, settings, folder, parent, job.environment, queue)
        work(open_study(sweep, settings, job.number), runner, job.until)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
