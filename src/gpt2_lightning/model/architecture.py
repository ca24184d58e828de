"""The shape of a GPT-2, and the Hugging Face model built from it."""

from dataclasses import asdict, dataclass
from typing import Any

from transformers import GPT2Config, GPT2LMHeadModel

from gpt2_lightning.ranges import ClosedUnitInterval, NonNegativeFloat, PositiveFloat, PositiveInt

_RATHER: dict[str, Any] = {"activation_function": "gelu_pytorch_tanh"}
"""What we take where `GPT2Config` has another default: the same function as `gelu_new`, in one kernel."""


@dataclass(frozen=True)
class Architecture:
    """The fields of `transformers.GPT2Config` that shape the model.

    A field that is not given is the pretrained model's; without one, GPT-2 small's, as in brackets.
    Source: Radford et al. 2019, section 2.3, and OpenAI's released checkpoints.

    Args:
        n_layer: number of Transformer blocks [12].
        n_head: attention heads per block; must divide `n_embd` [12].
        n_embd: width of the residual stream [768].
        n_positions: longest context in tokens; a pretrained model's can be shortened [1024].
        n_inner: width inside the feed-forward layers [4 · `n_embd`].
        activation_function: Hugging Face name [`gelu_pytorch_tanh`: GPT-2's `gelu_new` as one
            kernel].
        resid_pdrop: dropout after each attention and feed-forward layer [0.1].
        embd_pdrop: dropout after the embeddings [0.1].
        attn_pdrop: dropout of the attention weights; above 0 rules out the fastest attention [0.1].
        layer_norm_epsilon: added to the variance in every layer norm [1e-5].
        initializer_range: standard deviation of the initial weights; output projections of the
            blocks get it divided by the square root of twice the number of blocks [0.02].
        tie_word_embeddings: whether the output layer is the token embedding [true].
    """

    n_layer: PositiveInt | None = None
    n_head: PositiveInt | None = None
    n_embd: PositiveInt | None = None
    n_positions: PositiveInt | None = None
    n_inner: PositiveInt | None = None
    activation_function: str | None = None
    resid_pdrop: ClosedUnitInterval | None = None
    embd_pdrop: ClosedUnitInterval | None = None
    attn_pdrop: ClosedUnitInterval | None = None
    layer_norm_epsilon: PositiveFloat | None = None
    initializer_range: NonNegativeFloat | None = None
    tie_word_embeddings: bool | None = None

    @property
    def given(self) -> dict[str, Any]:
        """The fields that are given."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def config(self) -> GPT2Config:
        """The whole configuration of a model from scratch, but for its vocabulary."""
        return GPT2Config(use_cache=False, **(_RATHER | self.given))


def build(architecture: Architecture, vocab_size: int, end_of_text: int) -> GPT2LMHeadModel:
    """A GPT-2 with random weights, in training mode.

    Args:
        architecture: its shape.
        vocab_size: entries of the tokenizer.
        end_of_text: id of the end-of-text token, for generation.
    """
    config = architecture.config()
    config.vocab_size = vocab_size
    model = GPT2LMHeadModel(config)
    set_end_of_text(model, end_of_text)
    return model.train()


def set_end_of_text(model: GPT2LMHeadModel, end_of_text: int) -> None:
    """Tell the model which token ends a text; its defaults are those of GPT-2's own vocabulary."""
    for config in (model.config, model.generation_config):
        config.bos_token_id = config.eos_token_id = end_of_text
    model.generation_config.pad_token_id = end_of_text


def count_parameters(model: Any) -> tuple[int, int]:
    """Parameters in all and those that train; a tied output layer counts once."""
    parameters = list(model.parameters())
    return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)


def flops_per_token(model: Any, block_size: int) -> float:
    """Floating-point operations of one training step per token, forward and backward.

    Of each parameter in a matrix product (all but the position embedding) 2 forward, 2 backward to
    what came before, and 2 for its own gradient where it trains; and 12 · layers · width · context
    for attention. Layers below everything that trains are counted backward too. Source: Chowdhery et
    al. 2022 (PaLM), appendix B.
    """
    config = model.config
    total, trainable = count_parameters(model)
    positions = config.n_positions * config.n_embd
    products = 4 * (total - positions) + 2 * max(0, trainable - (positions if trainable == total else 0))
    return products + 12 * config.n_layer * config.n_embd * block_size
