"""How a model is built: its shape, the weights it starts from, and which of them train."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from gpt2_lightning.data.tokenizer import end_of_text_id
from gpt2_lightning.errors import InputError
from gpt2_lightning.locations import locate
from gpt2_lightning.machine.hardware import total_memory_bytes
from gpt2_lightning.model.adaptation import Trainable, check_adapter, check_trainable, freeze, inject
from gpt2_lightning.model.architecture import Architecture, build
from gpt2_lightning.model.pretrained import digest, fit_vocabulary, load, read_config, reconciled, shorten

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel


@dataclass(frozen=True)
class AdapterState:
    """What a checkpoint of an adapted model must match.

    Attributes:
        names: of the adapter's own tensors, in the model's `state_dict`.
        base_sha256: of the weights that it adapts.
    """

    names: frozenset[str]
    base_sha256: str


@dataclass(frozen=True)
class Recipe:
    """The options of `GPT2Module` that decide its model; described there."""

    architecture: Architecture
    pretrained: str | None
    change_tokenizer: bool
    trainable: Trainable
    adapter: "PeftConfig | None"
    gradient_checkpointing: bool
    compiled: bool

    def config(self, block_size: int, isolated: bool) -> GPT2Config:
        """The model's configuration, without its vocabulary; checks every option.

        Args:
            block_size: tokens of a row.
            isolated: whether rows have documents that do not see each other.

        Raises:
            InputError: if the options do not fit each other, the pretrained model, or the rows.
        """
        if self.pretrained is None:
            config = self.architecture.config()
            if self.adapter is not None or self.change_tokenizer:
                option = "adapter" if self.adapter is not None else "change_tokenizer"
                raise InputError(
                    f"--model.{option}: is for a model that has learned something; name one with "
                    "--model.pretrained: a hub id, a folder, or a run"
                )
        else:
            path = locate(self.pretrained, "--model.pretrained")
            config = reconciled(read_config(path), self.architecture, path)
        _check_shape(config, block_size)
        check_trainable(self.trainable, config)
        if self.adapter is not None:
            if self.trainable.layers is not None:
                raise InputError(
                    f"--model.trainable.layers {self.trainable.layers} and --model.adapter exclude each "
                    "other: an adapter trains its own weights alone"
                )
            if self.change_tokenizer:
                raise InputError(
                    "--model.change_tokenizer true: the new entries would never train beside "
                    "--model.adapter; fine-tune without one first, then adapt its export"
                )
            check_adapter(self.adapter, config, block_size, isolated, self.gradient_checkpointing)
        if self.change_tokenizer and self.trainable.layers is not None and not self.trainable.embeddings:
            raise InputError(
                "--model.change_tokenizer true: the new entries would never train; give "
                "--model.trainable.embeddings true as well"
            )
        return config

    def build(
        self, config: GPT2Config, tokenizer: PreTrainedTokenizerFast
    ) -> "tuple[GPT2LMHeadModel | PeftModel, AdapterState | None]":
        """The model, ready to train; and what its checkpoints must match, if it is adapted.

        Args:
            config: as `config` gave it.
            tokenizer: of the corpus.

        Raises:
            InputError: if the pretrained weights or the adapter cannot be used.
        """
        if self.pretrained is None:
            path = base_sha256 = ""
            model = build(self.architecture, len(tokenizer), end_of_text_id(tokenizer))
        else:
            path = locate(self.pretrained, "--model.pretrained")
            model = load(path, config)
            base_sha256 = digest(model) if self.adapter is not None else ""
            fit_vocabulary(model, path, tokenizer, self.change_tokenizer)
            shorten(model, config.n_positions)
        freeze(model, self.trainable)
        if self.gradient_checkpointing:
            enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
            enable({"use_reentrant": False})  # transformers' newer name, and its older one
        if self.compiled:
            model.transformer.compile()  # in place: no other name in any checkpoint
        if self.adapter is None:
            return model, None
        adapted, names = inject(model, self.adapter, path)
        return adapted, AdapterState(frozenset(names), base_sha256)


_MOST_LAYERS = 1_000
_BYTES = 4  # of a weight in float32


def _check_shape(config: GPT2Config, block_size: int) -> None:
    if config.n_layer > _MOST_LAYERS:
        raise InputError(f"--model.architecture.n_layer {config.n_layer}: give at most {_MOST_LAYERS:,}")
    inner = config.n_inner or 4 * config.n_embd
    weights = config.n_layer * (4 * config.n_embd + 2 * inner) * config.n_embd
    weights += config.n_positions * config.n_embd
    if weights * _BYTES > (memory := total_memory_bytes()):
        raise InputError(
            f"--model.architecture: {weights:,} weights take {weights * _BYTES / 2**30:,.0f} GiB, and this "
            f"machine has {memory / 2**30:,.0f}: take less of n_layer, n_embd, n_inner or n_positions"
        )
    if config.n_embd % config.n_head:
        raise InputError(
            f"--model.architecture.n_head {config.n_head} does not divide --model.architecture.n_embd "
            f"{config.n_embd}: each head has n_embd / n_head dimensions"
        )
    if block_size > config.n_positions:
        raise InputError(
            f"--data.block_size {block_size} is longer than --model.architecture.n_positions "
            f"{config.n_positions}: take a shorter block, or a model with more positions"
        )


def check_same_shapes(found: dict[str, Any], own: dict[str, Any]) -> None:
    """Refuse a checkpoint's tensors where they are not those of the model, by name and shape.

    Raises:
        InputError: naming the first that differs, with both shapes.
    """
    for name in sorted(own.keys() | found.keys()):
        has, wants = (tuple(state[name].shape) if name in state else "nothing" for state in (found, own))
        if has != wants:
            raise InputError(
                f"--ckpt_path: its model has another shape or vocabulary: {name.removeprefix('model.')} is "
                f"{has} in the checkpoint and {wants} in the model of these options"
            )
