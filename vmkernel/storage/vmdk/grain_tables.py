"""Grain directory and grain tables of a sparse extent: which grain of the disk lies where in the file.

A directory entry is the sector of a table, a table entry that of a grain. Tables are read when they are asked for and
kept in a cache of bounded size; a changed one stays until `write_back`, which the extent calls once the grains that it
points at are safe. Looking up many grains is one numpy operation for each table.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vmkernel.storage.block_file import BlockFile
from vmkernel.storage.disk import SECTOR_BYTES, Absent, Run, Stored, Zeros
from vmkernel.storage.errors import CorruptImage, DamagedGrain

CACHE_BYTES = 8 << 20  # of tables, for each extent: all those of 64 GiB in grains of 64 KiB
DIRTY_TABLES_MAX = 256
LISTED_MAX = 32  # entries that Python compares as fast as numpy does
STRETCH_TABLES = 1 << 16  # looked through at once for the next one there is
DIRECTORY_ENTRIES_MAX = 1 << 25
ABSENT, ZERO = 0, 1  # entries that are not the sector of a grain
Entries = NDArray[np.unsignedinteger]
GTE = np.dtype("<u4")
ENTRIES_A_SECTOR = SECTOR_BYTES // GTE.itemsize


def read_directory(file: BlockFile, sector: int, count: int, what: str = "grain directory") -> Entries:
    """`count` directory entries. Raises CorruptImage when the file does not hold them all."""
    if not 0 < count <= DIRECTORY_ENTRIES_MAX:
        raise CorruptImage(file.path, sector * SECTOR_BYTES, what, f"1 to {DIRECTORY_ENTRIES_MAX} entries", f"{count}")
    data = file.bytes_at(sector * SECTOR_BYTES, count * GTE.itemsize, what)
    return np.frombuffer(bytearray(data), GTE)


class GrainTables:
    """The tables that one directory points at, of `per_table` entries each."""

    entry: ClassVar[np.dtype[np.unsignedinteger]] = GTE  # what the tables in memory consist of

    def __init__(self, file: BlockFile, directory: Entries, per_table: int, data_start: int) -> None:
        self.file, self.directory, self.per_table = file, directory, per_table
        self.table_sectors = -(-per_table * self.entry.itemsize // SECTOR_BYTES)
        self.data_start = data_start  # the first sector of the file where a table can be
        self.fallback: Entries | None = None  # another directory, of copies of the same tables
        self.fallbacks_used: set[int] = set()
        self.dirty: dict[int, set[int]] = {}  # by table: the sectors of it that were changed
        self._cache: OrderedDict[int, Entries] = OrderedDict()
        self._keep = max(CACHE_BYTES // (per_table * self.entry.itemsize), 4)
        self._none = np.zeros(per_table, self.entry)
        self._none.flags.writeable = False

    def table(self, index: int) -> Entries:
        """One table, all zeros where the directory has none. Raises DamagedGrain for one that cannot be there."""
        found = self._cache.get(index)
        if found is not None:
            self._cache.move_to_end(index)
            return found
        sector = int(self.directory[index])
        if not sector:
            return self._none
        try:
            table = self.read_table(index, sector)
        except DamagedGrain:
            if self.fallback is None or not self.fallback[index]:
                raise
            self.fallbacks_used.add(index)
            table = self.read_table(index, int(self.fallback[index]))
        return self._keep_table(index, table)

    def read_table(self, index: int, sector: int) -> Entries:
        data = b""
        if sector >= self.data_start:
            data = self.file.some_at(sector * SECTOR_BYTES, self.per_table * GTE.itemsize)
        if len(data) < self.per_table * GTE.itemsize:
            where = f"a sector from {self.data_start} to the end of the file at byte {self.file.size}"
            raise DamagedGrain(self.file.path, sector * SECTOR_BYTES, f"grain table {index}", where, f"sector {sector}")
        return np.frombuffer(bytearray(data), GTE)

    def _keep_table(self, index: int, table: Entries) -> Entries:
        self._cache[index] = table
        while len(self._cache) > self._keep:
            for oldest in self._cache:
                if oldest not in self.dirty:
                    del self._cache[oldest]
                    break
            else:
                break
        return table

    def place_at_hand(self, sector: int, count: int, grain_sectors: int) -> int | None:
        """The entry of the grain that `sector` is in, where the whole range lies together or is absent; else None."""
        grain, skip = divmod(sector, grain_sectors)
        if skip + count > grain_sectors:
            return self.neighbours_at_hand(grain, (skip + count - 1) // grain_sectors + 1, grain_sectors)
        index, slot = divmod(grain, self.per_table)
        table = self._cache.get(index)
        if table is None:
            return None if self.directory[index] else ABSENT
        self._cache.move_to_end(index)
        entry: int = table.item(slot)
        return entry

    def neighbours_at_hand(self, first: int, count: int, step: int) -> int | None:
        """The first entry of grains that lie `step` apart in the file, or are all absent; None: they do not."""
        index, slot = divmod(first, self.per_table)
        table = self._cache.get(index)
        if slot + count > self.per_table:
            return None
        if table is None:
            return None if self.directory[index] else ABSENT
        self._cache.move_to_end(index)
        entries = table[slot : slot + count]
        start = int(entries[0])
        if start == ABSENT:
            return None if entries.any() else ABSENT
        if count <= LISTED_MAX:
            together = entries.tolist() == list(range(start, start + count * step, step))
        else:
            together = bool((entries[1:] - entries[:-1] == step).all())  # unsigned: a fall is no step
        return start if together else None

    def entries(self, first: int, count: int) -> Entries:
        """The entries of consecutive grains; not to be written into."""
        index, slot = divmod(first, self.per_table)
        if slot + count <= self.per_table:
            return self.table(index)[slot : slot + count]
        parts = []
        while count:
            taken = min(count, self.per_table - slot)
            parts.append(self.table(index)[slot : slot + taken])
            index, slot, count = index + 1, 0, count - taken
        return np.concatenate(parts)

    def is_empty(self, first: int, count: int) -> bool:
        """Has none of these grains a table?"""
        start, end = first // self.per_table, (first + count - 1) // self.per_table + 1
        return not self.directory[start] and not self.directory[start:end].any()

    def stretch(self, grain: int) -> int:
        """How many grains from this one on are in one table, or in none."""
        index, slot = divmod(grain, self.per_table)
        if self.directory[index]:
            return self.per_table - slot
        tables = np.flatnonzero(self.directory[index : index + STRETCH_TABLES])
        missing = int(tables[0]) if len(tables) else min(STRETCH_TABLES, len(self.directory) - index)
        return missing * self.per_table - slot

    def lookup(self, grains: NDArray[np.int64]) -> NDArray[np.int64]:
        """The entries of any grains, in their order."""
        numbers, slots = np.divmod(grains, self.per_table)
        indexes, which = np.unique(numbers, return_inverse=True)
        if len(indexes) <= self._keep:
            return self._lookup(indexes, which, slots)
        found = np.empty(len(grains), np.int64)
        for first in range(0, len(indexes), self._keep):
            part = np.flatnonzero((which >= first) & (which < first + self._keep))
            found[part] = self._lookup(indexes[first : first + self._keep], which[part] - first, slots[part])
        return found

    def _lookup(
        self, indexes: NDArray[np.int64], which: NDArray[np.int64], slots: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """The entries at `slots` of the `which`-th of the tables of these numbers."""
        if not len(indexes):
            return np.zeros(0, np.int64)
        tables = np.concatenate([self.table(index) for index in indexes.tolist()])
        return tables[which * self.per_table + slots].astype(np.int64)

    def add_table(self, index: int, sector: int) -> None:
        """A table of zeros that the extent has just written at `sector`."""
        self.directory[index] = sector
        self._keep_table(index, np.zeros(self.per_table, GTE))

    def set(self, first: int, values: Entries) -> None:
        """Change the entries of consecutive grains, all of whose tables are there."""
        done = 0
        while done < len(values):
            index, slot = divmod(first + done, self.per_table)
            taken = min(len(values) - done, self.per_table - slot)
            table = self.table(index)
            table[slot : slot + taken] = values[done : done + taken]
            last = (slot + taken - 1) // ENTRIES_A_SECTOR
            self.dirty.setdefault(index, set()).update(range(slot // ENTRIES_A_SECTOR, last + 1))
            done += taken

    @property
    def is_full(self) -> bool:
        """Are there so many changed tables that they should be written?"""
        return len(self.dirty) >= min(DIRTY_TABLES_MAX, self._keep)

    def write_back(self, *directories: Entries) -> None:
        """Write the changed sectors of the changed tables where each of the directories has them; no sync."""
        for directory in directories:
            for index in sorted(self.dirty):
                raw = self._cache[index].data.cast("B")
                for first, end in stretches(sorted(self.dirty[index])):
                    at = (int(directory[index]) + first) * SECTOR_BYTES
                    self.file.write(at, [raw[first * SECTOR_BYTES : end * SECTOR_BYTES]])
        self.dirty.clear()

    def scan(self) -> Iterator[tuple[int, Entries]]:
        """Every table there is, by number, read past the cache unless it was changed."""
        for index in np.flatnonzero(self.directory).tolist():
            cached = self._cache.get(index)
            yield index, self.read_table(index, int(self.directory[index])) if cached is None else cached


def stretches(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Rising numbers as ranges (first, end)."""
    start = 0
    for at in range(1, len(numbers) + 1):
        if at == len(numbers) or numbers[at] != numbers[at - 1] + 1:
            yield numbers[start], numbers[at - 1] + 1
            start = at


