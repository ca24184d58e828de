"""What an offline file of Weights & Biases holds.

wandb 0.31 has no reader for its own files in Python. They are a header of 7 bytes and then LevelDB's log
format: blocks of 32 KiB of records, each with a checksum, a length and whether it is a whole message or
its first, middle or last part. Source: https://github.com/google/leveldb/blob/main/doc/log_format.md
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_FILE_HEADER = 7
_BLOCK = 32 * 1024
_RECORD_HEADER = 7  # checksum 4, length 2, kind 1
_WHOLE, _LAST = 1, 4


def messages(path: Path) -> Iterator[Any]:
    """The messages of a file, `wandb.proto`'s `Record`, up to where a kill may have cut it."""
    from wandb.proto import wandb_internal_pb2

    record: Any = wandb_internal_pb2.Record  # pyright: ignore[reportAttributeAccessIssue]
    content, at, message = path.read_bytes(), _FILE_HEADER, b""
    while True:
        if _BLOCK - at % _BLOCK < _RECORD_HEADER:
            at += _BLOCK - at % _BLOCK  # no room for another record's header
        start = at + _RECORD_HEADER
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6 : at + 7]
        if start + length > len(content) or not kind:
            return
        message, at = message + content[start : start + length], start + length
        if kind[0] in (_WHOLE, _LAST):
            yield record.FromString(message)
            message = b""


def history(path: Path) -> dict[int, dict[str, Any]]:
    """The recorded rows of a file by step; a value is a number, or a dictionary that says its `_type`."""
    rows: dict[int, dict[str, Any]] = {}
    for message in messages(path):
        if message.HasField("history"):
            row: dict[str, Any] = {}
            for item in message.history.item:
                *outer, last = item.nested_key or [item.key]
                place = row
                for key in outer:
                    place = place.setdefault(key, {})
                place[last] = json.loads(item.value_json)
            rows.setdefault(int(row.pop("_step")), {}).update(row)
    return rows
