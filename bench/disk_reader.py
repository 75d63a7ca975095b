"""Reads a disk as one contender does, and prints the seconds and a checksum: a program of its own, for any Python.

    disk_reader.py WHO WHAT PATH COUNT [PASSES]

WHO: ours, pyvmdk, dissect, pread; WHAT: sequential, random, batch, open. COUNT is of 1 MiB reads, all of them PASSES
times, or of 4 KiB reads at random offsets. The seconds are those of one pass. Nothing of this package but the contender
is imported.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

MIB, PAGE = 1 << 20, 4096
CHECKED = 16  # reads that the checksum is of
BATCH = 1024  # reads in one call
SEED = 4711
PLACE = 240  # of our buffer within a page
Read = Callable[[int, int], Any]


def buffer(size: int) -> memoryview:
    """Memory that is there.

    Where a copy ends up within its page decides its rate on some processors, by as much as two. The large `bytes` that
    the others return begin 48 bytes behind its start; that is as good as 240 up to some percent.
    """
    view = memoryview(mmap.mmap(-1, size + PAGE))
    view[:] = bytes(len(view))
    return view[PLACE : PLACE + size]


def ours(path: str) -> tuple[int, Read]:
    """Into one buffer, which is what our interface is for."""
    from vmkernel.storage.chain import open_disk  # noqa: PLC0415

    disk = open_disk(Path(path))
    views = {size: buffer(size) for size in (PAGE, MIB)}
    lists = {size: [view] for size, view in views.items()}
    read_into = disk.read

    def read(offset: int, size: int) -> memoryview:
        read_into(offset, lists[size])
        return views[size]

    return disk.size_bytes, read


def pyvmdk(path: str) -> tuple[int, Read]:
    """Its parents have to be attached by hand."""
    import pyvmdk as library  # type: ignore[import-not-found]  # noqa: PLC0415

    kept: list[Any] = []

    def opened(where: str) -> Any:
        handle = library.handle()
        handle.open(where)
        handle.open_extent_data_files()
        parent = parent_of(where)
        if parent:
            kept.append(opened(parent))  # the library does not
            handle.set_parent(kept[-1])
        return handle

    handle = opened(path)
    at_offset = handle.read_buffer_at_offset
    return handle.get_media_size(), lambda offset, size: at_offset(size, offset)


def parent_of(path: str) -> str:
    """The file that a descriptor of its own names as parent."""
    with open(path, "rb") as file:
        head = file.read(4096)
    for line in head.split(b"\n") if head.startswith(b"#") else ():
        if line.startswith(b"parentFileNameHint="):
            return os.path.join(os.path.dirname(path), line.split(b'"')[1].decode())
    return ""


def dissect(path: str) -> tuple[int, Read]:
    """A file object."""
    from dissect.hypervisor.disk.vmdk import VMDK  # type: ignore[import-untyped]  # noqa: PLC0415

    disk = VMDK(Path(path))

    def read(offset: int, size: int) -> bytes:
        disk.seek(offset)
        return bytes(disk.read(size))

    return disk.size, read


def pread(path: str) -> tuple[int, Read]:
    """The host's own call on a file of bare sectors."""
    fd = os.open(path, os.O_RDONLY)
    return os.lseek(fd, 0, os.SEEK_END), lambda offset, size: os.pread(fd, size, offset)


CONTENDERS = {"ours": ours, "pyvmdk": pyvmdk, "dissect": dissect, "pread": pread}


def pages(size: int, count: int) -> list[int]:
    chance = random.Random(SEED)
    return [chance.randrange(size // PAGE) * PAGE for _ in range(count)]


def batch(path: str, count: int) -> tuple[float, int]:
    """All reads in some calls; the seconds, and the checksum of the first."""
    import numpy as np  # noqa: PLC0415

    from vmkernel.storage.batch import read_batch  # noqa: PLC0415
    from vmkernel.storage.chain import open_disk  # noqa: PLC0415

    disk = open_disk(Path(path))
    offsets = np.array(pages(disk.size_bytes, count), np.int64)
    out = buffer(BATCH * PAGE)
    read_batch(disk, offsets[:CHECKED], PAGE, out)  # so that buffers and code are there
    start = time.perf_counter()
    for at in range(0, count, BATCH):
        read_batch(disk, offsets[at : at + BATCH], PAGE, out)
    seconds = time.perf_counter() - start
    read_batch(disk, offsets[:CHECKED], PAGE, out)
    return seconds, zlib.crc32(out[: CHECKED * PAGE])


def measured(who: str, what: str, path: str, count: int, passes: int = 1) -> tuple[float, int]:
    """(seconds, checksum)."""
    if what == "batch":
        return batch(path, count)
    if what == "open":
        CONTENDERS[who](path)  # loads the library
    start = time.perf_counter()
    size, read = CONTENDERS[who](path)
    if what == "open":
        read(size // 2 // PAGE * PAGE, PAGE)
        return time.perf_counter() - start, 0
    if what == "sequential":
        length, offsets = MIB, [at * MIB for at in range(count)]
    else:
        length, offsets = PAGE, pages(size, count)
    for offset in offsets[:CHECKED]:
        read(offset, length)  # so that buffers and code are there
    start = time.perf_counter()
    for _ in range(passes):
        for offset in offsets:
            read(offset, length)
    seconds = (time.perf_counter() - start) / passes
    checksum = 0
    for offset in offsets[:CHECKED]:
        checksum = zlib.crc32(read(offset, length), checksum)
    return seconds, checksum


if __name__ == "__main__":
    _, name, kind, file_name, *numbers = sys.argv
    took, check = measured(name, kind, file_name, *map(int, numbers))
    print(json.dumps({"seconds": took, "checksum": check}))
