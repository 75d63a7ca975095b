"""Where a disk's data lives, for people: runs with their neighbours joined, and the disk as a grid of equal cells."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vmkernel.storage.chain import NOBODY, Chain
from vmkernel.storage.disk import SECTOR_BYTES, Piece


def joined_runs(disk: Chain, offset: int, length: int) -> Iterator[Piece]:
    """Like `runs`; compressed grains of one file that follow each other on the disk are one piece."""
    held: Piece | None = None
    for piece in disk.runs(offset, length):
        if held is not None and held.packed and piece.packed and held.file is piece.file and held.layer == piece.layer:
            held = held._replace(length=held.length + piece.length)
            continue
        if held is not None:
            yield held
        held = piece
    if held is not None:
        yield held


def is_data(piece: Piece) -> bool:
    return piece.file is not None


def layer_bytes(disk: Chain) -> list[int]:
    """How many bytes of what is read come from each link's files, base first."""
    found = [0] * len(disk.links)
    for piece in disk.runs(0, disk.size_bytes):
        if is_data(piece):
            found[piece.layer] += piece.length
    return found


def grid(disk: Chain, cells: int) -> NDArray[np.float64]:
    """For each of up to `cells` equal ranges the share that each link has, base first: shape (cells, links)."""
    cells = max(1, min(cells, disk.sectors))
    edges = np.linspace(0, disk.sectors, cells + 1).round().astype(np.int64)
    shares = np.zeros((cells, len(disk.links)))
    for piece in disk.runs(0, disk.size_bytes):
        if not is_data(piece) or piece.layer == NOBODY:
            continue
        start, end = piece.start // SECTOR_BYTES, (piece.start + piece.length) // SECTOR_BYTES
        first = int(np.searchsorted(edges, start, "right")) - 1
        last = int(np.searchsorted(edges, end, "left"))
        covered = np.minimum(edges[first + 1 : last + 1], end) - np.maximum(edges[first:last], start)
        shares[first:last, piece.layer] += covered
    return shares / np.maximum(np.diff(edges), 1)[:, None]
