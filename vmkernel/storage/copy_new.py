"""Copies a disk into one that is new and reads as zeros.

What lies bare in a file goes into a bare target by copy_file_range. The rest is read in pieces that may span several
runs, so that neighbouring compressed grains are inflated together, and what is zeros in it is left out. A thread
reads, inflates and looks for zeros, one piece ahead of what is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import NamedTuple

from vmkernel.storage.copying import PIECE_BYTES, ZERO_GRAIN_BYTES, bare_target, copy_range, filled
from vmkernel.storage.disk import Disk, Piece
from vmkernel.storage.vmdk.flat import FlatExtent

PROGRESS_BYTES = 64 << 20  # by the host in one go, or in one range
Progress = Callable[[int, int], None]


class Part(NamedTuple):
    """The copy has come to byte `end`, once the `filled` ranges of what was read from byte `start` on are written."""

    start: int
    end: int
    data: memoryview
    filled: list[tuple[int, int]]


def copy_into_new(
    source: Disk, target: Disk, progress: Progress | None = None, *, find_zeros: bool = False
) -> None:
    """All of it, flushed at the end. The disks have the same size. Raises MediaError.

    `find_zeros`: a bare target is to be as thin as it can, so that the host does not copy stored zeros into it.
    """
    parts = read_parts(source, None if find_zeros else bare_target(target))
    with ThreadPoolExecutor(1, "read-ahead") as ahead:
        reading = ahead.submit(next, parts, None)
        while (part := reading.result()) is not None:
            reading = ahead.submit(next, parts, None)
            for first, stop in part.filled:
                target.write(part.start + first, [part.data[first:stop]])
            if progress is not None:
                progress(part.end, source.size_bytes)
    target.flush()
    if progress is not None:
        progress(source.size_bytes, source.size_bytes)


def read_parts(source: Disk, bare: FlatExtent | None) -> Iterator[Part]:
    """What is to be written. Data is there until the next part but one is asked for: two buffers take turns."""
    size = min(PIECE_BYTES, source.size_bytes)
    buffers = cycle([memoryview(bytearray(size)), memoryview(bytearray(size))])
    nothing = memoryview(b"")
    for start, end, is_copied in to_read(source, bare):
        if is_copied:
            yield Part(start, end, nothing, [])
            continue
        at = start
        while at < end:
            length = min(size - at % ZERO_GRAIN_BYTES if size == PIECE_BYTES else size, end - at)
            data = next(buffers)[:length]
            source.read(at, [data])
            yield Part(at, at + length, data, filled(data, at))
            at += length


def to_read(source: Disk, bare: FlatExtent | None) -> Iterator[tuple[int, int, bool]]:
    """(start, end, whether the host has copied it) of ranges with data, as far apart as they are on the disk."""
    start = end = 0
    for piece in source.runs(0, source.size_bytes):
        if piece.file is None:
            continue
        for part in parts_of(piece):
            if bare is not None and not part.packed and copy_range(part, bare):
                yield part.start, part.start + part.length, True
                continue
            if part.start != end or end - start >= PROGRESS_BYTES:
                if start < end:
                    yield start, end, False
                start = part.start
            end = part.start + part.length
    if start < end:
        yield start, end, False


def parts_of(piece: Piece) -> Iterator[Piece]:
    """So small that an interruption does not wait long for the host. A compressed grain is one."""
    if piece.packed:
        yield piece
        return
    for done in range(0, piece.length, PROGRESS_BYTES):
        length = min(PROGRESS_BYTES, piece.length - done)
        yield piece._replace(start=piece.start + done, length=length, offset=piece.offset + done)
