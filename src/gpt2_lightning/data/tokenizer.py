"""How text becomes ids: recipes that give a Hugging Face tokenizer."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from transformers import AutoTokenizer, PreTrainedTokenizerFast

from gpt2_lightning.errors import InputError
from gpt2_lightning.locations import locate
from gpt2_lightning.ranges import BPEVocabSize, PositiveInt

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

    Every text encodes and decodes back to itself, whatever its language. Memory grows with the
    number of distinct words, not with the text.
    Source: Radford et al. 2019, section 2.2.

    Args:
        vocab_size: entries, end-of-text included. 4,096 suits a few megabytes of text.
        max_train_chars: characters of the training split, from its start, that the vocabulary is
            learned from.
    """

    def __init__(self, vocab_size: BPEVocabSize = 4096, max_train_chars: PositiveInt = 2**30) -> None:
        self.vocab_size = int(vocab_size)
        self.max_train_chars = int(max_train_chars)

    def build(self, texts: Iterable[str]) -> PreTrainedTokenizerFast:
        from tokenizers import models, pre_tokenizers, trainers

        tokenizer = _byte_level(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size,
            special_tokens=[END_OF_TEXT],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(_first(texts, self.max_train_chars), trainer)
        return _wrapped(tokenizer)


class Bytes(TokenizerRecipe):
    """The 256 bytes of UTF-8 and end-of-text: no training, every text encodes and decodes back."""

    def build(self, texts: Iterable[str]) -> PreTrainedTokenizerFast:
        from tokenizers import models, pre_tokenizers

        entries = [END_OF_TEXT, *sorted(pre_tokenizers.ByteLevel.alphabet())]
        return _wrapped(_byte_level(models.BPE({entry: number for number, entry in enumerate(entries)}, [])))


class Characters(TokenizerRecipe):
    """The characters of the training split; any other becomes the one unknown character, U+FFFD."""

    def build(self, texts: Iterable[str]) -> PreTrainedTokenizerFast:
        from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

        characters: set[str] = set()
        for text in texts:
            characters.update(text)
        unknown = "\N{REPLACEMENT CHARACTER}"
        entries = [END_OF_TEXT, unknown, *sorted(characters - {unknown})]
        tokenizer = Tokenizer(
            models.WordLevel({entry: number for number, entry in enumerate(entries)}, unk_token=unknown)
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")  # pyright: ignore
        tokenizer.decoder = decoders.Fuse()  # pyright: ignore
        return _wrapped(tokenizer, unknown)


class Pretrained(TokenizerRecipe):
    """A tokenizer that exists: GPT-2's, or any other that `AutoTokenizer` loads.

    Args:
        path: hub id, a local folder, or that of a run; one with OpenAI's `vocab.json` and `merges.txt`
            will do.
        revision: branch, tag or commit on the hub.
    """

    def __init__(self, path: str = "openai-community/gpt2", revision: str = "main") -> None:
        self.path = path
        self.revision = revision

    def build(self, texts: Iterable[str]) -> PreTrainedTokenizerFast:
        return self._loaded

    def settings(self) -> dict[str, Any]:
        """By content, not by name: the same tokenizer at another place gives the same ids."""
        content = self._loaded.backend_tokenizer.to_str()
        end_of_text = end_of_text_id(self._loaded)
        return {"content": hashlib.sha256(content.encode()).hexdigest(), "end_of_text": end_of_text}

    @cached_property
    def _loaded(self) -> PreTrainedTokenizerFast:
        place = locate(self.path, "--data.corpus.tokenizer.path", needs_model=False)
        folder = Path(place)
        try:
            if (folder / "merges.txt").is_file() and not (folder / "tokenizer.json").is_file():
                return _openai_files(folder)
            tokenizer = AutoTokenizer.from_pretrained(place, revision=self.revision)
        except Exception as error:  # a damaged file is a plain Exception of `tokenizers`
            reason = next(iter(str(error).splitlines()), "")
            raise InputError(
                f"--data.corpus.tokenizer.path {self.path!r} cannot be loaded: {reason} Without a network, "
                "give a local folder that holds tokenizer.json, or vocab.json and merges.txt"
            ) from None
        if len(tokenizer) < 2:  # `transformers` makes an empty one where there are no files
            raise InputError(f"--data.corpus.tokenizer.path {self.path!r}: holds no vocabulary")
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise InputError(f"--data.corpus.tokenizer.path {self.path!r}: has no tokenizer.json")
        if tokenizer.eos_token_id is None:
            raise InputError(f"--data.corpus.tokenizer.path {self.path!r}: has no end-of-text (eos) token")
        return tokenizer

    def __repr__(self) -> str:
        return f"Pretrained(path={self.path})"


def _openai_files(folder: Path) -> PreTrainedTokenizerFast:
    from tokenizers import models

    bpe = models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    return _wrapped(_byte_level(bpe))


def _byte_level(model: Any) -> Any:
    from tokenizers import Tokenizer, decoders, pre_tokenizers

    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore
    return tokenizer


def _wrapped(tokenizer: Any, unknown: str = END_OF_TEXT) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        unk_token=unknown,
        clean_up_tokenization_spaces=False,
    )


def _first(texts: Iterable[str], max_chars: int) -> Iterator[str]:
    for text in texts:
        if max_chars <= 0:
            return
        yield text[:max_chars]
        max_chars -= len(text)
