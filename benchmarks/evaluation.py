"""Perplexity in sliding windows: this project's against the usual loop of Hugging Face's guide.

`python benchmarks/evaluation.py [--rounds 3]` measures random models of two sizes on random tokens, at
several strides, side by side, and prints tokens per second (medians) and how far the NLLs are apart,
relative to the usual loop's. In bf16 too, where the CPU does not only emulate it.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from gpt2_lightning.machine.hardware import fastest_format, machine
from gpt2_lightning.model.architecture import Architecture
from gpt2_lightning.model.pretrained import reconciled
from gpt2_lightning.model.scoring import token_nll, windows

MODELS = {  # shape, vocabulary, tokens to measure, strides
    "tiny (2M)": (
        {"n_layer": 3, "n_head": 3, "n_embd": 192, "n_positions": 256},
        4096,
        20_000,
        (64, 128, 255),
    ),
    "GPT-2 small (124M)": ({}, 50_257, 6_000, (256, 512)),
}


def theirs(model: Any, tokens: np.ndarray, block_size: int, stride: int) -> float:
    ids = torch.from_numpy(np.concatenate([tokens[-1:], tokens]).astype(np.int64))[None]
    total = count = previous = 0
    for begin in range(0, ids.shape[1], stride):
        end = min(begin + block_size + 1, ids.shape[1])
        labels = ids[:, begin:end].clone()
        labels[:, : -(end - previous)] = -100
        with torch.no_grad():
            loss = model(ids[:, begin:end], labels=labels).loss
        number = int((labels[:, 1:] != -100).sum())
        total, count, previous = total + loss.item() * number, count + number, end
        if end == ids.shape[1]:
            break
    return total / count


def ours(model: Any, tokens: np.ndarray, block_size: int, stride: int) -> float:
    return float(token_nll(model, tokens, windows(0, len(tokens), block_size, stride)).mean())


def ours_in_bf16(*arguments: Any) -> float:
    with torch.autocast("cpu", torch.bfloat16):
        return ours(*arguments)


def timed(act: Callable[..., float], *arguments: Any) -> tuple[float, float]:
    start = time.perf_counter()
    value = act(*arguments)
    return time.perf_counter() - start, value


def main(rounds: int) -> None:
    print(machine(), end="\n\n")
    in_bf16 = fastest_format(torch.device("cpu")) == torch.bfloat16
    print(
        "| Model | Stride | Usual loop, tokens/s | this project | Ratio | NLL |"
        + " bf16-mixed | Ratio | NLL |" * in_bf16
    )
    print("|---|" + "---:|" * (7 if in_bf16 else 4))
    for name, (shape, vocab_size, count, strides) in MODELS.items():
        torch.manual_seed(0)
        config = GPT2Config(vocab_size=vocab_size, bos_token_id=0, eos_token_id=0, **shape)
        plain = GPT2LMHeadModel(config).eval()
        mine = GPT2LMHeadModel(reconciled(config, Architecture(), name)).eval()
        mine.load_state_dict(plain.state_dict())
        tokens = np.random.default_rng(0).integers(0, vocab_size, count)
        block_size = config.n_positions - 1
        ways = {theirs: plain, ours: mine} | ({ours_in_bf16: mine} if in_bf16 else {})
        for stride in strides:
            rounds_of = [
                [timed(way, model, tokens, block_size, stride) for way, model in ways.items()]
                for _ in range(rounds)
            ]
            speeds = [count / statistics.median(each[n][0] for each in rounds_of) for n in range(len(ways))]
            nll = [rounds_of[0][n][1] for n in range(len(ways))]
            cells = [
                f"{speeds[n]:,.0f} | {speeds[n] / speeds[0]:.2f} | {abs(nll[n] / nll[0] - 1):.0e}"
                for n in range(1, len(ways))
            ]
            print(f"| {name} | {stride} | {speeds[0]:,.0f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    main(parser.parse_args().rounds)
