"""Weights that exist: what they bring, what may be changed of them, and what is refused."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from transformers import GPT2LMHeadModel, LlamaConfig

from gpt2_lightning.data.corpus import Corpus
from gpt2_lightning.data.datamodule import TextDataModule
from gpt2_lightning.data.sources import TextFiles
from gpt2_lightning.data.tokenizer import ByteLevelBPE, Characters, Pretrained
from gpt2_lightning.errors import InputError
from gpt2_lightning.inference.export import export
from gpt2_lightning.model.architecture import Architecture
from gpt2_lightning.model.module import GPT2Module
from gpt2_lightning.model.pretrained import change_vocabulary
from tests.conftest import ASSETS, tiny_module
from tests.hub import serve

DRY = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}


def module_of(base: str, architecture: dict[str, Any] = DRY, **options: Any) -> GPT2Module:
    return GPT2Module(
        Architecture(**architecture), lambda params: torch.optim.AdamW(params, lr=1e-2), base, **options
    )


def test_a_run_starts_from_the_weights_in_float32_and_training_mode(
    base: str, tmp_path: Path, datamodule: Callable[..., TextDataModule]
):
    """Also from weights that were written in bf16."""
    half = tmp_path / "half"
    shutil.copytree(base, half)
    (half / "SHA256SUMS").unlink()  # the change is meant
    GPT2LMHeadModel.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(half)
    for place in (base, str(half)):
        data, module = datamodule(), module_of(place)
        data.setup()
        model, _ = module.recipe.build(module.config(data), data.tokenizer)
        expected = GPT2LMHeadModel.from_pretrained(place).state_dict()
        for name, value in model.state_dict().items():
            assert value.dtype == torch.float32
            assert torch.equal(value, expected[name].float())
        assert all(part.training for part in model.modules())
        assert model.config.resid_pdrop == 0.0


def test_the_context_can_be_shortened(base: str, train: Callable[..., Trainer]):
    module = module_of(base, DRY | {"n_positions": 16})
    train([], module=module, max_steps=1, limit_val_batches=0)
    assert module.gpt2.transformer.wpe.weight.shape[0] == module.gpt2.config.n_positions == 16
    whole = module_of(base)
    train([], module=whole, max_steps=1, limit_val_batches=0)
    ids = torch.randint(300, (2, 16))
    logits = [each.eval()(ids).logits for each in (module.gpt2, whole.gpt2)]
    torch.testing.assert_close(*logits)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({"n_layer": 3}, "n_layer 3: --model.pretrained .* has 2"),
        ({"n_embd": 32}, "n_embd 32: --model.pretrained .* has 16"),
        ({"n_positions": 128}, "n_positions 128: --model.pretrained .* has 64, which can be shortened only"),
        ({"n_positions": 8}, "--data.block_size 16 is longer than --model.architecture.n_positions 8"),
    ],
)
def test_another_shape_is_refused_with_both_values(
    base: str, architecture: dict[str, Any], message: str, datamodule: Callable[..., TextDataModule]
):
    with pytest.raises(InputError, match=message):
        module_of(base, architecture).config(datamodule())


def test_what_is_no_whole_gpt2_is_refused(
    base: str, tmp_path: Path, datamodule: Callable[..., TextDataModule], train: Callable[..., Trainer]
):
    LlamaConfig().save_pretrained(tmp_path / "llama")
    with pytest.raises(InputError, match="is a llama, not a gpt2"):
        module_of(str(tmp_path / "llama")).config(datamodule())
    shutil.copytree(base, tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"model.safetensors: was altered after it was written"):
        train([], module=module_of(str(tmp_path / "cut")))
    (tmp_path / "cut" / "SHA256SUMS").unlink()
    with pytest.raises(InputError, match=r"--model.pretrained .*cut.* cannot be loaded"):
        train([], module=module_of(str(tmp_path / "cut")))
    weights.unlink()
    with pytest.raises(InputError, match=r"--model.pretrained .*cut.* cannot be loaded"):
        train([], module=module_of(str(tmp_path / "cut")))
    with pytest.raises(InputError, match="no such folder"):
        module_of(str(tmp_path / "nowhere")).config(datamodule())
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="is an adapter without its model; merge it"):
        module_of(str(tmp_path / "adapter")).config(datamodule())


def test_a_base_without_a_tokenizer_is_named(base: str, tmp_path: Path, train: Callable[..., Trainer]):
    GPT2LMHeadModel.from_pretrained(base).save_pretrained(tmp_path / "bare")
    with pytest.raises(InputError, match=r"--model.pretrained '.*bare': comes with no tokenizer"):
        train([], module=module_of(str(tmp_path / "bare")))


def test_another_tokenizer_is_refused_unless_asked_for(
    base: str, datamodule: Callable[..., TextDataModule], train: Callable[..., Trainer]
):
    other = datamodule(corpus=Corpus(TextFiles(str(ASSETS)), ByteLevelBPE(320), 0.3))
    with pytest.raises(
        InputError, match=r"has 320 entries .* which has 300; .*--model.change_tokenizer true"
    ):
        train([], other, module=module_of(base))
    module = module_of(base, change_tokenizer=True)
    train([], other, module=module, max_steps=2, limit_val_batches=0)
    assert module.gpt2.lm_head.weight is module.gpt2.transformer.wte.weight
    assert module.gpt2.lm_head.weight.shape[0] == module.gpt2.config.vocab_size == 320


def test_changed_vocabulary_keeps_shared_vectors_and_means_the_pieces_of_new_ones(base: str):
    model, old = GPT2LMHeadModel.from_pretrained(base), Pretrained(base).build(())
    texts = [path.read_text() for path in sorted(ASSETS.glob("*.txt"))]
    new = ByteLevelBPE(400).build(texts)
    before = model.transformer.wte.weight.detach().clone()
    change_vocabulary(model, old, new)
    after, known = model.transformer.wte.weight, old.get_vocab()
    shared = [entry for entry in new.get_vocab() if entry in known]
    added = [entry for entry in new.get_vocab() if entry not in known]
    assert len(shared) > 256
    assert added
    for entry in shared:
        assert torch.equal(after[new.get_vocab()[entry]], before[known[entry]])
    for entry in added:
        text = new.convert_tokens_to_string([entry])
        if "\N{REPLACEMENT CHARACTER}" in text:  # a part of a character
            continue
        pieces = before[old(text, add_special_tokens=False)["input_ids"]]
        torch.testing.assert_close(after[new.get_vocab()[entry]], pieces.mean(0))
    assert torch.equal(after[new.eos_token_id], before[old.eos_token_id])


def test_characters_start_from_the_bytes_that_they_are_not_from_those_of_the_same_name(base: str):
    """In a byte-level vocabulary "é" is the byte 0xE9; as a character it is two bytes."""
    model, old = GPT2LMHeadModel.from_pretrained(base), Pretrained(base).build(())
    before, new = model.transformer.wte.weight.detach().clone(), Characters().build(["é人 a"])
    change_vocabulary(model, old, new)
    for character in "é人a":
        pieces = before[old(character, add_special_tokens=False)["input_ids"]]
        torch.testing.assert_close(model.transformer.wte.weight[new.get_vocab()[character]], pieces.mean(0))


def test_untied_output_layer_trains_and_is_written(train: Callable[..., Trainer], tmp_path: Path):
    module = tiny_module(tie_word_embeddings=False)
    trainer = train([], module=module, max_steps=3, limit_val_batches=0)
    data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
    export(module, data.tokenizer, tmp_path / "export")
    again = GPT2LMHeadModel.from_pretrained(tmp_path / "export")
    assert not torch.equal(again.lm_head.weight, again.transformer.wte.weight)
    for name, value in again.state_dict().items():
        assert torch.equal(value, module.gpt2.state_dict()[name])
    change_vocabulary(again, data.tokenizer, Characters().build(["ab"]))
    assert again.lm_head.weight.shape == again.transformer.wte.weight.shape
    assert not torch.equal(again.lm_head.weight, again.transformer.wte.weight)


MODEL = """
import json, sys
from gpt2_lightning.data.tokenizer import Pretrained
from gpt2_lightning.model.architecture import Architecture
from gpt2_lightning.model.pretrained import fit_vocabulary, load, read_config, reconciled
config = reconciled(read_config("owner/gpt2"), Architecture(resid_pdrop=0.0), "owner/gpt2")
model = load("owner/gpt2", config)
fit_vocabulary(model, "owner/gpt2", Pretrained("owner/gpt2").build(()), False)
print(json.dumps({"dtype": str(model.dtype), "training": model.training, "layers": model.config.n_layer}))
"""


def test_weights_come_from_a_hub_and_then_from_its_cache(tmp_path: Path, base: str):
    expected = {"dtype": "torch.float32", "training": True, "layers": 2}
    environment = os.environ | {"HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    with serve({"models/owner/gpt2": Path(base)}) as endpoint:
        for extra in ({"HF_ENDPOINT": endpoint}, {"HF_HUB_OFFLINE": "1"}):
            result = subprocess.run(
                [sys.executable, "-c", MODEL],
                capture_output=True,
                text=True,
                env=environment | extra,
                timeout=120,
            )
            assert result.returncode == 0, result.stderr[-3000:]
            assert json.loads(result.stdout.splitlines()[-1]) == expected
