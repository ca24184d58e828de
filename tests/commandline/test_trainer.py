"""The verbs that do not train."""

import shutil
from pathlib import Path

import pytest

from gpt2_lightning.__main__ import main as use
from tests.commandline.conftest import fit
from tests.conftest import ROOT
from tests.test_configs import TEXT, TOY, main, options, run_folder


def test_preflight_builds_the_store_ahead_of_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main("preflight", *options(tmp_path)[1:], *TEXT, *TOY, "--measure=false") == 0
    assert "TextFiles" in (out := capsys.readouterr().out)
    assert "time " not in out
    assert fit(tmp_path) == 0
    assert "Reading and tokenizing" not in capsys.readouterr().out


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


def test_export_overwrites_no_foreign_folder(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    run = ["export", f"--config={finished}/config.yaml", f"--ckpt_path={finished}/checkpoints/best.ckpt"]
    with pytest.raises(SystemExit) as stop:
        main(*run, f"--folder={tmp_path / 'mine'}")
    assert stop.value.code == 2
    assert "is no earlier export" in capsys.readouterr().err
    assert (tmp_path / "mine" / "thesis.txt").exists()
    for _ in range(2):  # an earlier export is replaced
        assert main(*run, f"--folder={tmp_path / 'new'}") == 0
