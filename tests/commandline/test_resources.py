"""When memory or the disk is full."""

import errno
import threading
from pathlib import Path
from unittest import mock

import pytest

from gpt2_lightning.commandline.resources import quiet_writers
from tests.commandline.conftest import NAMED, quiet_fit, refusal
from tests.test_configs import run_folder


def test_when_memory_is_over_the_remedy_keeps_the_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def over(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory")

    with mock.patch("gpt2_lightning.model.module.GPT2Module.training_step", over):
        line = refusal(capsys, tmp_path, "--data.micro_batch_size=6")
    assert "--data.micro_batch_size 3 --trainer.accumulate_grad_batches 2 takes less" in line


def test_a_full_disk_is_said_and_the_run_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Whatever was being written, by whichever library."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    assert quiet_fit(tmp_path, *NAMED, "--trainer.max_steps=2") == 0
    folder = run_folder(tmp_path)
    with mock.patch("gpt2_lightning.model.module.GPT2Module.training_step", full):
        line = refusal(capsys, tmp_path, *NAMED, "--trainer.max_steps=4")
    assert line == (
        f"error: {folder}: cannot be written: the disk is full; make room, and go on with "
        f"make resume RUN={folder}"
    )
    assert quiet_fit(tmp_path, *NAMED, "--trainer.max_steps=4") == 0


def test_a_thread_that_finds_the_disk_full_leaves_the_word_to_the_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def write(number: int) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(threading, "excepthook", threading.excepthook)  # so that it is put back
    quiet_writers()
    for number, is_said in ((errno.ENOSPC, False), (errno.EIO, True)):
        thread = threading.Thread(target=write, args=[number])
        thread.start()
        thread.join()
        assert ("OSError" in capsys.readouterr().err) == is_said
