import pytest
import torch
import yaml
from transformers import GPT2Config, GPT2LMHeadModel

from gpt2_lightning.model.architecture import Architecture, build, count_parameters, flops_per_token
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("small", 124_439_808), ("medium", 354_823_168), ("large", 774_030_080), ("xl", 1_557_611_200)],
)
def test_presets_have_the_sizes_of_openais_checkpoints(name: str, parameters: int):
    preset = yaml.safe_load((ROOT / "configs" / "model" / f"{name}.yaml").read_text())
    with torch.device("meta"):
        model = build(Architecture(**preset), vocab_size=50_257, end_of_text=50_256)
    assert count_parameters(model) == (parameters, parameters)


def test_defaults_are_gpt2_small():
    ours, theirs = Architecture().config(), GPT2Config()
    for name in ("n_layer", "n_head", "n_embd", "n_positions", "resid_pdrop", "attn_pdrop", "embd_pdrop"):
        assert getattr(ours, name) == getattr(theirs, name)


def test_the_default_activation_is_gpt2s():
    torch.manual_seed(0)
    shape = Architecture(n_layer=2, n_head=2, n_embd=16, n_positions=8)
    model = build(shape, vocab_size=50, end_of_text=0).eval()
    original = GPT2LMHeadModel(GPT2Config(**{**model.config.to_dict(), "activation_function": "gelu_new"}))
    original.load_state_dict(model.state_dict())
    ids = torch.randint(50, (2, 8))
    torch.testing.assert_close(model(ids).logits, original.eval()(ids).logits)


def test_model_is_in_training_mode_with_its_own_end_of_text():
    model = build(Architecture(n_layer=1, n_head=1, n_embd=8, n_positions=8), vocab_size=10, end_of_text=3)
    assert model.training
    assert model.config.eos_token_id == model.generation_config.eos_token_id == 3


def test_flops_by_hand():
    """One block of width 8: 12·8² + 13·8 parameters, 10·8 embeddings, 2·8 in the last norm; context 4."""
    model = build(Architecture(n_layer=1, n_head=1, n_embd=8, n_positions=16), vocab_size=10, end_of_text=0)
    parameters = 12 * 64 + 13 * 8 + 80 + 16
    assert flops_per_token(model, block_size=4) == 6 * parameters + 12 * 1 * 8 * 4
