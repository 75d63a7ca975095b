"""Says what is wrong with the extents of a link, and mends what can be.

Every grain's place is claimed in a map of the file: one outside, on the metadata or on another grain is damage. Where
two copies of a table differ, an entry that is not zero wins. A grain that two entries claim stays with the first.
Space that nothing points at is what a power failure leaves, and hurts nobody.
Source: VMware Virtual Disk Format 5.0, "Hosted Sparse Extents"; libvmdk, VMWare Virtual Disk Format (VMDK).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from vmkernel.storage.disk import SECTOR_BYTES, Extent, Packed
from vmkernel.storage.errors import CorruptImage, DamagedGrain, NeedsRepair
from vmkernel.storage.vmdk.cowd import CowdExtent
from vmkernel.storage.vmdk.cowd_spec import TABLE_SECTORS
from vmkernel.storage.vmdk.flat import FlatExtent
from vmkernel.storage.vmdk.grain_extent import GrainExtent
from vmkernel.storage.vmdk.grain_tables import ABSENT, GTE, ZERO, Entries
from vmkernel.storage.vmdk.link import Link
from vmkernel.storage.vmdk.sesparse import SeSparseExtent
from vmkernel.storage.vmdk.sparse import SparseExtent
from vmkernel.storage.vmdk.stream import StreamExtent

WINDOW = 1 << 27  # places that are mapped at once, a byte each
FINDINGS_MAX = 1000  # of one kind in one extent; what is more is counted


class Fault(StrEnum):
    """Kinds of findings."""

    UNCLEAN = "unclean shutdown"
    LOST = "lost space"
    TABLE = "grain table"
    PLACE = "place of a grain"
    SHARED = "shared grain"
    COPIES = "redundant copy"
    FREE = "free sector"
    SHORT = "short file"
    GRAIN = "compressed grain"
    CONTENT_ID = "content ID"
    LINK = "link"


HARMLESS = frozenset({Fault.UNCLEAN, Fault.LOST, Fault.COPIES, Fault.FREE})
MENDED = frozenset({Fault.UNCLEAN, Fault.COPIES, Fault.SHARED, Fault.PLACE, Fault.FREE})


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `sector` is the disk's, where it concerns one."""

    fault: Fault
    path: str
    text: str
    sector: int | None = None
    mended: bool = False

    @property
    def is_harmless(self) -> bool:
        """Nothing that was flushed can be read wrong because of it."""
        return self.fault in HARMLESS

    @property
    def can_be_mended(self) -> bool:
        return self.fault in MENDED

    def __str__(self) -> str:
        return f"{self.path}: {self.fault}: {self.text}{' (mended)' if self.mended else ''}"


def check_link(link: Link, *, deep: bool = False) -> list[Finding]:
    """Everything that is wrong with the extents. `deep` inflates every compressed grain."""
    return [finding for extent in link.extents for finding in check_extent(extent, deep=deep)]


def check_extent(extent: Extent, *, deep: bool = False, mend: bool = False) -> list[Finding]:
    if isinstance(extent, GrainExtent):
        return Audit(extent, mend=mend).run()
    if isinstance(extent, StreamExtent | SeSparseExtent):
        return list(read_through(extent, deep=deep))
    if isinstance(extent, FlatExtent) and extent.missing_sectors:
        missing = f"{extent.missing_sectors} of {extent.sectors} sectors are missing"
        first = extent.first + extent.sectors - extent.missing_sectors
        return [Finding(Fault.SHORT, str(extent.file.path), missing, first)]
    return []


def mend_link(link: Link) -> list[Finding]:
    """Mend what can be, in a link that was opened for writing; what is left is in the findings, too."""
    findings = []
    for extent in link.extents:
        if extent.file is not None and extent.file.writable:
            findings += check_extent(extent, mend=True)
        else:
            findings += check_extent(extent)
    return findings


def ready_to_write(link: Link) -> list[str]:
    """Check and mend the extents that were not closed in order. Raises NeedsRepair where a write would do harm."""
    warnings: list[str] = []
    for extent in link.extents:
        if not isinstance(extent, SparseExtent | CowdExtent) or not extent.file.writable:
            continue
        extent.judge_directories()
        if not extent.is_unclean:
            continue
        findings = check_extent(extent)
        for finding in findings:
            if not finding.is_harmless:
                raise NeedsRepair(finding.path, f"{finding.fault} in a file that was not closed", "none", finding.text)
        warnings += [str(finding) for finding in check_extent(extent, mend=True)]
    return warnings


