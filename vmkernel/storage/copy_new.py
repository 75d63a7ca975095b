"""Copies a disk into one that is new and reads as zeros.

What lies bare in a file goes into a bare target by copy_file_range. The rest is read in pieces that may span several
runs, so that neighbouring compressed grains are inflated together, and what is zeros in it is left out.
A thread that reads ahead was measured: on two processors it gains nothing, for both halves are copies of memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from vmkernel.storage.chain import Chain
from vmkernel.storage.copying import PIECE_BYTES, ZERO_GRAIN_BYTES, bare_target, copy_range, filled
from vmkernel.storage.disk import Disk, Piece
from vmkernel.storage.vmdk.flat import FlatExtent

PROGRESS_BYTES = 64 << 20
Progress = Callable[[int, int], None]


def copy_into_new(
    source: Chain, target: Disk, progress: Progress | None = None, *, find_zeros: bool = False
) -> None:
    """All of it, flushed at the end. The disks have the same size. Raises MediaError.

    `find_zeros`: a bare target is to be as thin as it can, so that the host does not copy stored zeros into it.
    """
    bare = None if find_zeros else bare_target(target)
    buffer = memoryview(bytearray(min(PIECE_BYTES, source.size_bytes)))
    for start, end in to_read(source, bare, progress):
        at = start
        while at < end:
            length = min(len(buffer) - at % ZERO_GRAIN_BYTES if len(buffer) == PIECE_BYTES else len(buffer), end - at)
            view = buffer[:length]
            source.read(at, [view])
            for first, stop in filled(view, at):
                target.write(at + first, [view[first:stop]])
            at += length
            if progress is not None:
                progress(at, source.size_bytes)
    target.flush()
    if progress is not None:
        progress(source.size_bytes, source.size_bytes)


def to_read(source: Chain, bare: FlatExtent | None, progress: Progress | None) -> Iterator[tuple[int, int]]:
    """Ranges with data that has to be read; what the host copies is copied on the way."""
    start = end = 0
    for piece in source.runs(0, source.size_bytes):
        if piece.file is None or (bare is not None and not piece.packed and copied(source, piece, bare, progress)):
            continue
        if piece.start != end:
            if start < end:
                yield start, end
            start = piece.start
        end = piece.start + piece.length
        if end - start >= PROGRESS_BYTES:
            yield start, end
            start = end
    if start < end:
        yield start, end


def copied(source: Chain, piece: Piece, bare: FlatExtent, progress: Progress | None) -> bool:
    """By the host, in parts, so that it can be told how far it is. False: the host does not do it."""
    for done in range(0, piece.length, PROGRESS_BYTES):
        length = min(PROGRESS_BYTES, piece.length - done)
        part = piece._replace(start=piece.start + done, length=length, offset=piece.offset + done)
        if not copy_range(part, bare):
            return False
        if progress is not None:
            progress(part.start + length, source.size_bytes)
    return True
