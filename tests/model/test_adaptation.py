"""What trains: layers, or an adapter; every cell of the table in docs/adaptation.md."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback, Trainer
from peft import (
    AdaLoraConfig,
    AutoPeftModelForCausalLM,
    LoraConfig,
    PeftConfig,
    PrefixTuningConfig,
)
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from torch._dynamo.backends.debugging import aot_eager
from transformers import GPT2LMHeadModel

from gpt2_lightning.callbacks.adalora import AdaLoRA
from gpt2_lightning.callbacks.checkpoints import Checkpoints
from gpt2_lightning.data.datamodule import TextDataModule
from gpt2_lightning.errors import InputError
from gpt2_lightning.inference.export import export, load_weights
from gpt2_lightning.model.adaptation import Trainable, check_adapter, inject
from gpt2_lightning.model.architecture import Architecture, build
from gpt2_lightning.model.hidden_states import hidden_states
from gpt2_lightning.model.module import GPT2Module
from gpt2_lightning.model.nll import linear_nll
from gpt2_lightning.model.sampling import Sampling
from tests.conftest import ROOT, continue_text

# PEFT 0.21 calls transformers 5.23 by names that are old there, and warns of itself; so does torch's tracer.
pytestmark = pytest.mark.filterwarnings("default")

ADAPTERS = sorted(path.stem for path in (ROOT / "configs" / "adapter").glob("*.yaml"))
COLUMNS = ("gradient checkpointing", "compile", "isolated documents", "merge", "export")


def adapter(name: str) -> PeftConfig:
    """An adapter of configs/adapter, as the command line makes it, small enough for the tests' model."""
    parser = ArgumentParser()
    parser.add_argument("--adapter", type=PeftConfig)
    piece = yaml.safe_load((ROOT / "configs" / "adapter" / f"{name}.yaml").read_text())
    small = {
        "num_virtual_tokens": 4,
        "encoder_hidden_size": 8,
        "tinit": 0,
        "tfinal": 1,
        "deltaT": 2,
        "lora_dropout": 0.0,
    }
    piece["init_args"] |= {field: value for field, value in small.items() if field in piece["init_args"]}
    return parser.instantiate_classes(parser.parse_object({"adapter": piece})).adapter


def table() -> dict[str, dict[str, str]]:
    """The cells of the table in docs/adaptation.md by file of configs/adapter and column."""
    rows = {}
    for line in (ROOT / "docs" / "adaptation.md").read_text().splitlines():
        if match := re.match(r"\| `(\w+)` \|", line):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            rows[match[1]] = dict(zip(COLUMNS, cells[2:], strict=True))
    return rows


