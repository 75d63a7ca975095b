"""A hosted sparse extent ("KDMV", versions 1 to 3, not compressed): the file of monolithicSparse and of split disks.

New grains go to the end of the file, at a multiple of the grain's size. Both copies of a table are written.
Not written: version 3 (its change tracking map would no longer be true), and a table that the directory does not have
where there is no room for it in front of the grains: it is put at the end of the file.
Source: VMware Virtual Disk Format 1.1 and 5.0, "Hosted Sparse Extents".
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vmkernel.storage.block_file import BlockFile
from vmkernel.storage.disk import SECTOR_BYTES
from vmkernel.storage.errors import CorruptImage, NeedsRepair, Unsupported
from vmkernel.storage.vmdk.grain_extent import SECTOR_LIMIT, GrainExtent
from vmkernel.storage.vmdk.grain_tables import GTE, Entries, GrainTables, read_directory
from vmkernel.storage.vmdk.sparse_header import SparseHeader, read_header
from vmkernel.storage.vmdk.sparse_spec import OFFSETS, VERSION_STREAM, VERSION_ZERO_GRAINS, Flags


class SparseExtent(GrainExtent):
    """One open file of grains. `sectors` may be less than the header's capacity, which is rounded up by some."""

    NAME = "SPARSE"

    def __init__(self, file: BlockFile, header: SparseHeader, sectors: int) -> None:
        directory = read_directory(file, header.gd_offset, header.tables)
        data_start = first_place(header)
        super().__init__(
            file, sectors, header.grain_size, GrainTables(file, directory, header.gtes_per_gt, 1), data_start
        )
        self.header = header
        self.has_zero_entry = bool(header.flags & Flags.ZERO_GRAINS) and header.version >= VERSION_ZERO_GRAINS
        self.redundant: Entries | None = None
        if header.flags & Flags.REDUNDANT and header.rgd_offset:
            self.redundant = read_directory(file, header.rgd_offset, header.tables, "redundant grain directory")
            self.tables.fallback = self.redundant

    def judge_directories(self) -> None:
        """Raises NeedsRepair."""
        judge_directory(self.file, self.tables.directory, self.tables.table_sectors, "grain directory")
        if self.redundant is not None:
            judge_directory(self.file, self.redundant, self.tables.table_sectors, "redundant grain directory")

    @classmethod
    def open(cls, file: BlockFile, sectors: int | None = None) -> SparseExtent:
        """Raises CorruptImage when the header or the directory cannot be true."""
        header = read_header(file)
        if header.is_compressed or header.is_container:
            raise Unsupported(
                str(file.path), "sparse extent", "grains that are not compressed", f"flags {header.flags:#x}"
            )
        if header.version >= VERSION_STREAM and file.writable:
            raise Unsupported(
                str(file.path), "version of a sparse extent that is written", "1 or 2", f"{header.version}"
            )
        if sectors is not None and sectors > header.capacity:
            at = OFFSETS["capacity"]
            raise CorruptImage(file.path, at, "capacity", f"the descriptor's {sectors} sectors", f"{header.capacity}")
        return cls(file, header, header.capacity if sectors is None else sectors)

    @property
    def is_unclean(self) -> bool:
        return bool(self.header.unclean_shutdown)

    def _ensure_tables(self, first: int, count: int) -> None:
        """Other writers leave a directory entry 0 where a range is empty: its tables go to the end of the file."""
        per_table = self.tables.per_table
        for index in range(first // per_table, (first + count - 1) // per_table + 1):
            if self.tables.directory[index] and (self.redundant is None or self.redundant[index]):
                continue
            if self.tables.directory[index]:
                raise self.refuse("redundant grain directory", f"a table {index}, as the first one has", "none")
            size = self.tables.table_sectors
            at = self._end()
            if at + 2 * size > SECTOR_LIMIT:
                raise self.no_room(2 * size, at)
            self.file.write(at * SECTOR_BYTES, [bytes(2 * size * SECTOR_BYTES)])
            self.file.sync()
            self.tables.add_table(index, at)
            self._write_entry(self.header.gd_offset, index, at)
            if self.redundant is not None:
                self.redundant[index] = at + size
                self._write_entry(self.header.rgd_offset, index, at + size)

    def replace_table(self, index: int, table: Entries, *, redundant: bool) -> None:
        """Put a copy of a table at the end of the file, and make one of the directories name it."""
        at = self._end()
        if at + self.tables.table_sectors > SECTOR_LIMIT:
            raise self.no_room(self.tables.table_sectors, at)
        self.file.write(at * SECTOR_BYTES, [table.tobytes()])
        self.file.sync()
        if redundant and self.redundant is not None:
            self.redundant[index] = at
            self._write_entry(self.header.rgd_offset, index, at)
        elif not redundant:
            self.tables.directory[index] = at
            self._write_entry(self.header.gd_offset, index, at)

    def _write_entry(self, directory_sector: int, index: int, value: int) -> None:
        self.file.write(directory_sector * SECTOR_BYTES + index * GTE.itemsize, [np.array([value], GTE).tobytes()])

    def _end(self) -> int:
        grain = self.grain_sectors
        return -(-max(self.file_sectors, self.data_start) // grain) * grain

    def _place(self, first: int, count: int) -> int:
        self._ensure_tables(first, count)
        at = self._end()
        if at + count * self.grain_sectors > SECTOR_LIMIT:
            raise self.no_room(count * self.grain_sectors, at)
        return at

    def _placed(self, end: int) -> None:
        """The file's length is the only record of it."""

    def write_tables(self) -> None:
        self.file.sync()
        self.tables.write_back(*(() if self.redundant is None else (self.redundant,)), self.tables.directory)

    def start_writing(self) -> None:
        self._mark(1)

    def finish(self) -> None:
        self._mark(0)

    def _mark(self, unclean: int) -> None:
        self.header = replace(self.header, unclean_shutdown=unclean)
        self.file.write(OFFSETS["unclean_shutdown"], [bytes([unclean])])
        self.file.sync()


def first_place(header: SparseHeader) -> int:
    """The first sector that can hold a grain: after header, descriptor, directories, and what over_head says."""
    ends = [1, header.descriptor_offset + header.descriptor_size if header.descriptor_offset else 0]
    ends.append(header.gd_offset + header.directory_sectors)
    if header.rgd_offset:
        ends.append(header.rgd_offset + header.directory_sectors)
    meta_in_front = header.gd_offset < header.over_head
    return max(*ends, header.over_head) if meta_in_front else max(2, header.over_head)  # sector 1 is entry 1


def judge_directory(file: BlockFile, directory: Entries, table_sectors: int, what: str) -> None:
    """Raises NeedsRepair for a table that would be written where the file has none."""
    limit = -(-file.size // SECTOR_BYTES) - table_sectors
    wrong = np.flatnonzero(directory > max(limit, 0))
    if len(wrong):
        index = int(wrong[0])
        raise NeedsRepair(
            str(file.path), f"{what}, entry {index}", f"at most sector {limit}", f"{int(directory[index])}"
        )


def write_empty(file: BlockFile, header: SparseHeader, descriptor: bytes = b"") -> None:
    """Lay out a file without grains: header, descriptor, directories, tables of zeros. Nothing is synced."""
    file.truncate(header.over_head * SECTOR_BYTES)
    if descriptor:
        file.write(header.descriptor_offset * SECTOR_BYTES, [descriptor])
    for directory in (header.rgd_offset, header.gd_offset):
        if directory:
            first = directory + header.directory_sectors
            end = first + header.tables * header.table_sectors
            file.write(
                directory * SECTOR_BYTES,
                [np.arange(first, end, header.table_sectors, dtype=np.int64).astype(GTE).tobytes()],
            )
    file.write(0, [header.build()])
