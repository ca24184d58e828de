"""How fast text becomes tokens and tokens become batches: `python benchmarks/corpora.py [TEXT TOKENIZER]`.

Without a text, the documentation inside the running Python, with a vocabulary of its own.

Side by side on the same text, in processes of their own: this project's token store, and the usual
`datasets.map(batched)` with `group_texts`. Then the loader alone, from a warm store.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from itertools import chain
from pathlib import Path

from gpt2_lightning.machine.hardware import machine

BLOCK_SIZE = 256


def store(text: Path, tokenizer: str, folder: Path) -> int:
    """Tokens of the text as a token store."""
    from gpt2_lightning.data.corpus import Corpus
    from gpt2_lightning.data.sources import JSONFiles
    from gpt2_lightning.data.store_builder import open_or_build
    from gpt2_lightning.data.tokenizer import Pretrained

    built = open_or_build(folder, Corpus(JSONFiles(str(text)), Pretrained(tokenizer), 0.05))
    return sum(counts.tokens for counts in built.splits.values())


def usual(text: Path, tokenizer: str, folder: Path) -> int:
    """Tokens of the text through `datasets`, as the common fine-tuning scripts do."""
    import datasets

    from gpt2_lightning.data.tokenizer import Pretrained

    datasets.disable_progress_bars()
    tokenize = Pretrained(tokenizer).build(())
    tokenize.model_max_length = 10**9

    def group_texts(examples: dict) -> dict:
        joined = {name: list(chain(*lists)) for name, lists in examples.items()}
        total = len(joined["input_ids"]) // BLOCK_SIZE * BLOCK_SIZE
        blocks = {
            name: [ids[start : start + BLOCK_SIZE] for start in range(0, total, BLOCK_SIZE)]
            for name, ids in joined.items()
        }
        return blocks | {"labels": blocks["input_ids"]}

    data = datasets.load_dataset("json", data_files=str(text), split="train", cache_dir=str(folder))
    data = data.map(lambda batch: tokenize(batch["text"]), batched=True, remove_columns=["text"])
    return len(data.map(group_texts, batched=True)) * BLOCK_SIZE


def loader(text: Path, tokenizer: str, folder: Path) -> dict[str, float]:
    """Seconds to the first batch from a warm store, and tokens per second of the loader alone."""
    from gpt2_lightning.data.corpus import Corpus
    from gpt2_lightning.data.datamodule import TextDataModule
    from gpt2_lightning.data.sources import JSONFiles
    from gpt2_lightning.data.tokenizer import Pretrained

    started = time.perf_counter()
    corpus = Corpus(JSONFiles(str(text)), Pretrained(tokenizer), 0.05)
    data = TextDataModule(corpus, block_size=BLOCK_SIZE, micro_batch_size=8, folder=str(folder))
    data.prepare_data()
    data.setup()
    batches = iter(data.train_dataloader())
    next(batches)
    first = time.perf_counter() - started
    started, tokens = time.perf_counter(), 0
    for batch in batches:
        tokens += batch["input_ids"].numel()
        if time.perf_counter() - started > 5:
            break
    return {"first": first, "rate": tokens / (time.perf_counter() - started)}


def measure(kind: str, text: Path, tokenizer: str, folder: Path) -> dict[str, float]:
    """One of the three in a process of its own: seconds, tokens, and memory above its start."""
    command = [sys.executable, __file__, str(text), tokenizer, "--measure", kind, "--folder", str(folder)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(printed.splitlines()[-1])


def measured(kind: str, text: Path, tokenizer: str, folder: Path) -> dict[str, float]:
    import torch  # noqa: F401  (part of the start, not of the work)
    import transformers  # noqa: F401

    from gpt2_lightning.data.tokenizer import Pretrained

    Pretrained(tokenizer).build(())
    if kind == "loader":
        return loader(text, tokenizer, folder)
    start, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    tokens = {"store": store, "usual": usual}[kind](text, tokenizer, folder)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start
    return {"seconds": seconds, "tokens": tokens, "mib": peak / 1024}


def copies(text: str, number: int, path: Path) -> int:
    """The text so many times, in records of about 4,000 characters; returns its bytes."""
    records = [text[start : start + 4000] for start in range(0, len(text), 4000)]
    with path.open("w", encoding="utf-8") as file:
        for copy in range(number):
            file.writelines(json.dumps({"text": f"{copy} {record}"}) + "\n" for record in records)
    return len(text.encode()) * number


def python_docs(folder: Path) -> tuple[Path, str]:
    """The documentation inside the running Python as one file, and a tokenizer for it."""
    from gpt2_lightning.data.sources import PythonDocs
    from gpt2_lightning.data.tokenizer import ByteLevelBPE
    from gpt2_lightning.files.lines import ignore

    texts = [document.text for document in PythonDocs().documents(ignore)]
    (folder / "text.txt").write_text("\n".join(texts), encoding="utf-8")
    ByteLevelBPE().build(texts).save_pretrained(folder / "tokenizer")
    return folder / "text.txt", str(folder / "tokenizer")


def main(text: Path, tokenizer: str, numbers: list[int], repeats: int) -> None:
    print(machine(), end="\n\n")
    content = text.read_text(encoding="utf-8")
    print(
        f"{'copies':>6} {'MB':>7} {'store MB/s':>11} {'usual MB/s':>11} {'ratio':>6} "
        f"{'store MiB':>10} {'usual MiB':>10}"
    )
    for number in numbers:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            size = copies(content, number, folder / "text.jsonl") / 1e6
            runs: dict[str, list[dict[str, float]]] = {"store": [], "usual": []}
            for repeat in range(repeats):
                for kind, results in runs.items():
                    place = folder / f"{kind}{repeat}"
                    results.append(measure(kind, folder / "text.jsonl", tokenizer, place))
            best = {
                kind: sorted(each, key=lambda r: r["seconds"])[len(each) // 2] for kind, each in runs.items()
            }
            ours, theirs = best["store"], best["usual"]
            print(
                f"{number:>6} {size:>7.1f} {size / ours['seconds']:>11.2f} {size / theirs['seconds']:>11.2f} "
                f"{theirs['seconds'] / ours['seconds']:>6.2f} {ours['mib']:>10.0f} {theirs['mib']:>10.0f}",
                flush=True,
            )
            if number == numbers[-1]:
                warm = measure("loader", folder / "text.jsonl", tokenizer, folder / "store0")
                print(
                    f"\nloader alone: {warm['rate']:,.0f} tokens/s; first batch from a warm store: "
                    f"{warm['first']:.2f} s"
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path, nargs="?", help="a UTF-8 text file")
    parser.add_argument("tokenizer", nargs="?", help="a hub id, or a folder with GPT-2's BPE")
    parser.add_argument("--copies", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", choices=["store", "usual", "loader"])
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measured(options.measure, options.text, options.tokenizer, options.folder)))
    elif options.tokenizer:
        main(options.text, options.tokenizer, options.copies, options.repeats)
    else:
        with tempfile.TemporaryDirectory() as name:
            main(*python_docs(Path(name)), options.copies, options.repeats)
