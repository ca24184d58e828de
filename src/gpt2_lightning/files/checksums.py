"""The SHA-256 of a folder's files beside them, in the form that `sha256sum --check` reads."""

import hashlib
from pathlib import Path

from gpt2_lightning.errors import InputError

SUMS = "SHA256SUMS"


def write_sums(folder: Path) -> None:
    """Write the digests of every file of a folder, which has no folders inside, into its `SHA256SUMS`."""
    paths = sorted(path for path in folder.iterdir() if path.name != SUMS)
    (folder / SUMS).write_text("".join(f"{sha256_of(path)}  {path.name}\n" for path in paths))


def check_sums(folder: Path) -> None:
    """Nothing, if the files are those that `SHA256SUMS` lists, or there is no such file.

    Raises:
        InputError: naming the file that was altered or is missing.
    """
    if not (folder / SUMS).is_file():
        return
    for line in (folder / SUMS).read_text().splitlines():
        digest, _, name = line.partition("  ")
        path = folder / name
        if not path.is_file() or sha256_of(path) != digest:
            state = "was altered after it was written" if path.exists() else "is missing"
            raise InputError(
                f"{path}: {state} ({SUMS} has another digest); export the run again, or remove {SUMS} if the "
                "change is yours"
            )


def sha256_of(path: Path) -> str:
    """The SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
