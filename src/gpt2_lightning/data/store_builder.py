"""A corpus becomes a token store: once, in bounded memory, never half there and never stale."""

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from gpt2_lightning.data.corpus import Corpus
from gpt2_lightning.data.store_in_place import StoreInPlace
from gpt2_lightning.data.token_store import TokenStore
from gpt2_lightning.data.tokenized_store import TokenizedStore
from gpt2_lightning.errors import InputError, placed
from gpt2_lightning.files.digests import FileDigests
from gpt2_lightning.files.whole import replacing_folder, write_json

_OURS = re.compile(r"\w+-[0-9a-f]{16}\.(\w+\.)?part")
_FORMAT = 7  # part of the fingerprint: raise it whenever the same inputs give other files


def open_or_build(root: Path, corpus: Corpus, place: str = "--data.corpus") -> TokenStore:
    """The store of a corpus below `root`: the one that is there, or a new one.

    Of several processes that want the same store, one builds it while the others wait. A store is
    written beside its place and renamed, so that it is whole or absent; one with a damaged file is
    built again. Of token files only what is known about them is written, not the ids.

    Args:
        root: folder of the stores.
        corpus: of text, or of token files.
        place: of the corpus among the options, for messages.

    Raises:
        InputError: if `root` cannot be written, a record is not text, or a split would be empty.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        digests = FileDigests(root / "digests.json")
        try:
            with placed(place):
                return _open_or_build(root, corpus, digests)
        finally:
            digests.save()
    except OSError as error:  # of the store: a source says itself what it cannot read
        raise InputError(
            f"--data.folder {str(root)!r}: cannot be used ({error.strerror or error}"
            f"{f', {error.filename}' if error.filename else ''})"
        ) from None


def _open_or_build(root: Path, corpus: Corpus, digests: FileDigests) -> TokenStore:
    kind = StoreInPlace if corpus.is_in_place else TokenizedStore
    key = _key(corpus, digests)
    folder = root / f"{corpus.name}-{key[:16]}"
    with _lock(folder):
        if folder.exists():
            try:
                return kind.open(folder, corpus, digests)
            except (FileNotFoundError, ValueError, TypeError, KeyError) as error:
                print(f"{folder} is damaged ({error}): building it again", flush=True)
                shutil.rmtree(folder)
        _sweep(root, folder)
        print(kind.announcement.format(name=corpus.name, folder=folder), flush=True)
        _build(kind, folder, key, corpus, digests)
        return kind.open(folder, corpus, digests)


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """One process at a time builds a store; a build that fails leaves nothing behind."""
    path = Path(f"{folder}.lock")
    with FileLock(path):
        try:
            yield
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def _key(corpus: Corpus, digests: FileDigests) -> str:
    return hashlib.sha256(f"{_FORMAT} {corpus.fingerprint(digests)}".encode()).hexdigest()


def _sweep(root: Path, own: Path) -> None:
    """Remove what builds that were killed have left; one that is at work holds its lock."""
    for part in filter(Path.is_dir, root.glob("*.part")):
        if not _OURS.fullmatch(part.name):
            continue  # the user's
        folder = root / part.name.split(".")[0]
        lock = nullcontext() if folder == own else FileLock(f"{folder}.lock", timeout=0)  # our own is held
        with suppress(Timeout), lock:
            shutil.rmtree(part, ignore_errors=True)


def _build(kind: type[TokenStore], folder: Path, key: str, corpus: Corpus, digests: FileDigests) -> None:
    with replacing_folder(folder) as work:
        known = kind.build(corpus, work)
        if _key(corpus, digests) != key:
            raise InputError(f"{corpus.name}: a file was changed while it was read; start again")
        write_json(work / "manifest.json", {"fingerprint": key, **known})
    if known["rejected"]:
        print(f"left out {known['rejected']:,} records; they are in {folder}/quarantine.jsonl", flush=True)