def runs_of(entries: Entries, grain_sectors: int, skip: int, count: int, zero_entry: bool) -> list[Run]:
    """The runs of `count` sectors that begin `skip` sectors into the first of these grains.

    Where entry 1 has no meaning (`zero_entry` false) it comes out as Stored at 1, for its place to be judged.
    """
    if len(entries) == 1:
        return [_run(int(entries[0]), count, skip, zero_entry)]
    steps = np.diff(entries)  # unsigned: a fall wraps round, and is no step
    first = int(entries[0])
    stored = first > ZERO or (first == ZERO and not zero_entry)
    if (stored and (steps == grain_sectors).all()) or (not stored and not steps.any()):
        return [_run(first, count, skip, zero_entry)]
    data = entries > ZERO if zero_entry else entries != ABSENT
    joined = np.where(data[1:], data[:-1] & (steps == grain_sectors), steps == 0)
    edges = [0, *(np.flatnonzero(~joined) + 1).tolist(), len(entries)]
    starts = entries[edges[:-1]].tolist()
    runs, left = [], count
    for number, entry in enumerate(starts):
        length = min((edges[number + 1] - edges[number]) * grain_sectors - skip, left)
        runs.append(_run(entry, length, skip, zero_entry))
        left, skip = left - length, 0
    return runs


def _run(entry: int, count: int, skip: int, zero_entry: bool) -> Run:
    if entry == ABSENT:
        return Absent(count)
    if entry == ZERO and zero_entry:
        return Zeros(count)
    return Stored(count, entry + skip)
