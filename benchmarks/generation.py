"""Continuing texts: this project's loop against `transformers.generate`, side by side.

`python benchmarks/generation.py [--rounds 5]` has random models of two sizes continue 1, 8 and 32 prompts of
32 tokens by 128 tokens, with temperature, top-k and top-p, and prints tokens per second (medians).
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GenerationConfig, PreTrainedTokenizerFast

from gpt2_lightning.machine.hardware import machine
from gpt2_lightning.model.architecture import Architecture, build
from gpt2_lightning.model.generation import continue_texts
from gpt2_lightning.model.sampling import Sampling

PROMPT, NEW = 32, 128
MODELS = {
    "tiny (2M)": (Architecture(n_layer=3, n_head=3, n_embd=192, n_positions=256), 4096),
    "GPT-2 small (124M)": (Architecture(), 50_257),
}


def tokenizer_of(vocab_size: int) -> PreTrainedTokenizerFast:
    """A word is a token; the last is end-of-text."""
    words = {f"w{number}": number for number in range(vocab_size - 1)}
    tokenizer = Tokenizer(models.WordLevel(words | {"<|endoftext|>": vocab_size - 1}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")


def seconds(act: Callable[[], Any]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def main(rounds: int) -> None:
    print(machine(), end="\n\n")
    sampling = Sampling(max_new_tokens=NEW)
    config = GenerationConfig(
        max_new_tokens=NEW,
        do_sample=True,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        eos_token_id=None,
        pad_token_id=0,
        use_cache=True,
    )
    print("| Model | Texts | `transformers.generate`, tokens/s | this project, tokens/s | Ratio |")
    print("|---|---:|---:|---:|---:|")
    for name, (architecture, vocab_size) in MODELS.items():
        tokenizer = tokenizer_of(vocab_size)
        model: Any = build(architecture, vocab_size, vocab_size - 1).eval()
        model.lm_head.weight.data[-1] = 0  # as tied: end-of-text is as likely as any other
        for texts in (1, 8, 32):
            prompts = [" ".join(f"w{n * 7 + text}" for n in range(PROMPT)) for text in range(texts)]
            inputs = tokenizer(prompts, return_tensors="pt")

            def theirs(inputs: Any = inputs, model: Any = model, tokenizer: Any = tokenizer) -> None:
                with torch.no_grad():
                    output = model.generate(**inputs, generation_config=config)
                tokenizer.batch_decode(output[:, PROMPT:])

            def ours(prompts: Any = prompts, model: Any = model, tokenizer: Any = tokenizer) -> None:
                continue_texts(model, tokenizer, prompts, sampling, range(len(prompts)))

            found: list[list[float]] = [[], []]
            for _ in range(rounds + 1):  # the first warms up
                found[0].append(seconds(theirs))
                found[1].append(seconds(ours))
            speeds = [texts * NEW / statistics.median(each[1:]) for each in found]
            print(
                f"| {name} | {texts} | {speeds[0]:,.0f} | {speeds[1]:,.0f} | {speeds[1] / speeds[0]:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    main(parser.parse_args().rounds)
