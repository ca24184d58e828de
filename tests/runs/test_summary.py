"""The summary of a run."""

import json
import math
from pathlib import Path

import pytest


def test_summary_holds_numbers_that_can_be_checked(finished: Path):
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["experiment"] == "pretrain_tiny"
    assert summary["run"] == finished.name
    assert summary["status"] == "finished"
    assert (summary["steps"], summary["tokens"], summary["seed"]) == (8, 8 * 2 * 16, 0)
    assert summary["parameters_total"] == summary["parameters_trainable"] == 12 * 64 + 13 * 8 + 316 * 8 + 16
    assert summary["val_perplexity"] == pytest.approx(math.exp(summary["val_nll"]))
    assert summary["xz_bits_per_byte"] > 2
    assert (finished / summary["best_checkpoint"]).exists()
    assert (finished / summary["export"]).is_dir()
    for name in ("epochs", "train_seconds", "tokens_per_second", "peak_memory_bytes", "val_bits_per_byte"):
        assert summary[name] > 0
