"""Where a file's bytes lie: runs of the logical volume, found once.

A run is a hole, blocks that are allocated and read as zeros (TBZ), or data. Neighbours that lie one behind the other in
the volume are one run. Offsets within runs go on to the end of the last block, past the file's length.
"""

from __future__ import annotations

from bisect import bisect_right
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmkernel.storage.vmfs3.lun import Lun
from vmkernel.storage.vmfs3.lvm import LogicalVolume

Numbers = NDArray[np.int64]


class Kind(IntEnum):
    """What a run is."""

    HOLE = 0
    TBZ = 1
    DATA = 2


HOLE, DATA = int(Kind.HOLE), int(Kind.DATA)  # a member of an enumeration is slow to get at


class FileRun(NamedTuple):
    """Bytes of a file that lie one behind the other on a device; `lun` is None for what reads as zeros."""

    lun: Lun | None
    offset: int
    length: int


class FileMap:
    """Columns of equal length, by `file_offset`: there are no gaps, and `lv_offset` of a hole is 0.

    `size` is where the last run ends: what follows is a hole that has no run.
    """

    def __init__(self, lv: LogicalVolume, length: Numbers, kind: NDArray[np.uint8], lv_offset: Numbers) -> None:
        ends = np.cumsum(length)
        self.lv = lv
        self.file_offset: Numbers = ends - length
        self.length, self.kind, self.lv_offset = length, kind, lv_offset
        self.size = int(ends[-1]) if len(ends) else 0
        self._starts: list[int] = self.file_offset.tolist()

    def __len__(self) -> int:
        return len(self._starts)

    def runs(self, offset: int, length: int) -> list[FileRun]:
        """In order, neighbours joined, cut where the device changes."""
        found: list[FileRun] = []
        index = max(bisect_right(self._starts, offset) - 1, 0)
        count, length_of, kind, place = len(self._starts), self.length, self.kind, self.lv_offset
        while length > 0:
            if index >= count:
                add(found, FileRun(None, 0, length))
                break
            skip = offset - self._starts[index]
            step = min(length, int(length_of[index]) - skip)
            if kind[index] == DATA:
                for run in self.lv.runs(int(place[index]) + skip, step):
                    add(found, FileRun(run.lun, run.offset, run.length))
            else:
                add(found, FileRun(None, 0, step))
            offset, length, index = offset + step, length - step, index + 1
        return found

    def positions(self, offsets: Numbers) -> Numbers:
        """Bytes of the volume for many bytes of the file; -1 where there is no data."""
        if not len(self._starts):
            return np.full(len(offsets), -1, np.int64)
        index = np.clip(np.searchsorted(self.file_offset, offsets, "right") - 1, 0, len(self._starts) - 1)
        skip = offsets - self.file_offset[index]
        inside = (offsets >= 0) & (skip < self.length[index]) & (self.kind[index] == Kind.DATA)
        return np.where(inside, self.lv_offset[index] + skip, -1)

    def position(self, offset: int) -> int:
        """The same for one."""
        index = bisect_right(self._starts, offset) - 1
        if index < 0 or self.kind[index] != DATA:
            return -1
        skip = offset - self._starts[index]
        return int(self.lv_offset[index]) + skip if skip < self.length[index] else -1

    def allocated(self) -> int:
        """Bytes of blocks that the file has, written or not."""
        return int(self.length[self.kind != Kind.HOLE].sum())

    def data(self) -> int:
        """Bytes of blocks that have been written."""
        return int(self.length[self.kind == Kind.DATA].sum())


def add(found: list[FileRun], run: FileRun) -> None:
    """At the end, joined with what it continues."""
    if found:
        last = found[-1]
        if last.lun is run.lun and (run.lun is None or last.offset + last.length == run.offset):
            found[-1] = FileRun(last.lun, last.offset, last.length + run.length)
            return
    found.append(run)


class MapBuilder:
    """Runs in the order of the file, given block by block or in arrays; neighbours are joined as they come."""

    def __init__(self, lv: LogicalVolume) -> None:
        self.lv = lv
        self._lengths: list[Numbers] = []
        self._kinds: list[NDArray[np.uint8]] = []
        self._places: list[Numbers] = []
        self._hole = 0

    def hole(self, length: int) -> None:
        self._hole += length

    def blocks(self, block_bytes: int, kinds: NDArray[np.uint8], places: Numbers) -> None:
        """Blocks of equal size. The place of a hole does not count."""
        if not len(kinds):
            return
        if len(kinds) == 1:
            self._append(np.array([block_bytes]), kinds, places if kinds[0] != HOLE else np.zeros(1, np.int64))
            return
        places = np.where(kinds == HOLE, 0, places)
        goes_on = (kinds[1:] == kinds[:-1]) & ((kinds[1:] == HOLE) | (places[1:] == places[:-1] + block_bytes))
        first = np.flatnonzero(np.concatenate(([True], ~goes_on)))
        lengths = np.diff(np.append(first, len(kinds))) * block_bytes
        self._append(lengths, kinds[first], places[first])

    def _append(self, lengths: Numbers, kinds: NDArray[np.uint8], places: Numbers) -> None:
        if self._hole:
            if kinds[0] == HOLE:
                lengths = lengths.copy()
                lengths[0] += self._hole
            else:
                self._push(np.array([self._hole]), np.array([HOLE], np.uint8), np.array([0]))
            self._hole = 0
        if kinds[-1] == HOLE:
            self._hole = int(lengths[-1])
            lengths, kinds, places = lengths[:-1], kinds[:-1], places[:-1]
        if len(kinds):
            self._push(lengths, kinds, places)

    def _push(self, lengths: Numbers, kinds: NDArray[np.uint8], places: Numbers) -> None:
        if self._kinds:
            last_kind, last_end = self._kinds[-1][-1], int(self._places[-1][-1] + self._lengths[-1][-1])
            if last_kind == kinds[0] and (last_kind == HOLE or last_end == places[0]):
                self._lengths[-1][-1] += lengths[0]
                lengths, kinds, places = lengths[1:], kinds[1:], places[1:]
                if not len(kinds):
                    return
        self._lengths.append(lengths.astype(np.int64))
        self._kinds.append(kinds.astype(np.uint8))
        self._places.append(places.astype(np.int64))

    def build(self) -> FileMap:
        if self._hole:
            self._push(np.array([self._hole]), np.array([HOLE], np.uint8), np.array([0]))
            self._hole = 0
        if not self._kinds:
            return FileMap(self.lv, np.zeros(0, np.int64), np.zeros(0, np.uint8), np.zeros(0, np.int64))
        lengths, kinds = np.concatenate(self._lengths), np.concatenate(self._kinds)
        return FileMap(self.lv, lengths, kinds, np.concatenate(self._places))
