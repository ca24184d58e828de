"""The shape of a GPT-2, and the Hugging Face model built from it."""

from dataclasses import asdict, dataclass

from transformers import GPT2Config, GPT2LMHeadModel

from gpt2_lightning.ranges import ClosedUnitInterval, NonNegativeFloat, PositiveFloat, PositiveInt


@dataclass
class Architecture:
    """The fields of `transformers.GPT2Config` that shape the model; the defaults are GPT-2 small's.

    Source: Radford et al. 2019, section 2.3, and OpenAI's released checkpoints.

    Args:
        n_layer: number of Transformer blocks.
        n_head: attention heads per block; must divide `n_embd`.
        n_embd: width of the residual stream.
        n_positions: longest context in tokens.
        n_inner: width inside the feed-forward layers; 4 · `n_embd` if not given.
        activation_function: Hugging Face name; the default is GPT-2's `gelu_new` as one kernel.
        resid_pdrop: dropout after each attention and feed-forward layer.
        embd_pdrop: dropout after the embeddings.
        attn_pdrop: dropout of the attention weights; above 0 rules out the fastest attention.
        layer_norm_epsilon: added to the variance in every layer norm.
        initializer_range: standard deviation of the initial weights; output projections of the
            blocks get it divided by the square root of twice the number of blocks.
        tie_word_embeddings: whether the output layer is the token embedding.
    """

    n_layer: PositiveInt = 12
    n_head: PositiveInt = 12
    n_embd: PositiveInt = 768
    n_positions: PositiveInt = 1024
    n_inner: PositiveInt | None = None
    activation_function: str = "gelu_pytorch_tanh"
    resid_pdrop: ClosedUnitInterval = 0.1
    embd_pdrop: ClosedUnitInterval = 0.1
    attn_pdrop: ClosedUnitInterval = 0.1
    layer_norm_epsilon: PositiveFloat = 1e-5
    initializer_range: NonNegativeFloat = 0.02
    tie_word_embeddings: bool = True


def build(architecture: Architecture, vocab_size: int, end_of_text: int) -> GPT2LMHeadModel:
    """A GPT-2 with random weights, in training mode.

    Args:
        architecture: its shape.
        vocab_size: entries of the tokenizer.
        end_of_text: id of the end-of-text token, for generation.
    """
    config = GPT2Config(
        vocab_size=vocab_size,
        bos_token_id=end_of_text,
        eos_token_id=end_of_text,
        use_cache=False,
        **asdict(architecture),
    )
    model = GPT2LMHeadModel(config)
    model.generation_config.pad_token_id = end_of_text
    return model.train()


def count_parameters(model: GPT2LMHeadModel) -> tuple[int, int]:
    """Parameters in all and those that train; a tied output layer counts once."""
    parameters = list(model.parameters())
    return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)


def flops_per_token(model: GPT2LMHeadModel, block_size: int) -> float:
    """Floating-point operations of one training step per token, forward and backward.

    6 per parameter that takes part in a matrix product (all but the position embedding), and
    12 · layers · width · context for attention. Source: Chowdhery et al. 2022 (PaLM), appendix B.
    """
    config = model.config
    matrix = count_parameters(model)[0] - config.n_positions * config.n_embd
    return 6 * matrix + 12 * config.n_layer * config.n_embd * block_size
