"""What the sparse extents that can be written have in common: requests to runs, and how new grains come in.

A write into grains that are there goes in place. Neighbouring grains that are not there yet get neighbouring places at
the end of the file and one write, completed from the parent at both ends. Their table entries are kept in memory until
`flush`: the grains are made durable, then the tables that point at them, then the header. What is cut short in between
leaves grains that nothing points at, and loses nothing that was flushed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from vmkernel.storage.block_file import ZEROS, BlockFile, cut
from vmkernel.storage.disk import NOT_HERE, SECTOR_BYTES, Absent, Below, Packed, Run, Stored
from vmkernel.storage.errors import DamagedGrain, NeedsRepair, OutOfSpace
from vmkernel.storage.vmdk.grain_tables import ABSENT, GTE, ZERO, GrainTables, runs_of

SECTOR_LIMIT = 1 << 32


class GrainExtent:
    """Base of the formats: a subclass knows its header, where tables and grains may be put, and its flags."""

    NAME: ClassVar[str]

    def __init__(self, file: BlockFile, sectors: int, grain_sectors: int, tables: GrainTables, data_start: int) -> None:
        self.file: BlockFile = file
        self.sectors, self.grain_sectors = sectors, grain_sectors
        self.tables, self.data_start = tables, data_start
        self.has_zero_entry = False
        self.first = 0  # the disk's sector where this extent begins, for what errors say

    # reading

    def resolve(self, sector: int, count: int) -> list[Run]:
        first, skip = divmod(sector, self.grain_sectors)
        last = (sector + count - 1) // self.grain_sectors
        if self.tables.is_empty(first, last - first + 1):
            return [Absent(count)]
        try:
            entries = self.tables.entries(first, last - first + 1)
        except DamagedGrain as error:
            error.block = self.first + sector
            raise
        runs = runs_of(entries, self.grain_sectors, skip, count, self.has_zero_entry)
        end = self.file_sectors
        for run in runs:
            if type(run) is Stored and not self.data_start <= run.at <= end - run.sectors:
                self._judge(sector, runs)
        return runs

    def locate(self, sector: int, count: int) -> int | None:
        """Only by tables that are in memory."""
        entry = self.tables.place_at_hand(sector, count, self.grain_sectors)
        if entry == ABSENT:
            return NOT_HERE
        skip = sector % self.grain_sectors
        if entry is None or not self.data_start <= entry <= self.file.size // SECTOR_BYTES - skip - count:
            return None
        return entry + skip

    def stretch(self, sector: int) -> int:
        grain, skip = divmod(sector, self.grain_sectors)
        return min(self.tables.stretch(grain) * self.grain_sectors - skip, self.sectors - sector)

    def _judge(self, sector: int, runs: list[Run]) -> None:
        """The file may have grown under another's hands; if it has not, the entry is damaged."""
        self.file.refresh()
        for run in runs:
            if isinstance(run, Stored) and not self.data_start <= run.at <= self.file_sectors - run.sectors:
                raise DamagedGrain(
                    self.file.path,
                    run.at * SECTOR_BYTES,
                    f"place of grain {sector // self.grain_sectors}",
                    f"sectors {self.data_start} to {self.file_sectors - 1}",
                    f"{run.sectors} sectors at {run.at}",
                    self.first + sector,
                )
            sector += run.sectors

    def unpack(self, run: Packed, views: Sequence[memoryview]) -> None:
        raise NotImplementedError(f"{self.NAME} has no compressed grains")

    @property
    def file_sectors(self) -> int:
        return -(-self.file.size // SECTOR_BYTES)

    # writing

    def write(self, sector: int, views: Sequence[memoryview], below: Below) -> None:
        count = sum(map(len, views)) // SECTOR_BYTES
        done = 0
        new: list[Run] = []
        for run in self.resolve(sector, count):
            if not isinstance(run, Stored):
                new.append(run)
                continue
            done = self._write_new(sector, done, new, views, below)
            new = []
            self.file.write(run.at * SECTOR_BYTES, cut(views, done * SECTOR_BYTES, run.sectors * SECTOR_BYTES))
            done += run.sectors
        self._write_new(sector, done, new, views, below)

    def _write_new(self, sector: int, done: int, new: list[Run], views: Sequence[memoryview], below: Below) -> int:
        """Grains for runs that have none; `done` sectors of the request are written. Returns what is written then."""
        if not new:
            return done
        grain = self.grain_sectors
        start, count = sector + done, sum(run.sectors for run in new)
        first, last = start // grain, (start + count - 1) // grain
        at = self._place(first, last - first + 1)
        head = self._fill(first * grain, start, new[0], below)
        tail = self._fill(start + count, (last + 1) * grain, new[-1], below)
        self.file.write(at * SECTOR_BYTES, [head, *cut(views, done * SECTOR_BYTES, count * SECTOR_BYTES), tail])
        self._placed(at + (last - first + 1) * grain)
        self.tables.set(first, np.arange(at, at + (last - first + 1) * grain, grain, dtype=np.int64).astype(GTE))
        if self.tables.is_full:
            self.write_tables()
        return done + count

    def _fill(self, start: int, end: int, run: Run, below: Below) -> bytes:
        """What the rest of a grain holds: the parent's sectors, or zeros, and zeros past the end of the disk."""
        inside = min(end, self.sectors)
        data = below(start, inside - start) if isinstance(run, Absent) and inside > start else b""
        return data + bytes((end - start) * SECTOR_BYTES - len(data))

    def zero(self, sector: int, count: int, below: Below | None) -> None:
        for run in self.resolve(sector, count):
            if isinstance(run, Stored):
                self.file.zero(run.at * SECTOR_BYTES, run.sectors * SECTOR_BYTES, punch=True)
            elif isinstance(run, Absent) and below is not None:
                self._hide(sector, run.sectors, below)
            sector += run.sectors

    def _hide(self, sector: int, count: int, below: Below) -> None:
        """Zeros over what a parent has."""
        grain = self.grain_sectors
        first, end = -(-sector // grain), (sector + count) // grain
        if not self.has_zero_entry or first >= end:
            self._write_zeros(sector, count, below)
            return
        self._write_zeros(sector, first * grain - sector, below)
        self._ensure_tables(first, end - first)
        self.tables.set(first, np.full(end - first, ZERO, GTE))
        if self.tables.is_full:
            self.write_tables()
        self._write_zeros(end * grain, sector + count - end * grain, below)

    def _write_zeros(self, sector: int, count: int, below: Below) -> None:
        step = len(ZEROS) // SECTOR_BYTES
        for at in range(sector, sector + count, step):
            self.write(at, [ZEROS[: min(step, sector + count - at) * SECTOR_BYTES]], below)

    def flush(self) -> None:
        if self.tables.dirty:
            self.write_tables()
        self.file.sync()

    def no_room(self, sectors: int, at: int) -> OutOfSpace:
        return OutOfSpace(
            self.file.path, at * SECTOR_BYTES, f"no room for {sectors} sectors below sector {SECTOR_LIMIT}"
        )

    def refuse(self, what: str, expected: str, found: str) -> NeedsRepair:
        return NeedsRepair(str(self.file.path), what, expected, found)

    # what a format decides

    def _ensure_tables(self, first: int, count: int) -> None:
        """Grain tables for these grains."""
        raise NotImplementedError

    def _place(self, first: int, count: int) -> int:
        """The sector of the file for these new grains in a row, whose tables exist then. Raises OutOfSpace."""
        raise NotImplementedError

    def _placed(self, end: int) -> None:
        """They are written, and end before this sector."""
        raise NotImplementedError

    def write_tables(self) -> None:
        """Sync what was written, then write the tables that point at it; not synced themselves."""
        raise NotImplementedError

    def start_writing(self) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        raise NotImplementedError