class StopAt(Callback):
    """Ends a run early, whose planned length stays."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, *arguments: Any) -> None:
        trainer.should_stop = trainer.global_step >= self.step


def module_of(base: str, name: str | PeftConfig | None, lr: float = 0.05, **options: Any) -> GPT2Module:
    config = adapter(name) if isinstance(name, str) else name
    return GPT2Module(
        Architecture(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0),
        lambda params: torch.optim.AdamW(params, lr=lr),
        pretrained=base,
        adapter=config,
        **options,
    )


def gradients(module: GPT2Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    module.zero_grad()
    module(**batch)[0].backward()
    return {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}


def a_batch() -> dict[str, torch.Tensor]:
    ids = torch.randint(300, (2, 17), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids[:, :-1], "targets": ids[:, 1:].contiguous()}


def test_the_table_has_every_adapter_and_every_adapter_a_row():
    assert sorted(table()) == ADAPTERS


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_trains_alone_and_its_checkpoint_and_export_give_it_back(
    name: str, base: str, train: Callable[..., Trainer], tmp_path: Path
):
    module = module_of(base, name)
    trainer = train([*AdaLoRA.needed_by(module.recipe.adapter), Checkpoints()], module=module, max_steps=3)
    data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
    kept = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    before = GPT2LMHeadModel.from_pretrained(base).state_dict()
    after = {key.replace("base_layer.", ""): value for key, value in module.gpt2.state_dict().items()}
    unchanged = [key for key in before if key in after and torch.equal(before[key], after[key])]
    renamed = {"norms": len(before) - 1, "lora_bytes": 2}.get(name, 0)  # wrapped in modules of PEFT's
    assert len(unchanged) >= len(before) - renamed
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    assert trained <= sum(value.numel() for value in kept["state_dict"].values())
    assert not [key for key in kept["state_dict"] if key.endswith("wte.weight") or "base_layer" in key]

    again = module_of(base, name)
    again.trainer = trainer
    again.configure_model()
    fresh = {key: value.clone() for key, value in again.state_dict().items()}
    assert any(not torch.equal(value, fresh[key]) for key, value in kept["state_dict"].items())
    load_weights(again, tmp_path / "checkpoints" / "last.ckpt")
    assert module.model is not None
    batch = a_batch()
    assert torch.equal(module.eval()(**batch)[0], again.eval()(**batch)[0])

    export(again, data.tokenizer, tmp_path / "export")
    assert table()[name]["export"] == "PEFT folder"
    loaded: Any = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "export")
    ids = batch["input_ids"]
    with torch.no_grad():
        logits = [model.eval()(input_ids=ids).logits for model in (loaded, module.model)]
    torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-5)
    greedy = Sampling(max_new_tokens=8, temperature=0)
    texts = [continue_text(model, data.tokenizer, "the cat", greedy) for model in (loaded, module.model)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("name", ADAPTERS)
def test_merging_keeps_the_logits_or_is_refused(
    name: str, base: str, train: Callable[..., Trainer], tmp_path: Path
):
    from transformers import AutoModelForCausalLM

    # At a higher rate rsLoRA's update outgrows the weights, and rounding with it.
    module = module_of(base, name, lr=0.005)
    trainer = train(AdaLoRA.needed_by(module.recipe.adapter), module=module, max_steps=3, limit_val_batches=0)
    data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
    batch, model = a_batch(), module.model
    assert model is not None
    with torch.no_grad():
        before = model.eval()(input_ids=batch["input_ids"]).logits
    if table()[name]["merge"] == "yes":
        export(module, data.tokenizer, tmp_path / "merged", merge=True)
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
        with torch.no_grad():
            after = merged(input_ids=batch["input_ids"]).logits
        torch.testing.assert_close(after, before, rtol=0, atol=1e-4 * before.abs().max().item())
    else:
        with pytest.raises(InputError, match=r"--merge true: .* cannot be merged"):
            export(module, data.tokenizer, tmp_path / "merged", merge=True)
        assert not (tmp_path / "merged").exists()


def refused(base: str, name: str, data: TextDataModule, **options: Any) -> bool:
    try:
        module_of(base, name, **options).config(data)
    except InputError:
        return True
    return False


@pytest.mark.parametrize("name", ADAPTERS)
def test_gradient_checkpointing_gives_the_same_gradients_or_is_refused(
    name: str, base: str, train: Callable[..., Trainer], datamodule: Callable[..., TextDataModule]
):
    if table()[name]["gradient checkpointing"] != "yes":
        assert refused(base, name, datamodule(), gradient_checkpointing=True)
        return
    found = []
    for checkpointing in (False, True):
        module = module_of(base, name, gradient_checkpointing=checkpointing)
        train([], module=module, max_steps=3, limit_val_batches=0)
        assert module.gpt2.is_activation_checkpointing == checkpointing
        found.append(gradients(module.train(), a_batch()))
    assert found[0].keys() == found[1].keys()
    for key, value in found[0].items():
        torch.testing.assert_close(value, found[1][key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_compiled_body_gives_the_same_loss_and_no_other_names(
    name: str, base: str, train: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
):
    """Through the tracer and without the code generator, which takes half a minute."""
    assert table()[name]["compile"] == "yes"
    traced, compile_in_place = [], torch.nn.Module.compile

    def backend(graph: Any, inputs: Any) -> Any:
        traced.append(graph)
        return aot_eager(graph, inputs)

    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compile_in_place(module, backend=backend))
    torch._dynamo.reset()
    modules = []
    for compiled in (False, True):
        module = module_of(base, name, compile=compiled)
        train([], module=module, max_steps=3, limit_val_batches=0, inference_mode=False)
        modules.append(module)
        assert bool(traced) == compiled
    assert modules[0].state_dict().keys() == modules[1].state_dict().keys()
    losses = [module(**a_batch())[0].item() for module in modules]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("name", ADAPTERS)
def test_documents_of_a_row_stay_apart_or_it_is_refused(
    name: str, base: str, train: Callable[..., Trainer], datamodule: Callable[..., TextDataModule]
):
    if table()[name]["isolated documents"] != "yes":
        assert refused(base, name, datamodule(rows="isolated"))
        return
    module = module_of(base, name)
    train([], datamodule(rows="isolated"), module, max_steps=3, limit_val_batches=0)
    module.eval()
    batch = {key: value[:1] for key, value in a_batch().items()}
    batch["targets"][:, :8] = -100
    positions = torch.arange(8).repeat(2)[None]
    other = batch["input_ids"].clone()
    other[:, :8] = other[:, :8].flip(1)
    losses = [module(ids, batch["targets"], positions)[0] for ids in (batch["input_ids"], other)]
    assert torch.equal(*losses)
    assert not torch.equal(module(other, batch["targets"])[0], module(**batch)[0])


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (LoraConfig(target_modules=["lm_head"]), {}, "it touches lm_head"),
        (LoraConfig(target_modules=["wte"]), {}, "it touches wte"),
        (LoraConfig(target_modules=["c_attn"], modules_to_save=["lm_head"]), {}, "it touches lm_head"),
        (LoraConfig(target_modules=["q_proj"]), {}, "--model.adapter LoraConfig: .*q_proj"),
        (PrefixTuningConfig(num_virtual_tokens=49), {}, "num_virtual_tokens 49: with --data.block_size 16"),
        (PrefixTuningConfig(num_virtual_tokens=4), {"gradient_checkpointing": True}, "checkpointing drops"),
        (AdaLoraConfig(init_r=2, target_r=2, total_step=9), {}, "init_r 2 is not above .*target_r 2"),
    ],
)
def test_what_cannot_work_is_refused_with_the_remedy(
    config: PeftConfig, options: dict[str, Any], message: str, base: str, train: Callable[..., Trainer]
):
    with pytest.raises(InputError, match=message):
        train([], module=module_of(base, config, **options))


@pytest.mark.parametrize(
    ("trainable", "expected"),
    [
        (Trainable(), {"wte", "wpe", "h.0", "h.1", "ln_f"}),
        (Trainable(layers=1), {"h.1", "ln_f"}),
        (Trainable(layers=1, final_norm=False), {"h.1"}),
        (Trainable(layers=2, embeddings=True), {"wte", "wpe", "h.0", "h.1", "ln_f"}),
        (Trainable(layers=0), {"ln_f"}),
    ],
)
def test_only_what_is_to_train_moves(
    base: str, trainable: Trainable, expected: set[str], train: Callable[..., Trainer]
):
    module = module_of(base, None, trainable=trainable)
    train([], module=module, max_steps=2, limit_val_batches=0)
    before = GPT2LMHeadModel.from_pretrained(base).state_dict()
    moved = {
        ".".join(name.split(".")[1:3]) if ".h." in name else name.split(".")[1]
        for name, value in module.gpt2.state_dict().items()
        if name.startswith("transformer") and not torch.equal(value, before[name])
    }
    assert moved == expected


@pytest.mark.parametrize(
    ("trainable", "message"),
    [
        (Trainable(layers=3), "--model.trainable.layers 3: the model has 2 blocks"),
        (Trainable(layers=0, final_norm=False), "nothing would train"),
        (Trainable(embeddings=True), "go with --model.trainable.layers"),
    ],
)
def test_layers_that_cannot_train_are_refused(
    base: str, trainable: Trainable, message: str, datamodule: Callable[..., TextDataModule]
):
    with pytest.raises(InputError, match=message):
        module_of(base, None, trainable=trainable).config(datamodule())


OTHER_OPTIONS: dict[str, dict[str, Any]] = {
    "AdaLoraConfig": {"total_step": 10},
    "CartridgeConfig": {"num_virtual_tokens": 4},
    "LNTuningConfig": {"target_modules": ["ln_1"]},
    "PrefixTuningConfig": {"num_virtual_tokens": 4},
    "PromptEncoderConfig": {"num_virtual_tokens": 4, "encoder_hidden_size": 8},
    "PromptTuningConfig": {"num_virtual_tokens": 4},
    "VBLoRAConfig": {"vector_length": 16, "num_vectors": 32},
}


def test_every_method_of_peft_trains_here_or_is_refused():
    """And docs/adaptation.md says which is which."""
    page = (ROOT / "docs" / "adaptation.md").read_text()
    works, refused = (set(re.findall(r"`(\w+Config)`", line)) for line in page.splitlines()[-3::2])
    found: dict[bool, set[str]] = {True: set(), False: set()}
    for kind in PEFT_TYPE_TO_CONFIG_MAPPING.values():
        options = OTHER_OPTIONS.get(kind.__name__, {"target_modules": ["c_attn"]})
        found[_trains(kind, options)].add(kind.__name__)
    configs = {type(adapter(name)).__name__ for name in ADAPTERS}
    assert found[True] - configs == works
    assert found[False] == refused


def _trains(kind: Any, options: dict[str, Any]) -> bool:
    model = build(Architecture(n_layer=2, n_head=2, n_embd=32, n_positions=64), vocab_size=100, end_of_text=0)
    fields = kind.__dataclass_fields__
    try:
        config = kind(**{name: value for name, value in options.items() if name in fields})
        check_adapter(config, model.config, 16, isolated=False, gradient_checkpointing=False)
        adapted, _ = inject(model, config, "base")
    except (InputError, ValueError, ImportError):  # PEFT refuses some as soon as they are written down
        return False
    ids = torch.randint(100, (2, 16))
    linear_nll(hidden_states(adapted, ids), model.lm_head.weight, ids)[0].backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in adapted.parameters())
    assert model.transformer.wte.weight.grad is None
    return True
