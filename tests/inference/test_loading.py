"""Models that are there, or are not what they were."""

from pathlib import Path

import pytest

from gpt2_lightning.errors import InputError
from gpt2_lightning.files.digests import write_sums
from gpt2_lightning.inference.loading import load_model


def test_an_altered_export_or_one_without_a_tokenizer_is_refused(run: Path):
    export = run / "export"
    write_sums(export)
    load_model(str(run), "--run")
    weights = export / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match=r"model.safetensors: was altered after it was written"):
        load_model(str(run), "--run")
    weights.write_bytes(content)
    (export / "SHA256SUMS").unlink()
    for path in export.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(InputError, match="comes with no tokenizer that can be used"):
        load_model(str(run), "--run")
