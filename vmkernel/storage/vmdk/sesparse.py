"""seSparse: the redo log of later releases, read only.

An entry's top 4 bits say absent, unmapped, zero or allocated; unmapped reads as zeros, for a range that was given back
must not show what the parent has.
Not modelled: writing, and a journal that must be replayed: such a file is refused.
Source: QEMU, block/vmdk.c; dissect.hypervisor, disk/c_vmdk.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vmkernel.storage.block_file import BlockFile
from vmkernel.storage.disk import NOT_HERE, SECTOR_BYTES, Absent, Below, Packed, Run, Stored
from vmkernel.storage.errors import CorruptImage, DamagedGrain, NotWritable, Unsupported
from vmkernel.storage.vmdk import grain_tables
from vmkernel.storage.vmdk.grain_tables import DIRECTORY_ENTRIES_MAX, Entries, GrainTables, runs_of
from vmkernel.storage.vmdk.sesparse_spec import (
    ABSENT,
    ALLOCATED,
    DIRECTORY_TAG,
    GRAIN_SECTORS,
    HEADER,
    KIND_SHIFT,
    MAGIC,
    OFFSETS,
    PER_TABLE,
    TABLE_SECTORS,
    VERSION,
    VOLATILE,
    VOLATILE_MAGIC,
)

ENTRY = np.dtype("<u8")
LIMIT = 1 << 54
INDEX_HIGH = (1 << 48) - 1  # the part of an entry that is the grain's index divided by 4096
NOWHERE = 1 << 62  # the place of a grain whose entry cannot be true
Raw = NDArray[np.uint64]


class SeSparseTables(GrainTables):
    """Tables as a hosted extent has them once they are read: the sectors of grains, ABSENT, ZERO, and NOWHERE."""

    entry = ENTRY

    def __init__(self, file: BlockFile, directory: Raw, tables_at: int, grains_at: int) -> None:
        """`directory` as the file has it."""
        super().__init__(file, directory, PER_TABLE, grains_at)
        self.tables_at, self.grains_at = tables_at, grains_at

    def read_table(self, index: int, sector: int) -> Entries:
        at = (self.tables_at + (sector & 0xFFFFFFFF) * TABLE_SECTORS) * SECTOR_BYTES
        data = self.file.some_at(at, PER_TABLE * ENTRY.itemsize) if sector >> 32 == DIRECTORY_TAG else b""
        if len(data) < PER_TABLE * ENTRY.itemsize:
            expected = f"{DIRECTORY_TAG:#x} and a table of the file"
            raise DamagedGrain(self.file.path, at, f"grain directory, entry {index}", expected, f"{sector:#x}")
        return places_of(np.frombuffer(data, ENTRY), self.grains_at)


def places_of(entries: Raw, grains_at: int) -> Entries:
    """The sectors where the grains lie."""
    kinds = entries >> np.uint64(KIND_SHIFT)
    grains = (entries >> np.uint64(48) & np.uint64(0xFFF)) | (entries & np.uint64(INDEX_HIGH)) << np.uint64(12)
    places = np.uint64(grains_at) + np.minimum(grains, np.uint64(LIMIT)) * np.uint64(GRAIN_SECTORS)
    places[(kinds != ALLOCATED) | (places <= grain_tables.ZERO)] = NOWHERE
    places[(kinds > ABSENT) & (kinds < ALLOCATED)] = grain_tables.ZERO
    places[entries == 0] = grain_tables.ABSENT
    return places


class SeSparseExtent:
    """One open file, for reading."""

    grain_sectors = GRAIN_SECTORS

    def __init__(self, file: BlockFile, sectors: int, tables: SeSparseTables) -> None:
        self.file: BlockFile = file
        self.sectors, self.first = sectors, 0
        self.tables, self.data_start = tables, tables.data_start

    @classmethod
    def open(cls, file: BlockFile, sectors: int | None = None) -> SeSparseExtent:
        """Raises CorruptImage or Unsupported."""
        path = file.path
        if file.writable:
            raise Unsupported(str(path), "seSparse extent", "opened for reading", "opened for writing")
        h = HEADER.parse(file.bytes_at(0, HEADER.sizeof(), "header of a seSparse extent"))
        capacity = h.capacity if sectors is None else sectors
        rules = {
            "magic": MAGIC, "version": VERSION, "grain_size": GRAIN_SECTORS, "table_size": TABLE_SECTORS, "flags": 0,
        }  # fmt: skip
        for name, value in rules.items():
            if getattr(h, name) != value:
                raise CorruptImage(path, OFFSETS[name], name, f"{value:#x}", f"{getattr(h, name):#x}")
        for name in (
            "capacity",
            "volatile_offset",
            "directory_offset",
            "directory_size",
            "tables_offset",
            "grains_offset",
        ):
            if not 0 < getattr(h, name) < LIMIT:
                raise CorruptImage(path, OFFSETS[name], name, f"1 to {LIMIT - 1} sectors", str(getattr(h, name)))
        if capacity > h.capacity:
            raise CorruptImage(path, OFFSETS["capacity"], "capacity", f"the descriptor's {capacity}", f"{h.capacity}")
        at = h.volatile_offset * SECTOR_BYTES
        v = VOLATILE.parse(file.bytes_at(at, VOLATILE.sizeof(), "volatile header"))
        if v.magic != VOLATILE_MAGIC:
            raise CorruptImage(path, at, "magic of the volatile header", f"{VOLATILE_MAGIC:#x}", f"{v.magic:#x}")
        if v.replay_journal:
            raise Unsupported(f"{path}: byte {at + 24}", "journal", "one that needs no replay", "one that does")
        tables = -(-capacity // (PER_TABLE * GRAIN_SECTORS))
        if tables > min(h.directory_size * SECTOR_BYTES // ENTRY.itemsize, DIRECTORY_ENTRIES_MAX):
            raise CorruptImage(
                path, OFFSETS["directory_size"], "directory_size", f"{tables} entries", f"{h.directory_size} sectors"
            )
        raw = file.bytes_at(h.directory_offset * SECTOR_BYTES, tables * ENTRY.itemsize, "grain directory")
        tables_there = SeSparseTables(file, np.frombuffer(raw, ENTRY), h.tables_offset, h.grains_offset)
        return cls(file, capacity, tables_there)

    @property
    def file_sectors(self) -> int:
        return -(-self.file.size // SECTOR_BYTES)

    def resolve(self, sector: int, count: int) -> list[Run]:
        first, skip = divmod(sector, GRAIN_SECTORS)
        grains = (skip + count - 1) // GRAIN_SECTORS + 1
        if self.tables.is_empty(first, grains):
            return [Absent(count)]
        try:
            entries = self.tables.entries(first, grains)
        except DamagedGrain as error:
            error.block = self.first + sector
            raise
        runs = runs_of(entries, GRAIN_SECTORS, skip, count, zero_entry=True)
        at = sector
        for run in runs:
            if type(run) is Stored and run.at + run.sectors > self.file_sectors:
                self._judge(at, run)
            at += run.sectors
        return runs

    def _judge(self, sector: int, run: Stored) -> None:
        """The file may have grown under another's hands; if it has not, the entry is damaged."""
        self.file.refresh()
        if run.at + run.sectors > self.file_sectors:
            found = "an entry of no kind there is" if run.at >= NOWHERE else f"{run.sectors} sectors at {run.at}"
            grain = f"grain {sector // GRAIN_SECTORS}"
            raise DamagedGrain(self.file.path, 0, grain, "a place in the file", found, self.first + sector)

    def locate(self, sector: int, count: int) -> int | None:
        """Only by tables that are in memory."""
        entry = self.tables.place_at_hand(sector, count, GRAIN_SECTORS)
        if entry == grain_tables.ABSENT:
            return NOT_HERE
        skip = sector % GRAIN_SECTORS
        if entry is None or not self.data_start <= entry <= self.file.size // SECTOR_BYTES - skip - count:
            return None
        return entry + skip

    def stretch(self, sector: int) -> int:
        grain, skip = divmod(sector, GRAIN_SECTORS)
        return min(self.tables.stretch(grain) * GRAIN_SECTORS - skip, self.sectors - sector)

    def unpack(self, run: Packed, views: Sequence[memoryview]) -> None:
        raise NotImplementedError("no grains of a seSparse extent are compressed")

    def write(self, sector: int, views: Sequence[memoryview], below: Below) -> None:
        raise NotWritable(self.file.path, self.first + sector, "seSparse extents are read only")

    def zero(self, sector: int, count: int, below: Below | None) -> None:
        raise NotWritable(self.file.path, self.first + sector, "seSparse extents are read only")

    def start_writing(self) -> None: ...

    def flush(self) -> None: ...

    def finish(self) -> None: ...
