"""The whole command line: what a run leaves, what it refuses, and how it is continued."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gpt2_lightning.__main__ import main as use
from gpt2_lightning.machine.precision import best_precision
from tests.conftest import ROOT, read_metrics
from tests.test_configs import TEXT, TOY, main, options, run_folder


def fit(tmp_path: Path, *extra: str) -> int:
    return main(*options(tmp_path), *TEXT, *TOY, *extra)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 8 steps."""
    tmp_path = tmp_path_factory.mktemp("finished")
    extra = ["--trainer.max_steps=8", "--trainer.val_check_interval=4", "--trainer.log_every_n_steps=2"]
    assert fit(tmp_path, *extra, "--trainer.precision=32-true") == 0
    return run_folder(tmp_path)


def test_a_run_leaves_the_whole_folder(finished: Path):
    names = {path.name for path in finished.iterdir()}
    events = {name for name in names if name.startswith("events.out.tfevents")}
    assert len(events) == 1
    assert names - events == {
        "config.yaml",
        "run.lock",
        "environment.json",
        "metrics.csv",
        "samples.jsonl",
        "checkpoints",
        "export",
        "summary.json",
    }
    checkpoints = {path.name for path in (finished / "checkpoints").iterdir()}
    assert checkpoints == {"last.ckpt", "last.ckpt.sha256", "best.ckpt", "best.ckpt.sha256"}


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


def test_metrics_are_by_optimizer_step_and_the_same_in_tensorboard(finished: Path):
    rows = [row for row in read_metrics(finished) if row["train/nll"]]
    assert [int(row["step"]) for row in rows] == [2, 4, 6, 8]
    assert [bool(row["val/nll"]) for row in rows] == [False, True, False, True]
    events = EventAccumulator(str(finished)).Reload()
    for name in ("train/nll", "train/grad_norm", "train/learning_rate", "val/nll", "val/bits_per_byte"):
        recorded = [(event.step, event.value) for event in events.Scalars(name)]
        assert recorded == [
            (int(r["step"]), pytest.approx(float(r[name]), rel=1e-6)) for r in rows if r[name]
        ]


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


def test_a_resumed_run_ends_as_the_whole_one(finished: Path, tmp_path: Path):
    """8 steps at once, against 4 steps and then 4 more in the same folder."""
    schedule = ["--warmup.schedule=constant", "--warmup.warmup_steps=0", "--trainer.val_check_interval=4"]
    common = [*schedule, "--trainer.log_every_n_steps=2", "--trainer.precision=32-true"]
    assert fit(tmp_path / "whole", "--trainer.max_steps=8", *common) == 0
    assert fit(tmp_path / "parts", "--trainer.max_steps=4", *common) == 0
    folder, whole = run_folder(tmp_path / "parts"), run_folder(tmp_path / "whole")
    resume = [f"--config={folder}/config.yaml", f"--ckpt_path={folder}/checkpoints/last.ckpt"]
    assert main("fit", *resume, "--trainer.max_steps=8") == 0
    assert run_folder(tmp_path / "parts") == folder
    numbers = [
        [(row["step"], row["train/nll"], row["val/nll"]) for row in read_metrics(run)]
        for run in (folder, whole)
    ]
    assert numbers[0] == numbers[1]
    states = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (folder, whole)]
    for name, value in states[0]["state_dict"].items():
        assert torch.equal(value, states[1]["state_dict"][name])
    summaries = [json.loads((run / "summary.json").read_text()) for run in (folder, whole)]
    assert summaries[0]["tokens"] == summaries[1]["tokens"]


def test_config_repeats_the_run(finished: Path, tmp_path: Path):
    logs = ["--logs", str(tmp_path / "logs"), "--experiment", "again"]
    assert main("fit", "--config", str(finished / "config.yaml"), *logs) == 0
    first, second = read_metrics(finished), read_metrics(run_folder(tmp_path))
    assert [row["train/nll"] for row in first] == [row["train/nll"] for row in second]
    config = yaml.safe_load((finished / "config.yaml").read_text())
    assert config["trainer"]["precision"] == "32-true"
    assert config["model"]["optimizer"]["class_path"].endswith("MuonAdamW")


