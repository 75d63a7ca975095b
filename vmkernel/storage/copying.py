"""Copies one disk into another of the same size, by its runs: what is zeros is not read, and stays or becomes zeros.

Data that lies bare in a file goes to a bare extent by copy_file_range, which lets the host share the blocks; the rest
is read and written in pieces, and all-zero grains of it are left out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ringfence.errors import BadOption
from vmkernel.storage.block_file import BlockFile
from vmkernel.storage.chain import Chain
from vmkernel.storage.disk import Disk, Piece
from vmkernel.storage.vmdk.flat import FlatExtent

PIECE_BYTES = 4 << 20
ZERO_GRAIN_BYTES = 64 << 10
Progress = Callable[[int, int], None]


def copy_disk(source: Disk, target: Disk, *, target_is_new: bool = False, progress: Progress | None = None) -> None:
    """All sectors, flushed at the end. `target_is_new`: it reads as zeros, so zeros need no write. Raises BadOption."""
    if source.size_bytes > target.size_bytes:
        raise BadOption(f"copy: the target has {target.size_bytes} bytes, and the source {source.size_bytes}")
    bare = bare_target(target)
    for piece in source.runs(0, source.size_bytes):
        if piece.file is None:
            if not target_is_new:
                target.zero(piece.start, piece.length)
        elif bare is None or piece.packed or not copy_range(piece, bare):
            copy_piece(source, target, piece, target_is_new)
        if progress is not None:
            progress(piece.start + piece.length, source.size_bytes)
    target.flush()


def bare_target(target: Disk) -> FlatExtent | None:
    """The one flat extent that a disk is, without parent; it is marked as written."""
    if not isinstance(target, Chain) or len(target.links) > 1 or len(target.links[0].extents) > 1:
        return None
    extent = target.links[0].extents[0]
    if not isinstance(extent, FlatExtent) or not target.writable or not extent.file.writable:
        return None
    target.links[0].start_writing(extent)
    return extent


def copy_range(piece: Piece, extent: FlatExtent) -> bool:
    """False: the host does not copy between these files."""
    assert isinstance(piece.file, BlockFile)
    return extent.file.copy_from(piece.file, piece.offset, extent.offset * 512 + piece.start, piece.length)


def copy_piece(source: Disk, target: Disk, piece: Piece, target_is_new: bool) -> None:
    buffer = memoryview(bytearray(min(PIECE_BYTES, piece.length)))
    at, end = piece.start, piece.start + piece.length
    while at < end:
        length = min(PIECE_BYTES - at % ZERO_GRAIN_BYTES, end - at)
        view = buffer[:length] if length <= len(buffer) else memoryview(bytearray(length))
        source.read(at, [view])
        for start, stop in filled(view, at) if target_is_new else [(0, length)]:
            target.write(at + start, [view[start:stop]])
        at += length


def filled(view: memoryview, at: int) -> list[tuple[int, int]]:
    """The parts that are not zeros, cut where grains of the disk begin; `at` is where the view lies on it."""
    parts: list[tuple[int, int]] = []
    words = np.frombuffer(view, np.uint64)
    start = 0
    while start < len(view):
        stop = min(start + ZERO_GRAIN_BYTES - (at + start) % ZERO_GRAIN_BYTES, len(view))
        if words[start // 8 : stop // 8].any():
            if parts and parts[-1][1] == start:
                parts[-1] = (parts[-1][0], stop)
            else:
                parts.append((start, stop))
        start = stop
    return parts
