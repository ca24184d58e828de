"""What a run would do, short of training."""

import json
import re
from pathlib import Path

import pytest

from tests.test_configs import TEXT, TOY, main, options


def test_preflight_shows_counts_and_a_decoded_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    records = [{"prompt": f"{i} and {i} is ", "response": f"{2 * i}"} for i in range(40)]
    (tmp_path / "a.json").write_text(json.dumps(records))
    source = [
        "--data.corpus.source=JSONFiles",
        f"--data.corpus.source.paths={tmp_path / 'a.json'}",
        "--data.corpus.source.template=prompt_response",
        "--data.corpus.tokenizer=Bytes",
        "--data.rows=documents",
        "--data.block_size=64",
        "--model.architecture.n_positions=64",
    ]
    text = [option for option in TEXT if "corpus" not in option]
    assert main("preflight", *options(tmp_path)[1:], *text, *TOY, *source) == 0
    out = capsys.readouterr().out
    assert "257 entries in the vocabulary" in out
    assert "input_ids (2, 64), targets (2, 64), position_ids (2, 64)" in out
    assert re.search(
        r"document 1, masked +0-\d+ +'\d+ and \d+ is '\n +document 1, learned +\d+-\d+ +'\d+<", out
    )
    assert "filled up" in out
    assert "time     unknown: the run has fewer than three steps" in out, "it has one"
    assert not (tmp_path / "logs").exists()


def test_preflight_tells_time_and_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    two_layers = ["--model.architecture.n_layer=2", "--trainer.precision=32-true"]
    longer = [
        "--trainer.max_steps=7200",
        "--trainer.accumulate_grad_batches=2",
        "--trainer.val_check_interval=4",
    ]
    assert main("preflight", *options(tmp_path)[1:], *TEXT, *TOY, *two_layers, *longer) == 0
    out = capsys.readouterr().out
    found = re.search(r"time     about ([0-9:]+) here: ([0-9.]+) s a step \(data [0-9]+%, forward", out)
    assert found is not None, out
    assert "with --model.architecture.n_layer 1 about" in out
    assert re.search(r"memory   [0-9.]+ GiB at its peak", out)
    assert not (tmp_path / "logs").exists()