def test_an_optimizer_has_its_own_defaults_and_no_other_s(tmp_path: Path):
    found = {}
    for run, named in (("none", []), ("muon", ["--model.optimizer=MuonAdamW"])):
        own = [f"--data.folder={tmp_path / 'data'}", f"--logs={tmp_path / 'logs'}", f"--run={run}"]
        own += [
            "--experiment=bare",
            "--trainer.accelerator=cpu",
            "--trainer.max_steps=1",
        ]
        assert main("fit", *own, *TEXT, *TOY, *named) == 0
        config = yaml.safe_load((tmp_path / "logs" / "bare" / run / "config.yaml").read_text())
        found[run] = config["model"]["optimizer"]
    assert found["none"]["class_path"] == "torch.optim.AdamW"
    assert found["muon"]["init_args"]["betas"] == [0.9, 0.95]
    assert found["muon"]["init_args"]["weight_decay"] == 0.1


def test_precision_left_open_is_what_the_machine_does_natively(tmp_path: Path):
    assert fit(tmp_path) == 0
    config = yaml.safe_load((run_folder(tmp_path) / "config.yaml").read_text())
    assert config["trainer"]["precision"] == best_precision("cpu")


def test_a_finished_run_that_is_resumed_stays_as_it_is(finished: Path, capsys: pytest.CaptureFixture[str]):
    before = json.loads((finished / "summary.json").read_text())
    resume = [f"--config={finished}/config.yaml", f"--ckpt_path={finished}/checkpoints/last.ckpt"]
    assert main("fit", *resume) == 0
    after = json.loads((finished / "summary.json").read_text())
    for name in ("status", "steps", "tokens", "val_nll", "best_step", "export"):
        assert after[name] == before[name]
    assert after["train_seconds"] <= before["train_seconds"]


def test_validate_repeats_the_summarys_numbers(finished: Path, capsys: pytest.CaptureFixture[str]):
    best = f"--ckpt_path={finished}/checkpoints/best.ckpt"
    assert main("validate", f"--config={finished}/config.yaml", best) == 0
    nll = json.loads((finished / "summary.json").read_text())["val_nll"]
    assert f"validation nll {nll:.4f}, perplexity {math.exp(nll):.2f}, bits" in capsys.readouterr().out


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


def test_preflight_builds_the_store_ahead_of_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main("preflight", *options(tmp_path)[1:], *TEXT, *TOY, "--measure=false") == 0
    assert "TextFiles" in (out := capsys.readouterr().out)
    assert "time " not in out
    assert fit(tmp_path) == 0
    assert "Reading and tokenizing" not in capsys.readouterr().out


def test_a_test_split_is_drawn_and_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main("test", *options(tmp_path)[1:], *TEXT, *TOY, "--data.corpus.test_fraction=0.3") == 0
    assert re.search(r"test nll \d", capsys.readouterr().out)


def test_a_run_without_validation_exports_its_last_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert fit(tmp_path, "--trainer.limit_val_batches=0", "--trainer.max_steps=3") == 0
    folder = run_folder(tmp_path)
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["steps"], summary["val_nll"], summary["best_checkpoint"]) == (3, None, None)
    assert (folder / "export" / "model.safetensors").exists()
    assert "perplexity" not in capsys.readouterr().out


def test_fast_dev_run_is_one_batch_of_everything(tmp_path: Path):
    assert fit(tmp_path, "--trainer.fast_dev_run=true") == 0


