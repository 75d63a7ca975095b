"""COWD ("vmfsSparse"): one redo log of a chain, and the ESX 2 ".REDO".

Tables and grains lie as they came; with grains of one sector nothing is ever copied from the parent. A new table is
written as zeros before its directory entry is, so that what is cut short leaks sectors and loses nothing.
On a volume the file grows in steps of 16 MiB, as on ESX; on the host as it is written.
Source: VMware Virtual Disk Format 1.1, "ESX Server Sparse Extents".
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vmkernel.storage.block_file import BlockFile
from vmkernel.storage.disk import SECTOR_BYTES
from vmkernel.storage.errors import CorruptImage
from vmkernel.storage.vmdk.cowd_spec import (
    CAPACITY_MAX,
    GRAIN_SECTORS_MAX,
    HEADER,
    HEADER_SECTORS,
    MAGIC,
    OFFSETS,
    PARENT_NAME_BYTES,
    PER_TABLE,
    TABLE_SECTORS,
    VERSION,
    Flags,
)
from vmkernel.storage.vmdk.grain_extent import SECTOR_LIMIT, GrainExtent
from vmkernel.storage.vmdk.grain_tables import GTE, GrainTables, read_directory, stretches
from vmkernel.storage.vmdk.sparse import judge_directory

WORD = np.dtype("<u4")
SCANNED_TABLES_MAX = 4096  # tables that are read on opening to find the end of what is used


@dataclass(frozen=True, slots=True)
class CowdHeader:
    """A header that can be true."""

    flags: Flags
    sectors: int
    grain_sectors: int
    gd_offset: int
    tables: int
    free_sector: int
    parent_name: str
    unclean_shutdown: int

    @property
    def data_start(self) -> int:
        return self.gd_offset + -(-self.tables * GTE.itemsize // SECTOR_BYTES)


def new_header(sectors: int, grain_sectors: int, parent_name: str = "") -> CowdHeader:
    """`parent_name` is for a redo log without descriptor; others have their parent's name there."""
    tables = -(-sectors // (PER_TABLE * grain_sectors))
    flags = Flags.CHECK_CAPABLE if parent_name else Flags.ROOT | Flags.CHECK_CAPABLE
    header = CowdHeader(flags, sectors, grain_sectors, HEADER_SECTORS, tables, 0, parent_name, 0)
    return replace(header, free_sector=header.data_start)


def build_header(header: CowdHeader) -> bytes:
    zeros = dict.fromkeys(("parent_generation", "generation", "saved_generation"), 0)
    blanks = {"name": bytes(60), "description": bytes(512), "reserved": bytes(8), "padding": bytes(396)}
    origin = header.parent_name.encode("utf-8", "surrogateescape")[: PARENT_NAME_BYTES - 1]
    return bytes(
        HEADER.build({
            "magic": MAGIC, "version": VERSION, "flags": int(header.flags), "num_sectors": header.sectors,
            "grain_size": header.grain_sectors, "gd_offset": header.gd_offset, "num_gd_entries": header.tables,
            "free_sector": header.free_sector, "origin": origin.ljust(PARENT_NAME_BYTES, b"\0"),
            "unclean_shutdown": header.unclean_shutdown, **zeros, **blanks,
        })
    )  # fmt: skip


def read_header(file: BlockFile) -> CowdHeader:
    """Raises CorruptImage."""
    h = HEADER.parse(file.bytes_at(0, HEADER.sizeof(), "header of a redo log"))

    def judge(name: str, good: bool, expected: str) -> None:
        if not good:
            raise CorruptImage(file.path, OFFSETS[name], name, expected, str(getattr(h, name)))

    judge("magic", h.magic == MAGIC, "COWD")
    judge("version", h.version == VERSION, str(VERSION))
    judge("num_sectors", h.num_sectors > 0, f"1 to {CAPACITY_MAX} sectors")
    judge("grain_size", 0 < h.grain_size <= GRAIN_SECTORS_MAX, f"1 to {GRAIN_SECTORS_MAX} sectors")
    tables = -(-h.num_sectors // (PER_TABLE * h.grain_size))
    judge("num_gd_entries", h.num_gd_entries >= tables, f"{tables}, for {h.num_sectors} sectors")
    judge("gd_offset", h.gd_offset >= HEADER_SECTORS, f"{HEADER_SECTORS} or more")
    name = b"" if h.flags & Flags.ROOT else h.origin.partition(b"\0")[0]
    return CowdHeader(
        Flags(h.flags), h.num_sectors, h.grain_size, h.gd_offset, h.num_gd_entries, h.free_sector,
        name.decode("utf-8", "surrogateescape"), h.unclean_shutdown,
    )  # fmt: skip


class CowdExtent(GrainExtent):
    """One open redo log."""

    NAME = "VMFSSPARSE"

    def __init__(self, file: BlockFile, header: CowdHeader, sectors: int) -> None:
        directory = read_directory(file, header.gd_offset, header.tables)
        tables = GrainTables(file, directory, PER_TABLE, header.data_start)
        super().__init__(file, sectors, header.grain_sectors, tables, header.data_start)
        self.header = header
        self._new_directory_entries: set[int] = set()
        self._free: int | None = None  # found when it is first asked for

    @classmethod
    def open(cls, file: BlockFile, sectors: int | None = None) -> CowdExtent:
        """Raises CorruptImage when the header or the directory cannot be true."""
        header = read_header(file)
        if sectors is not None and sectors != header.sectors:
            at = OFFSETS["num_sectors"]
            raise CorruptImage(file.path, at, "num_sectors", f"the descriptor's {sectors}", f"{header.sectors}")
        return cls(file, header, header.sectors)

    @property
    def is_unclean(self) -> bool:
        return bool(self.header.unclean_shutdown or self.header.flags & Flags.INCONSISTENT)

    def judge_directories(self) -> None:
        """Raises NeedsRepair."""
        judge_directory(self.file, self.tables.directory, TABLE_SECTORS, "grain directory")

    @property
    def free(self) -> int:
        """The first sector that nothing uses."""
        if self._free is None:
            self._free = self.find_free()
        return self._free

    @free.setter
    def free(self, sector: int) -> None:
        self._free = sector

    def find_free(self) -> int:
        """Where new tables and grains go.

        ESX keeps the file longer than what is used, and other writers leave free_sector behind: it is believed when no
        entry points past it, and the file's end is taken where finding that out would take long.
        """
        end = self.file_sectors
        claimed = max(self.header.free_sector, self.data_start)
        if claimed >= end:
            return claimed
        if np.count_nonzero(self.tables.directory) > SCANNED_TABLES_MAX:
            return end
        return max(claimed, self.used_end())

    def used_end(self) -> int:
        """The end of the last table or grain that something points at. Raises DamagedGrain."""
        highest = self.data_start
        for index, table in self.tables.scan():
            grains_end = int(table.max()) + self.grain_sectors if table.any() else 0
            highest = max(highest, int(self.tables.directory[index]) + TABLE_SECTORS, grains_end)
        return min(highest, SECTOR_LIMIT)

    def _ensure_tables(self, first: int, count: int) -> None:
        for index in range(first // PER_TABLE, (first + count - 1) // PER_TABLE + 1):
            if self.tables.directory[index]:
                continue
            at = self.free
            if at + TABLE_SECTORS > SECTOR_LIMIT:
                raise self.no_room(TABLE_SECTORS, at)
            self.file.make_room((at + TABLE_SECTORS) * SECTOR_BYTES)
            self.file.write(at * SECTOR_BYTES, [bytes(TABLE_SECTORS * SECTOR_BYTES)])
            self.tables.add_table(index, at)
            self._new_directory_entries.add(index)
            self.free = at + TABLE_SECTORS

    def _place(self, first: int, count: int) -> int:
        self._ensure_tables(first, count)
        if self.free + count * self.grain_sectors > SECTOR_LIMIT:
            raise self.no_room(count * self.grain_sectors, self.free)
        self.file.make_room((self.free + count * self.grain_sectors) * SECTOR_BYTES)
        return self.free

    def _placed(self, end: int) -> None:
        self.free = end

    def write_tables(self) -> None:
        """The directory goes with the tables: a new one that it names was written as zeros before this sync."""
        self.file.sync()
        self.tables.write_back(self.tables.directory)
        raw = self.tables.directory.data.cast("B")
        for first, end in stretches(sorted(self._new_directory_entries)):
            place = slice(first * GTE.itemsize, end * GTE.itemsize)
            self.file.write(self.header.gd_offset * SECTOR_BYTES + place.start, [raw[place]])
        self._new_directory_entries.clear()

    def flush(self) -> None:
        changed = bool(self.tables.dirty or self._new_directory_entries)
        if changed:
            self.write_tables()
        self.file.sync()
        if changed or self._free not in (None, self.header.free_sector):
            self.header = replace(self.header, free_sector=self.free)
            self._write_word("free_sector", self.free)  # lazily: opening finds the truth

    def start_writing(self) -> None:
        self._write_word("unclean_shutdown", 1)
        self.file.sync()

    def finish(self) -> None:
        self.file.sync()
        self._write_word("unclean_shutdown", 0)
        self.file.sync()

    def _write_word(self, name: str, value: int) -> None:
        if name == "unclean_shutdown":
            self.header = replace(self.header, unclean_shutdown=value)
        self.file.write(OFFSETS[name], [np.array([value], np.int64).astype(WORD).tobytes()])


def write_empty(file: BlockFile, header: CowdHeader) -> None:
    """Lay out a redo log that holds nothing. Nothing is synced."""
    file.truncate(header.data_start * SECTOR_BYTES)
    file.write(0, [build_header(header)])
