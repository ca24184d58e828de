"""Models that are there, or are not what they were."""

import shutil
from pathlib import Path

import pytest

from gpt2_lightning.__main__ import main as use
from gpt2_lightning.errors import InputError
from gpt2_lightning.files.digests import write_sums
from gpt2_lightning.inference.loading import load_model
from tests.conftest import ROOT
from tests.test_configs import TEXT, main, options, run_folder


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


def test_an_adapter_is_refused_on_a_base_that_is_gone_or_another(
    base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    place = tmp_path / "base"
    shutil.copytree(base, place)
    adapted = [
        f"--model.pretrained={place}",
        "--data.corpus.tokenizer=Pretrained",
        f"--data.corpus.tokenizer.path={place}",
        f"--model.adapter={ROOT}/configs/adapter/lora.yaml",
    ]
    text = [option for option in TEXT if "tokenizer" not in option]
    experiment = [option for option in options(tmp_path) if not option.startswith("--config")]
    assert main(*experiment, *text, *adapted, "--experiment=lora") == 0
    sample = ["generate", "--run", str(run_folder(tmp_path)), "--max_new_tokens", "2"]
    assert use(sample) == 0
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(place)
    model.transformer.ln_f.bias.data += 1
    model.save_pretrained(place)
    (Path(place) / "SHA256SUMS").unlink()
    for message in ("has other weights now", "cannot be loaded"):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            use(sample)
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
        shutil.rmtree(place, ignore_errors=True)