BAD = ROOT / "tests" / "assets" / "bad.jsonl"


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--model.architecture.n_head=3"], "n_head 3 does not divide --model.architecture.n_embd 8"),
        (["--data.block_size=64"], "--data.block_size 64 is longer than --model.architecture.n_positions 16"),
        (["--warmup.warmup_steps=9"], "--warmup.warmup_steps 9 is not shorter than the run"),
        (["--trainer.max_steps=-1"], "give --trainer.max_steps or --trainer.max_epochs, at least 1"),
        (["--seed_everything=true"], "--seed_everything True: give a whole number"),
        (["--seed_everything=-1"], "--seed_everything -1: give a whole number"),
        (
            ["--model.architecture.activation_function=gelu_nw"],
            "'gelu_nw' is unknown; did you mean 'gelu_new'?",
        ),
        (["--trainer.accumulate_grad_batches=0"], "--trainer.accumulate_grad_batches 0: must be at least 1"),
        (["--trainer.accumulate_grad_batches=3"], "no multiple of --trainer.accumulate_grad_batches 3"),
        (
            ["--trainer.val_check_interval=0.5"],
            "--trainer.val_check_interval 0.5: counted over the whole run",
        ),
        (["--trainer.enable_checkpointing=false"], "enable_checkpointing=False"),
        (["--experiment=../up"], "--experiment '../up'"),
        (["--data.corpus.source.paths=['nowhere']"], "--data.corpus.source.paths 'nowhere'"),
        (["--data.corpus.validation_fraction=1e-9"], "validation split is empty"),
        (["--data.corpus.source=JSONFiles", f"--data.corpus.source.paths={BAD}"], "bad.jsonl:2: broken JSON"),
        (
            ["--data.corpus.tokenizer=Pretrained", f"--data.corpus.tokenizer.path={ROOT}"],
            "--data.corpus.tokenizer.path",
        ),
        (["--model.optimizer.lr=-1"], "--model.optimizer: Invalid learning rate: -1"),
        (["--trainer.gradient_clip_val=-1"], "--trainer.gradient_clip_val -1: must be at least 0"),
        (["--trainer.devices=0"], "devices"),
        (["--config=nowhere.yaml"], "File does not exist"),
        (["--ckpt_path=nowhere.ckpt"], "--ckpt_path 'nowhere.ckpt': no such file"),
    ],
)
def test_mistakes_are_found_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str], message: str
):
    with pytest.raises(SystemExit) as stop:
        fit(tmp_path, *extra)
    assert stop.value.code == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not list(tmp_path.glob("logs/*/*"))


def test_a_resumed_runs_config_says_how_it_was_continued(tmp_path: Path):
    assert (
        fit(tmp_path, "--trainer.max_steps=2", "--trainer.logger=false", "--histograms.every_n_steps=0") == 0
    )
    folder = run_folder(tmp_path)
    resume = [f"--config={folder}/config.yaml", f"--ckpt_path={folder}/checkpoints/last.ckpt"]
    assert main("fit", *resume, "--trainer.max_steps=4") == 0
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["trainer"]["max_steps"] == 4
    assert config["ckpt_path"] is None


@pytest.mark.parametrize("option", ["--logs", "--data.folder"])
def test_folders_that_cannot_be_written_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        fit(tmp_path, f"{option}={tmp_path / 'file' / 'below'}")
    assert stop.value.code == 2
    assert f"error: {option} " in capsys.readouterr().err


