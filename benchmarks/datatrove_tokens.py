"""Tokenize JSON Lines with datatrove, two tasks side by side, into shards that `DATA=tokens` reads.

What a cluster does with thousands of tasks, on one machine:
`python benchmarks/datatrove_tokens.py IN TOKENIZER OUT`. Needs `pip install "datatrove[io,processing]"`.
"""

import argparse
from pathlib import Path


def tokenize(folder: Path, tokenizer: str, out: Path, tasks: int = 2) -> None:
    """Write one `.ds` shard per task, each with its index.

    Args:
        folder: with `*.jsonl` files whose records have a field `text`.
        tokenizer: a `tokenizer.json`, or a hub id.
        out: for the shards.
        tasks: number of shards, at most the number of files.
    """
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer

    steps = [
        JsonlReader(str(folder), glob_pattern="*.jsonl"),
        DocumentTokenizer(str(out), tokenizer_name_or_path=tokenizer, eos_token="<|endoftext|>"),
    ]
    logs = str(out / "logs")
    LocalPipelineExecutor(pipeline=steps, tasks=tasks, workers=tasks, logging_dir=logs).run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with *.jsonl files")
    parser.add_argument("tokenizer", help="a tokenizer.json, or a hub id")
    parser.add_argument("out", type=Path, help="for the shards")
    options = parser.parse_args()
    tokenize(options.folder, options.tokenizer, options.out)
