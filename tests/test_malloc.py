import subprocess
import sys

import pytest

from gpt2_lightning.malloc import keep_freed_memory

FAULTS = """
import resource, sys, torch
from gpt2_lightning.malloc import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(24):
    torch.ones(64 * 2**20 // 4)  # 64 MiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc has mallopt")
def test_large_blocks_are_used_again():
    """64 MiB are 16,384 pages; glibc comes to use them again after the first few blocks."""
    faults = [
        int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, check=True).stdout)
        for how in ("keep", "give back")
    ]
    assert faults[1] - faults[0] > 12 * 16_384


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_elsewhere_nothing_happens(platform: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr("ctypes.CDLL", None)  # calling it would fail
    keep_freed_memory()