def test_ctrl_c_keeps_the_last_step_and_says_how_to_continue(tmp_path: Path):
    command = [sys.executable, str(ROOT / "train.py"), *options(tmp_path), *TEXT, *TOY]
    command += ["--trainer.max_steps=1000000", "--trainer.val_check_interval=1000000"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        wait_for(lambda: any(tmp_path.glob("logs/*/*/samples.jsonl")) or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    folder = run_folder(tmp_path)
    summary = json.loads((folder / "summary.json").read_text())
    assert process.returncode == 130, err
    assert f"make resume RUN={folder}" in out
    assert err == "\nfinishing this optimizer step; Ctrl-C again stops at once\n"
    assert summary["status"] == "interrupted"
    assert (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == summary["steps"]
    )


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the run did not get that far"
        time.sleep(0.1)


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


def test_a_refused_resume_changes_nothing(finished: Path, tmp_path: Path):
    folder = tmp_path / "logs" / "x" / "1"
    shutil.copytree(finished, folder)
    before = (folder / "config.yaml").read_bytes()
    resume = [f"--config={folder}/config.yaml", f"--ckpt_path={folder}/checkpoints/last.ckpt"]
    for extra in ("--data.block_size=8", "--model.architecture.n_layer=2"):
        with pytest.raises(SystemExit) as stop:
            main("fit", *resume, "--trainer.max_steps=12", extra)
        assert stop.value.code == 2
        assert (folder / "config.yaml").read_bytes() == before
        assert json.loads((folder / "summary.json").read_text())["status"] == "finished"


def test_a_run_of_torchs_muon_is_not_resumed(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    last = folder / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    muon = checkpoint["optimizer_states"][0]["param_groups"][0]
    del muon["layouts"]
    muon["ns_steps"] = 5
    torch.save(checkpoint, last)
    last.with_name("last.ckpt.sha256").unlink()
    before = (folder / "config.yaml").read_bytes()
    with pytest.raises(SystemExit) as stop:
        main("fit", f"--config={folder}/config.yaml", f"--ckpt_path={last}", "--trainer.max_steps=12")
    assert stop.value.code == 2
    assert "queries, keys and values for one matrix" in capsys.readouterr().err
    assert (folder / "config.yaml").read_bytes() == before


def test_an_emulated_precision_is_allowed_and_warned_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    monkeypatch.setattr(
        "gpt2_lightning.machine.precision.matrix_rate", lambda dtype: 40 ** (dtype.itemsize / 2)
    )
    assert fit(tmp_path, "--trainer.precision=bf16-mixed") == 0
    said = capsys.readouterr()
    assert "--trainer.precision bf16-mixed: this CPU (AVX2) only emulates bf16" in said.err
    assert "at least 40 times as long" in said.err
    assert "bf16-mixed on cpu (AVX2, 1 threads on " in said.out


def test_fp16_on_a_cpu_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        fit(tmp_path, "--trainer.precision=16-mixed")
    assert stop.value.code == 2
    assert "--trainer.precision 16-mixed: is not supported on a CPU" in capsys.readouterr().err
    assert not (tmp_path / "logs").exists()


LACKING = """
import os, signal, sys
from pathlib import Path

import lightning.pytorch, psutil, transformers.models.gpt2.modeling_gpt2  # on Linux these need them

usr1 = vars(signal).pop("SIGUSR1", None)
vars(os).pop("sched_getaffinity", None)
sys.modules["resource"] = None

from gpt2_lightning.commandline.cli import main

if usr1:
    signal.SIGUSR1 = usr1  # which Lightning takes, except on Windows
sys.exit(main(Path("configs") / "default.yaml"))
"""


def test_a_run_without_what_windows_lacks(tmp_path: Path):
    """Our part of it: a signal, CPU affinity and the `resource` module."""
    command = [sys.executable, "-c", LACKING, *options(tmp_path), *TEXT, *TOY]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert json.loads((run_folder(tmp_path) / "summary.json").read_text())["peak_memory_bytes"] > 10**7


def test_fused_adamw_clips_in_bf16(tmp_path: Path):
    fused = [
        "--model.optimizer=torch.optim.AdamW",
        "--model.optimizer.fused=true",
        "--model.optimizer.lr=1e-3",
    ]
    options = ["--trainer.precision=bf16-mixed", "--trainer.log_every_n_steps=1", "--trainer.max_steps=2"]
    weights = []
    for name, clip in (("a", "0.001"), ("b", "0")):
        assert fit(tmp_path / name, *fused, *options, f"--trainer.gradient_clip_val={clip}") == 0
        kept = torch.load(run_folder(tmp_path / name) / "checkpoints" / "last.ckpt", weights_only=True)
        weights.append(kept["optimizer_states"][0]["state"][0]["exp_avg"].norm().item())
    assert weights[0] < 0.1 * weights[1]
