"""What is built for the real guests, kept in the user's cache: one folder per recipe and input.

    ~/.cache/ringfence/realguests/NAME-KEY/    KEY is a digest of the inputs and of the sources of the recipe

A build happens in a folder of its own which is renamed into place, so nobody sees half of one. A build that was not
used for UNUSED_DAYS goes when another is made.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from guests.builder import cache_folder

HERE = Path(__file__).resolve().parent
KEY_LETTERS = 16
UNUSED_DAYS = 30


def folder() -> Path:
    """$XDG_CACHE_HOME/ringfence/realguests, or ~/.cache/...; it exists."""
    path = cache_folder().parent / "realguests"
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def alone(name: str) -> Iterator[None]:
    """One process at a time: two that want the same thing make it once."""
    with (folder() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def built(name: str, inputs: str, sources: tuple[str, ...], build: Callable[[Path], None]) -> Path:
    """The folder that `build` fills, made unless one from these inputs and these files beside this one is kept."""
    digest = hashlib.sha256(inputs.encode())
    for source in sources:
        digest.update(b"\0" + source.encode() + b"\0" + (HERE / source).read_bytes())
    kept = folder() / f"{name}-{digest.hexdigest()[:KEY_LETTERS]}"
    if kept.is_dir():
        os.utime(kept)
        return kept
    with alone(name):
        if not kept.is_dir():
            scratch = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder()))
            try:
                build(scratch)
                scratch.chmod(0o755)
                os.utime(scratch)
                scratch.rename(kept)
                drop_unused()
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    return kept


def drop_unused() -> None:
    oldest = time.time() - UNUSED_DAYS * 86400
    for path in folder().glob(f"*-{'[0-9a-f]' * KEY_LETTERS}"):
        if path.is_dir() and path.stat().st_mtime < oldest:
            shutil.rmtree(path, ignore_errors=True)
