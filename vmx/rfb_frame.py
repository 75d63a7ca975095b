"""The picture as the remote screen's clients last could see it, and which of its squares have changed since.

The machine's lock is held while the picture is drawn, and no longer. What is said to have changed is compared with what
was there, so that a guest that writes the same again causes no traffic.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

SQUARE = 16
FIRST_SHAPE = (400, 720, 3)  # text mode's, until something is drawn
LOCK_WAIT_S = 0.2
RECTANGLES_MAX = 128  # with more than this, one around them all

Area = tuple[int, int, int, int]  # x, y, width, height
Grid = NDArray[np.bool_]


class PictureSource(Protocol):
    """The display adapter's picture. All of it is called under the machine's lock."""

    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""

    def render(self) -> NDArray[np.uint8]:
        """(height, width, 3): RGB."""

    def changes(self) -> Sequence[Area]:
        """What may differ from the picture as it was at the last call; everything after a change of size."""


class Frame:
    """One picture for all clients. `changed` is what the last `poll` found, and `resized` whether its size differed."""

    def __init__(self, source: PictureSource, lock: threading.Lock) -> None:
        self._source, self._lock = source, lock
        self.pixels = np.zeros(FIRST_SHAPE, dtype=np.uint8)
        self.changed: Grid = np.ones(grid_shape(*self.size), dtype=bool)
        self.resized = False
        self._is_drawn = False

    @property
    def size(self) -> tuple[int, int]:
        height, width, _ = self.pixels.shape
        return width, height

    def poll(self) -> None:
        """Look at the machine. One that is busy for long is left alone: nothing has changed then."""
        self.resized = False
        self.changed = np.zeros(grid_shape(*self.size), dtype=bool)
        if not self._lock.acquire(timeout=LOCK_WAIT_S):
            return
        try:
            areas = self._source.changes()
            if not areas and self._is_drawn and self._source.size() == self.size:
                return
            picture = np.array(self._source.render(), dtype=np.uint8)
        finally:
            self._lock.release()
        self._is_drawn = True
        if not picture.size:
            picture = np.zeros(FIRST_SHAPE, dtype=np.uint8)
        before, self.pixels = self.pixels, picture
        if before.shape != picture.shape:
            self.resized = True
            self.changed = np.ones(grid_shape(*self.size), dtype=bool)
            return
        for area in areas if len(areas) <= RECTANGLES_MAX else [(0, 0, *self.size)]:
            self._compare(before, area)

    def _compare(self, before: NDArray[np.uint8], area: Area) -> None:
        """Mark the squares of an area that differ."""
        rows, columns = squares_touched(area, self.changed)
        for row in range(rows.start, rows.stop):
            lines = slice(row * SQUARE, (row + 1) * SQUARE)
            across = slice(columns.start * SQUARE, columns.stop * SQUARE)
            differs = (self.pixels[lines, across] != before[lines, across]).any(axis=(0, 2))
            padded = np.pad(differs, (0, -len(differs) % SQUARE))
            self.changed[row, columns] |= padded.reshape(-1, SQUARE).any(axis=1)

    def cut(self, area: Area) -> NDArray[np.uint8]:
        """The pixels of an area; black where it reaches beyond the picture."""
        x, y, width, height = area
        piece = self.pixels[y : y + height, x : x + width]
        if piece.shape[:2] == (height, width):
            return piece
        whole = np.zeros((height, width, 3), dtype=np.uint8)
        whole[: piece.shape[0], : piece.shape[1]] = piece
        return whole


def grid_shape(width: int, height: int) -> tuple[int, int]:
    return -(-height // SQUARE), -(-width // SQUARE)


def squares_touched(area: Area, grid: Grid) -> tuple[slice, slice]:
    """Rows and columns of the grid that an area has a part of."""
    x, y, width, height = area
    return _within(y, height, grid.shape[0]), _within(x, width, grid.shape[1])


def _within(start: int, length: int, squares: int) -> slice:
    first, last = max(0, start // SQUARE), min(squares, -(-(start + length) // SQUARE))
    return slice(min(first, squares), max(min(first, squares), last))


def intersection(a: Area, b: Area) -> Area:
    """Of no width or height where they do not meet."""
    x, y = max(a[0], b[0]), max(a[1], b[1])
    right, bottom = min(a[0] + a[2], b[0] + b[2]), min(a[1] + a[3], b[1] + b[3])
    return x, y, max(0, right - x), max(0, bottom - y)


def union(a: Area, b: Area) -> Area:
    """The smallest area around both."""
    x, y = min(a[0], b[0]), min(a[1], b[1])
    right, bottom = max(a[0] + a[2], b[0] + b[2]), max(a[1] + a[3], b[1] + b[3])
    return x, y, right - x, bottom - y


def areas_of(grid: Grid) -> list[Area]:
    """Rectangles, in pixels, that cover the marked squares: equal runs in rows that follow each other are one."""
    areas: list[Area] = []
    open_runs: dict[tuple[int, int], int] = {}
    for row in range(grid.shape[0] + 1):
        runs = row_runs(grid[row]) if row < grid.shape[0] else []
        for run, first in list(open_runs.items()):
            if run not in runs:
                areas.append(_area(run, first, row))
                del open_runs[run]
        for run in runs:
            open_runs.setdefault(run, row)
    if len(areas) > RECTANGLES_MAX:
        rows, columns = np.nonzero(grid)
        areas = [_area((int(columns.min()), int(columns.max()) + 1), int(rows.min()), int(rows.max()) + 1)]
    return areas


def row_runs(row: NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate(([0], row.view(np.int8), [0]))))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def _area(columns: tuple[int, int], first: int, end: int) -> Area:
    start, stop = columns
    return start * SQUARE, first * SQUARE, (stop - start) * SQUARE, (end - first) * SQUARE
