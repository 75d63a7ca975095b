"""seSparse: the redo log of later releases, read only.

An entry's top 4 bits say absent, unmapped, zero or allocated; unmapped reads as zeros, for a range that was given back
must not show what the parent has.
Not modelled: writing, and a journal that must be replayed: such a file is refused.
Source: QEMU, block/vmdk.c; dissect.hypervisor, disk/c_vmdk.py.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vmkernel.storage.block_file import BlockFile
from vmkernel.storage.disk import SECTOR_BYTES, Absent, Below, Packed, Run, Stored, Zeros
from vmkernel.storage.errors import CorruptImage, DamagedGrain, NotWritable, Unsupported
from vmkernel.storage.vmdk.grain_tables import DIRECTORY_ENTRIES_MAX
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
CACHED_TABLES = 256
LIMIT = 1 << 54
INDEX_HIGH = (1 << 48) - 1  # the part of an entry that is the grain's index divided by 4096
Table = NDArray[np.uint64]


class SeSparseExtent:
    """One open file, for reading."""

    def __init__(self, file: BlockFile, sectors: int, directory: Table, tables_at: int, grains_at: int) -> None:
        self.file: BlockFile = file
        self.sectors, self.first = sectors, 0
        self.directory, self.tables_at, self.grains_at = directory, tables_at, grains_at
        self._cache: OrderedDict[int, Table] = OrderedDict()
        self._none = np.zeros(PER_TABLE, ENTRY)

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
        return cls(file, capacity, np.frombuffer(raw, ENTRY), h.tables_offset, h.grains_offset)

    def table(self, index: int) -> Table:
        found = self._cache.get(index)
        if found is not None:
            self._cache.move_to_end(index)
            return found
        entry = int(self.directory[index])
        if not entry:
            return self._none
        number = entry & 0xFFFFFFFF
        at = (self.tables_at + number * TABLE_SECTORS) * SECTOR_BYTES
        data = self.file.some_at(at, PER_TABLE * ENTRY.itemsize) if entry >> 32 == DIRECTORY_TAG else b""
        if len(data) < PER_TABLE * ENTRY.itemsize:
            expected = f"{DIRECTORY_TAG:#x} and a table of the file"
            raise DamagedGrain(self.file.path, at, f"grain directory, entry {index}", expected, f"{entry:#x}")
        table = np.frombuffer(data, ENTRY)
        self._cache[index] = table
        if len(self._cache) > CACHED_TABLES:
            self._cache.popitem(last=False)
        return table

    def resolve(self, sector: int, count: int) -> list[Run]:
        runs: list[Run] = []
        while count:
            if (empty := self._empty(sector)) > 0:
                runs.append(Absent(min(empty, count)))
                sector, count = sector + runs[-1].sectors, count - runs[-1].sectors
                continue
            index, inside = divmod(sector, PER_TABLE * GRAIN_SECTORS)
            taken = min(count, PER_TABLE * GRAIN_SECTORS - inside)
            try:
                runs += self._in_table(self.table(index), inside, taken)
            except DamagedGrain as error:
                error.block = self.first + sector
                raise
            sector, count = sector + taken, count - taken
        return runs

    def _empty(self, sector: int) -> int:
        """How many sectors from this one on have no table."""
        index, inside = divmod(sector, PER_TABLE * GRAIN_SECTORS)
        if self.directory[index]:
            return 0
        tables = np.flatnonzero(self.directory[index:])
        missing = int(tables[0]) if len(tables) else len(self.directory) - index
        return missing * PER_TABLE * GRAIN_SECTORS - inside

    def locate(self, sector: int, count: int) -> int | None:
        return None

    def stretch(self, sector: int) -> int:
        whole = self._empty(sector) or PER_TABLE * GRAIN_SECTORS - sector % (PER_TABLE * GRAIN_SECTORS)
        return min(whole, self.sectors - sector)

    def _in_table(self, table: Table, sector: int, count: int) -> list[Run]:
        first, skip = divmod(sector, GRAIN_SECTORS)
        last = (sector + count - 1) // GRAIN_SECTORS
        entries = table[first : last + 1]
        kinds = (entries >> np.uint64(KIND_SHIFT)).astype(np.int64)
        grains = (
            (entries >> np.uint64(48) & np.uint64(0xFFF)) | (entries & np.uint64(INDEX_HIGH)) << np.uint64(12)
        ).astype(np.int64)
        same = (kinds[1:] == kinds[:-1]) & ((kinds[1:] != ALLOCATED) | (grains[1:] == grains[:-1] + 1))
        edges = [0, *(np.flatnonzero(~same) + 1).tolist(), len(entries)]
        runs: list[Run] = []
        for start, end in pairwise(edges):
            length = min((end - start) * GRAIN_SECTORS - skip, count)
            runs.append(self._run(int(entries[start]), int(kinds[start]), int(grains[start]), skip, length))
            count, skip = count - length, 0
        return runs

    def _run(self, entry: int, kind: int, grain: int, skip: int, count: int) -> Run:
        if kind == ALLOCATED:
            at = self.grains_at + grain * GRAIN_SECTORS + skip
            if at + count <= -(-self.file.size // SECTOR_BYTES) or at + count <= -(
                -self.file.refresh() // SECTOR_BYTES
            ):
                return Stored(count, at)
        elif kind == ABSENT and not entry:
            return Absent(count)
        elif ABSENT < kind < ALLOCATED:
            return Zeros(count)
        raise DamagedGrain(self.file.path, 0, "entry of a grain table", "a grain of the file", f"{entry:#x}")

    def unpack(self, run: Packed, views: Sequence[memoryview]) -> None:
        raise NotImplementedError("no grains of a seSparse extent are compressed")

    def write(self, sector: int, views: Sequence[memoryview], below: Below) -> None:
        raise NotWritable(self.file.path, self.first + sector, "seSparse extents are read only")

    def zero(self, sector: int, count: int, below: Below | None) -> None:
        raise NotWritable(self.file.path, self.first + sector, "seSparse extents are read only")

    def start_writing(self) -> None: ...

    def flush(self) -> None: ...

    def finish(self) -> None: ...