def read_through(extent: StreamExtent | SeSparseExtent, *, deep: bool) -> Iterator[Finding]:
    """Look at every entry, and at the head of every grain; `deep`: inflate it."""
    fault = Fault.GRAIN if isinstance(extent, StreamExtent) else Fault.TABLE
    sector = 0
    while sector < extent.sectors:
        step = extent.stretch(sector)
        try:
            runs = extent.resolve(sector, step)
        except DamagedGrain as error:
            yield Finding(fault, str(extent.file.path), str(error), error.block)
            runs = []
        sector += step
        for run in runs:
            if isinstance(extent, StreamExtent) and isinstance(run, Packed):
                try:
                    extent.packed_bytes(run) if not deep else extent.unpack(
                        run, [memoryview(bytearray(run.sectors * SECTOR_BYTES))]
                    )
                except DamagedGrain as error:
                    yield Finding(fault, str(extent.file.path), str(error), error.block)


class Audit:
    """One pass over the tables of an extent."""

    def __init__(self, extent: GrainExtent, *, mend: bool) -> None:
        self.extent, self.mend = extent, mend
        self.findings: list[Finding] = []
        self.more: dict[Fault, int] = {}
        self.unreadable: set[int] = set()
        self.grain, self.per_table = extent.grain_sectors, extent.tables.per_table
        self.end = extent.file_sectors

    def run(self) -> list[Finding]:
        extent = self.extent
        extent.file.refresh()
        self.end = extent.file_sectors
        if isinstance(extent, SparseExtent | CowdExtent) and extent.is_unclean:
            self._find(Fault.UNCLEAN, "the file was not closed in order")
        self._tables()
        if isinstance(extent, SparseExtent) and extent.redundant is not None:
            self._copies(extent, extent.redundant)
        self._places()
        if isinstance(extent, CowdExtent):
            self._free_sector(extent)
        for fault, count in self.more.items():
            self.findings.append(Finding(fault, str(extent.file.path), f"{count} more", mended=self._mends(fault)))
        if self.mend:
            self._write()
        return self.findings

    def _mends(self, fault: Fault) -> bool:
        return self.mend and fault in MENDED

    def _find(self, fault: Fault, text: str, sector: int | None = None, mended: bool | None = None) -> None:
        if sum(finding.fault == fault for finding in self.findings[-FINDINGS_MAX:]) >= FINDINGS_MAX:
            self.more[fault] = self.more.get(fault, 0) + 1
            return
        if sector is not None:
            sector += self.extent.first
        done = self._mends(fault) if mended is None else mended
        self.findings.append(Finding(fault, str(self.extent.file.path), text, sector, done))

    def _write(self) -> None:
        extent = self.extent
        if any(not finding.is_harmless and not finding.mended for finding in self.findings):
            extent.flush()  # what could be mended; the mark stays for what could not
            return
        if self.findings:
            extent.flush()
            extent.finish()

    def _tables(self) -> None:
        """Which tables cannot be read at all."""
        tables = self.extent.tables
        for index in np.flatnonzero(tables.directory).tolist():
            try:
                if index not in tables.dirty:
                    tables.read_table(index, int(tables.directory[index]))
            except DamagedGrain as error:
                mended = self._from_copy(index)
                self._find(Fault.TABLE, str(error), index * self.per_table * self.grain, mended)
                if not mended:
                    self.unreadable.add(index)

    def _from_copy(self, index: int) -> bool:
        """Replace a table that cannot be read by its redundant copy, if that can."""
        extent = self.extent
        if not self.mend or not isinstance(extent, SparseExtent) or extent.redundant is None:
            return False
        try:
            copy = extent.tables.read_table(index, int(extent.redundant[index]))
        except DamagedGrain:
            return False
        extent.replace_table(index, copy, redundant=False)
        self.end = extent.file_sectors
        return True

    def _readable(self) -> Iterator[tuple[int, Entries]]:
        """Tables by number, cut to the grains that the disk has."""
        grains = -(-self.extent.sectors // self.grain)
        tables = self.extent.tables
        for index in np.flatnonzero(tables.directory[: -(-grains // self.per_table)]).tolist():
            if index in self.unreadable:
                continue
            table = (
                tables.table(index) if index in tables.dirty else tables.read_table(index, int(tables.directory[index]))
            )
            yield index, table[: grains - index * self.per_table]

    def _copies(self, extent: SparseExtent, redundant: Entries) -> None:
        """Entries that differ: in both tables then the first's, unless it cannot be true and the copy's can."""
        for index, table in self._readable():
            try:
                copy = extent.tables.read_table(index, int(redundant[index]))[: len(table)]
            except DamagedGrain as error:
                self._find(Fault.TABLE, f"redundant {error}", index * self.per_table * self.grain, self.mend)
                if self.mend:
                    extent.replace_table(index, extent.tables.table(index), redundant=True)
                    self.end = extent.file_sectors
                continue
            slots = np.flatnonzero(table != copy)
            if not len(slots):
                continue
            first = index * self.per_table
            self._find(
                Fault.COPIES, f"{len(slots)} entries of table {index} differ", (first + int(slots[0])) * self.grain
            )
            if self.mend:
                extent.tables.table(index)
                said_zero = (table == ZERO) & extent.has_zero_entry
                take = ~self._good(first, table) & ~said_zero & self._good(first, copy)
                extent.tables.set(first, np.where(take, copy, table).astype(GTE))
                extent.tables.dirty[index] = set(range(extent.tables.table_sectors))
        if self.mend and extent.tables.dirty:
            extent.write_tables()

    def _good(self, first: int, table: Entries) -> NDArray[np.bool_]:
        """Which entries of grains from `first` on are places in the file."""
        places = table.astype(np.int64)
        grains = first + np.arange(len(table), dtype=np.int64)
        need = np.minimum(self.extent.sectors - grains * self.grain, self.grain)
        good = (places >= self.extent.data_start) & (places + need <= self.end)
        if isinstance(self.extent, SparseExtent):
            good &= (places - self.extent.data_start) % self.grain == 0
        return good

    def _metadata(self) -> list[tuple[int, int]]:
        """Ranges of sectors that no grain may be in."""
        tables, extent = self.extent.tables, self.extent
        ranges = [(0, extent.data_start)]
        size = TABLE_SECTORS if isinstance(extent, CowdExtent) else tables.table_sectors
        directories = [tables.directory]
        if isinstance(extent, SparseExtent) and extent.redundant is not None:
            directories.append(extent.redundant)
        if isinstance(extent, SparseExtent):  # resizing puts larger ones at the end of the file
            places = [extent.header.gd_offset, extent.header.rgd_offset]
            ranges += [(at, at + extent.header.directory_sectors) for at in places if at >= extent.data_start]
        for directory in directories:
            ranges += [(at, at + size) for at in directory[directory >= extent.data_start].tolist()]
        return ranges

    def _places(self) -> None:
        """Claim every grain's place; find those that cannot be, are claimed already, or are claimed by nobody."""
        hosted = isinstance(self.extent, SparseExtent)
        unit = self.grain if hosted else 1
        origin = self.extent.data_start % unit if hosted else 0
        units = max(-(-(self.end - origin) // unit), 0)
        metadata = self._metadata()
        zero_entry = self.extent.has_zero_entry
        lost = 0
        for base in range(0, units, WINDOW):
            taken = np.zeros(min(WINDOW, units - base), np.bool_)
            for start, end in metadata:
                taken[max((start - origin) // unit - base, 0) : max(-(-(end - origin) // unit) - base, 0)] = True
            for index, table in self._readable():
                first = index * self.per_table
                present = table > ZERO if zero_entry else table != ABSENT
                good = self._good(first, table)
                if not base:
                    for slot in np.flatnonzero(present & ~good).tolist():
                        where = f"grain {first + slot} at sector {int(table[slot])} of {self.end}"
                        self._find(Fault.PLACE, where, (first + slot) * self.grain)
                        self._drop(first + slot)
                slots = np.flatnonzero(present & good)
                numbers = (table[slots].astype(np.int64) - origin) // unit - base
                inside = (numbers >= 0) & (numbers < len(taken))
                self._claim(first, slots[inside], numbers[inside], taken, self.grain // unit)
            lost += (
                int(np.count_nonzero(~taken[: self._lost_limit(units) - base])) if base < self._lost_limit(units) else 0
            )
        if lost:
            self._find(Fault.LOST, f"{lost * unit} sectors of the file hold nothing")

    def _lost_limit(self, units: int) -> int:
        """ESX keeps redo logs longer than what is used."""
        if isinstance(self.extent, CowdExtent):
            return min(max(self.extent.header.free_sector, self.extent.data_start), units)
        return units

    def _claim(
        self, first: int, slots: NDArray[np.int64], numbers: NDArray[np.int64], taken: NDArray[np.bool_], length: int
    ) -> None:
        if not len(slots):
            return
        order = np.argsort(numbers, kind="stable")
        ordered = numbers[order]
        again = np.zeros(len(slots), np.bool_)
        again[order[1:]] = np.diff(ordered) < length  # overlaps the one before it, within this table
        spread = numbers[:, None] + np.arange(length) if length > 1 else numbers[:, None]
        spread = np.minimum(spread, len(taken) - 1)
        again |= taken[spread].any(axis=1)
        for slot in slots[again].tolist():
            self._find(Fault.SHARED, f"grain {first + slot} lies where something else is", (first + slot) * self.grain)
            self._drop(first + slot)
        taken[spread[~again]] = True

    def _drop(self, grain: int) -> None:
        if self.mend:
            self.extent.tables.table(grain // self.per_table)
            self.extent.tables.set(grain, np.zeros(1, GTE))

    def _free_sector(self, extent: CowdExtent) -> None:
        try:
            used = extent.used_end() if not self.unreadable else extent.header.free_sector
        except (DamagedGrain, CorruptImage):
            return
        if used > extent.header.free_sector:
            self._find(Fault.FREE, f"free_sector is {extent.header.free_sector}, and sectors up to {used} are used")
            if self.mend:
                extent.free = used
