import os
import pickle
import random
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt2_lightning.callbacks.checkpoint_io import SafeCheckpointIO, copy, newest_whole, read
from gpt2_lightning.errors import InputError

CONTENT = {"state_dict": {"weight": torch.arange(20_000.0)}, "global_step": 3}


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def save(path: Path, step: int = 3) -> None:
    SafeCheckpointIO().save_checkpoint(CONTENT | {"global_step": step}, path)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_is_written_is_read_and_nothing_else_is_left(tmp_path: Path):
    save(tmp_path / "last.ckpt", 1)
    save(tmp_path / "last.ckpt", 2)
    content = SafeCheckpointIO().load_checkpoint(tmp_path / "last.ckpt")
    assert content["global_step"] == 2
    assert torch.equal(content["state_dict"]["weight"], torch.arange(20_000.0))
    assert names(tmp_path) == {"last.ckpt", "last.ckpt.sha256"}


def test_every_flipped_bit_is_found(tmp_path: Path):
    path = tmp_path / "last.ckpt"
    save(path)
    whole, flips = path.read_bytes(), random.Random(0)
    for _ in range(100):
        place, bit = flips.randrange(len(whole)), flips.randrange(8)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :])
        with pytest.raises(InputError, match=r"last.ckpt: is damaged: its SHA-256"):
            read(path)


@pytest.mark.parametrize("length", [0, 1, 1000, 79_000])
def test_a_file_cut_short_is_found_even_without_a_checksum(tmp_path: Path, length: int):
    path = tmp_path / "last.ckpt"
    save(path)
    path.write_bytes(path.read_bytes()[:length])
    (tmp_path / "last.ckpt.sha256").unlink()
    with pytest.raises(InputError, match=r"last.ckpt: is damaged, or no checkpoint"):
        read(path)


def test_whichever_file_a_kill_leaves_has_its_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The process ends right before, and right after, the new file takes the old one's place."""
    path = tmp_path / "last.ckpt"
    replace = Path.replace

    def stop(at: str) -> None:
        def replacing(self: Path, target: Path) -> Path:
            if target == path and at == "before":
                raise KeyboardInterrupt
            done = replace(self, target)
            if target == path:
                raise KeyboardInterrupt
            return done

        monkeypatch.setattr(Path, "replace", replacing)

    for at, expected in (("before", 1), ("after", 2)):
        monkeypatch.setattr(Path, "replace", replace)
        save(path, 1)
        stop(at)
        with pytest.raises(KeyboardInterrupt):
            save(path, 2)
        assert read(path)["global_step"] == expected


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "last.ckpt"
    save(path, 1)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10_000}))
    with pytest.raises(InputError, match=r"has no room for a checkpoint of 0 MB, 0 MB are free"):
        save(path, 2)
    assert read(path)["global_step"] == 1


def test_a_write_that_fails_in_the_middle_keeps_the_checkpoint_before(tmp_path: Path):
    path = tmp_path / "last.ckpt"
    save(path, 1)
    handler, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))
    try:
        with pytest.raises(
            InputError, match=r"last.ckpt: cannot be written: .*; the checkpoint before it is whole"
        ):
            save(path, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert read(path)["global_step"] == 1
    assert names(tmp_path) == {"last.ckpt", "last.ckpt.sha256"}


def test_what_would_run_code_is_refused(tmp_path: Path):
    canary, path = tmp_path / "canary", tmp_path / "last.ckpt"
    torch.save(CONTENT | {"evil": Malicious(f"touch {canary}")}, path)
    with pytest.raises(InputError, match="holds more than numbers and plain types: it is refused"):
        read(path)
    path.write_bytes(pickle.dumps(Malicious(f"touch {canary}"), protocol=2))
    with pytest.raises(InputError):
        read(path)
    assert not canary.exists()


def test_another_file_of_torch_is_no_checkpoint(tmp_path: Path):
    torch.save([1, 2], tmp_path / "a.ckpt")
    with pytest.raises(InputError, match="is no checkpoint of a run"):
        read(tmp_path / "a.ckpt")


def test_a_copy_is_whole_by_itself(tmp_path: Path):
    save(tmp_path / "last.ckpt", 5)
    copy(tmp_path / "last.ckpt", tmp_path / "best.ckpt")
    (tmp_path / "last.ckpt").write_bytes(b"")
    assert read(tmp_path / "best.ckpt")["global_step"] == 5
    assert len(names(tmp_path)) == 4


def test_the_newest_whole_one_is_taken_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    save(tmp_path / "best.ckpt", 1)
    save(tmp_path / "last.ckpt", 2)
    assert newest_whole(tmp_path).name == "last.ckpt"
    assert capsys.readouterr().out == ""
    (tmp_path / "last.ckpt").write_bytes(b"broken")
    assert newest_whole(tmp_path).name == "best.ckpt"
    assert "last.ckpt: is damaged" in (out := capsys.readouterr().out) and "goes on from best.ckpt" in out  # noqa: PT018
    (tmp_path / "best.ckpt").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"last.ckpt: is damaged.*best.ckpt: is damaged"):
        newest_whole(tmp_path)
