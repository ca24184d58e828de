"""Whether anybody reads what is printed decides nothing."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpt2_lightning.commandline.output import LastingStream
from tests.conftest import ROOT
from tests.test_configs import TEXT, TOY, options, run_folder


def test_a_stream_that_nobody_reads_goes_on_nowhere():
    reading, writing = os.pipe()
    os.close(reading)
    with io.TextIOWrapper(io.FileIO(writing, "w"), write_through=True) as pipe:  # pyright: ignore
        stream = LastingStream(pipe)
        assert stream.write("one\n") == 4
        assert not stream.is_read
        assert stream.write("two\n") == 4
        stream.flush()
    assert LastingStream(None).write("three") == 5


def test_what_an_encoding_lacks_is_escaped():
    content = io.BytesIO()
    stream = LastingStream(io.TextIOWrapper(content, encoding="ascii", write_through=True))
    stream.write("a人\n")
    assert content.getvalue() == b"a\\u4eba\n"
    assert stream.encoding == "ascii"


@pytest.mark.parametrize("end", ["a pipe without a reader", "closed", "ascii"])
def test_a_run_whose_output_nobody_can_read_trains_to_its_end(tmp_path: Path, end: str):
    command = [sys.executable, str(ROOT / "train.py"), *options(tmp_path), *TEXT, *TOY]
    command += ["--samples.prompts=['人工智能']", "--trainer.max_steps=3", "--trainer.log_every_n_steps=1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    if end == "ascii":
        environment |= {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    reading, writing = os.pipe()
    if end != "ascii":
        os.close(reading)
    code = subprocess.run(
        command if end != "closed" else ["sh", "-c", 'exec "$@" >&-', "sh", *command],
        stdout=writing,
        stderr=subprocess.PIPE,
        env=environment,
    )
    os.close(writing)
    assert code.returncode == 0, code.stderr
    assert json.loads((run_folder(tmp_path) / "summary.json").read_text())["status"] == "finished"
