"""How text becomes ids: recipes that make a Hugging Face tokenizer from the training split."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, cast

from transformers import PreTrainedTokenizerFast

from gpt2_lightning.ranges import BPEVocabSize

END_OF_TEXT = "<|endoftext|>"


def end_of_text_id(tokenizer: PreTrainedTokenizerFast) -> int:
    """The id that closes every document."""
    return cast(int, tokenizer.eos_token_id)


class TokenizerRecipe(ABC):
    """A way to get a tokenizer; the same recipe and text always give the same tokenizer."""

    @abstractmethod
    def build(self, texts: Iterable[str]) -> PreTrainedTokenizerFast:
        """The tokenizer, with an end-of-text token, for a training split of `texts`."""

    def settings(self) -> dict[str, Any]:
        """What decides the tokenizer besides the text, as plain JSON."""
        return {"kind": type(self).__name__, **vars(self)}

    def __repr__(self) -> str:
        """The recipe as it is called, which is what `--help` shows as the default."""
        return f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in vars(self).items())})"


class ByteLevelBPE(TokenizerRecipe):
    """GPT-2's tokenization with its own vocabulary: byte-level BPE trained on the training split.

    Every text encodes and decodes back to itself, whatever its language.
    Source: Radford et al. 2019, section 2.2.

    Args:
        vocab_size: entries, end-of-text included. 4,096 suits a few megabytes of text.
    """

    def __init__(self, vocab_size: BPEVocabSize = 4096) -> None:
        self.vocab_size = int(vocab_size)

    def build(self, texts: Iterable[str]) -> PreTrainedTokenizerFast:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore
        tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size,
            special_tokens=[END_OF_TEXT],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            bos_token=END_OF_TEXT,
            eos_token=END_OF_TEXT,
            unk_token=END_OF_TEXT,
            clean_up_tokenization_spaces=False,
        )
