import subprocess
import sys
from pathlib import Path

import pytest

from gpt2_lightning.machine.malloc import keep_freed_memory

FAULTS = """
import resource, sys, torch
from gpt2_lightning.machine.malloc import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(24):
    torch.ones(64 * 2**20 // 4)  # 64 MiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc has mallopt")
@pytest.mark.skipif(
    HUGE_PAGES.exists() and "[always]" in HUGE_PAGES.read_text(),
    reason="huge pages leave few faults to count",
)
def test_large_blocks_are_used_again():
    """glibc comes to use them again after the first few of the 24."""
    faults = [
        int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, check=True).stdout)
        for how in ("keep", "give back")
    ]
    resource = pytest.importorskip("resource")
    pages_of_a_block = 64 * 2**20 // resource.getpagesize()
    assert faults[1] - faults[0] > 12 * pages_of_a_block


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_elsewhere_nothing_happens(platform: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr("ctypes.CDLL", None)  # calling it would fail
    keep_freed_memory()
