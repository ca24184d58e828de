import math

import yaml

from gpt2_lightning.runs.base import Base
from gpt2_lightning.runs.run import Run
from tests.runs.conftest import Write


def test_what_a_run_starts_from(write_run: Write):
    run = Run(write_run(val_nll=2.0, val_bits_per_byte=1.25))
    config = run.config | {"data": {"corpus": {"source": {"class_path": "a.b.PythonDocs"}}}}
    (run.folder / "config.yaml").write_text(yaml.safe_dump(config))
    run.export.mkdir()
    base = Base.of(str(run.export))
    assert base is not None
    assert str(base) == f"{run.folder} (PythonDocs, 1.25 bits/byte)"
    assert base.bytes_per_token == 2.0 / (1.25 * math.log(2))
    assert Base.of(None) is None
    assert str(Base.of("openai-community/gpt2")) == "openai-community/gpt2"


def test_a_tokenizer_that_fits_badly_is_warned_about():
    base = Base("logs/pretrain_tiny/1", "PythonDocs", 1.9, bytes_per_token=3.4)
    assert "fits this text badly: 1.12 bytes a token, and 3.40 on its own" in str(base.misfit(1.12))
    assert base.misfit(3.0) is None
    assert base.misfit(None) is None
    assert Base("gpt2").misfit(1.0) is None
