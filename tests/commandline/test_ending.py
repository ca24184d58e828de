"""What follows a run: the export, the summary and the next commands."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gpt2_lightning.__main__ import main as use
from tests.commandline.conftest import fit
from tests.conftest import ROOT
from tests.test_configs import TEXT, main, options, run_folder


def test_the_export_is_the_best_model_and_plain_transformers_loads_it(finished: Path):
    code = f"""
import json, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained({str(finished / "export")!r})
tokenizer = AutoTokenizer.from_pretrained({str(finished / "export")!r})
text = "bread 人"
ids = tokenizer(text, return_tensors="pt")["input_ids"]
assert tokenizer.decode(ids[0]) == text, tokenizer.decode(ids[0])
logits = model(ids).logits.sum().item()
print(json.dumps(dict(vocabulary=len(tokenizer), context=model.config.n_positions, logits=logits)))
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    loaded = json.loads(printed.splitlines()[-1])
    best = torch.load(finished / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert (loaded["vocabulary"], loaded["context"]) == (300, 16)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(finished / "export")
    for name, value in model.state_dict().items():
        assert torch.equal(value, best[f"model.{name}"])
    ids = AutoTokenizer.from_pretrained(finished / "export")("bread 人", return_tensors="pt")
    assert model(ids["input_ids"]).logits.sum().item() == pytest.approx(loaded["logits"], rel=1e-4)


def test_the_table_and_the_next_commands_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert fit(tmp_path) == 0
    out = capsys.readouterr().out
    for text in ("steps", "tokens/s", "validation NLL", "perplexity", "bits per byte", "xz -9e on the same"):
        assert text in out
    assert f'make sample RUN={run_folder(tmp_path)} PROMPT="' in out
    assert "make tensorboard" in out


def test_a_run_without_validation_exports_its_last_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert fit(tmp_path, "--trainer.limit_val_batches=0", "--trainer.max_steps=3") == 0
    folder = run_folder(tmp_path)
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["steps"], summary["val_nll"], summary["best_checkpoint"]) == (3, None, None)
    assert (folder / "export" / "model.safetensors").exists()
    assert "perplexity" not in capsys.readouterr().out


def test_an_adapter_run_exports_its_adapter_and_merges_on_demand(
    base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM

    adapted = [
        f"--model.pretrained={base}",
        "--data.corpus.tokenizer=Pretrained",
        f"--data.corpus.tokenizer.path={base}",
        f"--model.adapter={ROOT}/configs/adapter/lora.yaml",
        "--model.adapter.lora_dropout=0.0",
    ]
    text = [option for option in TEXT if "tokenizer" not in option]
    experiment = [option for option in options(tmp_path) if not option.startswith("--config")]
    assert main(*experiment, *text, *adapted, "--trainer.max_steps=3", "--experiment=lora") == 0
    folder = run_folder(tmp_path)
    adapter = AutoPeftModelForCausalLM.from_pretrained(folder / "export").eval()
    card = (folder / "export" / "README.md").read_text()
    assert "`Pretrained`" not in card
    assert "through LoraConfig" in card
    assert "base_model" not in card, "what the hub would look for is a folder of this machine"
    assert str(Path(base).parent) not in card
    assert (folder / "checkpoints" / "best.ckpt").stat().st_size < 100_000
    capsys.readouterr()
    merge = ["--merge=true", f"--ckpt_path={folder}/checkpoints/best.ckpt"]
    assert main("export", f"--config={folder}/config.yaml", *merge) == 0
    assert capsys.readouterr().out.strip() == str(folder / "export-merged")
    merged = AutoModelForCausalLM.from_pretrained(folder / "export-merged").eval()
    ids = torch.randint(300, (2, 16))
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, adapter(ids).logits, rtol=1e-4, atol=1e-5)
    assert use(["generate", "--run", str(folder), "--prompt", "the cat", "--max_new_tokens", "5"]) == 0
    greedy = {"max_new_tokens": 12, "do_sample": False}
    expected = adapter.generate(input_ids=ids[:1, :4], attention_mask=torch.ones(1, 4), **greedy)[0].tolist()
    code = f"""
import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM
ids, greedy = torch.tensor([{ids[0, :4].tolist()}]), {greedy}
for kind, name in ((AutoPeftModelForCausalLM, "export"), (AutoModelForCausalLM, "export-merged")):
    model = kind.from_pretrained({str(folder)!r} + "/" + name)
    print(model.generate(input_ids=ids, attention_mask=torch.ones(1, 4), **greedy)[0].tolist())
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert [json.loads(line) for line in printed.splitlines()[-2:]] == [expected, expected]
