"""Reads a VMFS volume as one contender does, and prints the seconds and a checksum: a program of its own.

    vmfs_reader.py WHO WHAT IMAGE PATH     WHO: ours, dissect, vmfs-fuse, pread; WHAT: read, list

vmfs-fuse's IMAGE is where it has mounted the volume, pread's a host file of the same bytes. The volume is in no cache
of the contender: for `list` it is opened within what is measured.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

MIB, PAGE = 1 << 20, 4096
PARTITION = 128 * 512
CHECKED = 64  # reads that the checksum is of
Read = Callable[[int, memoryview], Any]
Facts = list[tuple[str, int, int, int]]


def buffer(size: int) -> memoryview:
    """Memory that is there, 64 bytes behind the start of a page: where it is decides the rate of a copy."""
    view = memoryview(mmap.mmap(-1, size + PAGE))
    view[:] = bytes(len(view))
    return view[64 : 64 + size]


class Part:
    """A partition as a file, for dissect; unbuffered, with one call to the host for each of its reads."""

    def __init__(self, image: str) -> None:
        self.fd, self.at = os.open(image, os.O_RDONLY), 0
        self.size = os.fstat(self.fd).st_size - PARTITION

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = offset + (0, self.at, self.size)[whence]
        return self.at

    def tell(self) -> int:
        return self.at

    def read(self, length: int = -1) -> bytes:
        data = os.pread(self.fd, self.size - self.at if length < 0 else length, PARTITION + self.at)
        self.at += len(data)
        return data


def dissected(image: str) -> Any:
    from dissect.vmfs import lvm, vmfs  # type: ignore[import-untyped]  # noqa: PLC0415

    return vmfs.VMFS(lvm.LVM(Part(image)).volumes[0].open())


def opened(who: str, image: str, path: str) -> tuple[int, Read]:
    """Size of the file, and how to read it."""
    if who == "ours":
        from vmkernel.storage.vmfs3.volume import Volume  # noqa: PLC0415

        volume = Volume.open([Path(image)])
        file = volume.open_file(volume.lookup(path))
        return file.size, lambda offset, view: file.read(offset, [view])
    if who == "dissect":
        stream = dissected(image).get(path).open()

        def read(offset: int, view: memoryview) -> None:
            stream.seek(offset)
            data = stream.read(len(view))
            if offset < CHECKED * MIB:  # what is read goes nowhere, for everybody
                view[:] = data

        return stream.size, read
    fd = os.open(image + path if who == "vmfs-fuse" else image, os.O_RDONLY)
    return os.fstat(fd).st_size, lambda offset, view: os.preadv(fd, [view], offset)


def read_all(who: str, image: str, path: str) -> tuple[float, int]:
    size, read = opened(who, image, path)
    view = buffer(MIB)
    checksum = 0
    for offset in range(0, CHECKED * MIB, MIB):
        read(offset, view)
        checksum = zlib.crc32(view, checksum)
    start = time.perf_counter()
    for offset in range(0, size, MIB):
        read(offset, view)
    return time.perf_counter() - start, checksum


def listing(who: str, image: str, path: str) -> Facts:
    """Name, size, mode and time of every file of a directory."""
    if who == "ours":
        from vmkernel.storage.vmfs3.volume import Volume  # noqa: PLC0415

        with Volume.open([Path(image)]) as volume:
            entries, table = volume.listing(volume.lookup(path))
            columns = (table[name].tolist() for name in ("length", "mode", "mtime"))
            return list(zip((entry.name for entry in entries), *columns, strict=True))
    if who == "dissect":
        facts = []
        for entry in dissected(image).get(path).iterdir():
            if entry.name not in (".", ".."):
                fd = entry.fd
                facts.append((entry.name, fd.size, fd.metadata.mode, fd.metadata.mtime))
        return facts
    with os.scandir(image + path) as found:
        return [(entry.name, (status := entry.stat()).st_size, status.st_mode, int(status.st_mtime)) for entry in found]


def list_all(who: str, image: str, path: str) -> tuple[float, int]:
    imported(who)
    start = time.perf_counter()
    facts = listing(who, image, path)
    seconds = time.perf_counter() - start
    return seconds, zlib.crc32(repr(sorted(facts)).encode())


def imported(who: str) -> None:
    """Loading the library is not what is measured."""
    if who == "ours":
        import vmkernel.storage.vmfs3.volume  # noqa: F401, PLC0415
    elif who == "dissect":
        from dissect.vmfs import lvm, vmfs  # noqa: F401, PLC0415


if __name__ == "__main__":
    _, name, kind, image_name, file_name = sys.argv
    took, check = (read_all if kind == "read" else list_all)(name, image_name, file_name)
    print(json.dumps({"seconds": took, "checksum": check}))
