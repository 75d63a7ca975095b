"""Extents without tables: sectors of a file or device one after another (FLAT, VMFS), zeros (ZERO), and nothing.

A file that is too short is read up to its end, and is not opened for writing. Holes of a thin file read as zeros.
Source: VMware Virtual Disk Format 1.1, "Extent Description".
"""

from __future__ import annotations

from collections.abc import Sequence

from vmkernel.storage.block_file import BlockFile
from vmkernel.storage.disk import SECTOR_BYTES, Below, Packed, Run, Stored, Zeros
from vmkernel.storage.errors import CorruptImage, DamagedGrain, NotWritable

HOLES_SECTORS = 1 << 24  # looked for holes at once


class FlatExtent:
    """Sector x is sector `offset` + x of the file."""

    def __init__(self, file: BlockFile, sectors: int, offset: int = 0) -> None:
        self.file: BlockFile = file
        self.sectors, self.offset, self.first = sectors, offset, 0
        self.missing_sectors = max(offset + sectors - file.size // SECTOR_BYTES, 0)

    @classmethod
    def open(cls, file: BlockFile, sectors: int, offset: int = 0) -> FlatExtent:
        """Raises CorruptImage for a file that is to be written and is too short."""
        extent = cls(file, sectors, offset)
        if extent.missing_sectors and file.writable:
            expected = f"{(offset + sectors) * SECTOR_BYTES} bytes"
            raise CorruptImage(file.path, file.size, "size of an extent that is written", expected, f"{file.size}")
        return extent

    def resolve(self, sector: int, count: int) -> list[Run]:
        if sector + count > self.sectors - self.missing_sectors:
            expected = f"{(self.offset + self.sectors) * SECTOR_BYTES} bytes"
            if self.offset + self.sectors > self.file.refresh() // SECTOR_BYTES:
                first_missing = max(sector, self.sectors - self.missing_sectors)
                raise DamagedGrain(
                    self.file.path, self.file.size, "size", expected, f"{self.file.size}", self.first + first_missing
                )
            self.missing_sectors = 0
        return [Stored(count, self.offset + sector)]

    def locate(self, sector: int, count: int) -> int | None:
        return self.offset + sector if sector + count <= self.sectors - self.missing_sectors else None

    def stretch(self, sector: int) -> int:
        return min(self.sectors - sector, HOLES_SECTORS)

    def unpack(self, run: Packed, views: Sequence[memoryview]) -> None:
        raise NotImplementedError("no sectors of a flat extent are compressed")

    def write(self, sector: int, views: Sequence[memoryview], below: Below) -> None:
        self.file.write((self.offset + sector) * SECTOR_BYTES, views)

    def zero(self, sector: int, count: int, below: Below | None) -> None:
        self.file.zero((self.offset + sector) * SECTOR_BYTES, count * SECTOR_BYTES, punch=True)

    def holes(self, sector: int, count: int) -> list[Run]:
        """Like `resolve`, with what the host has no blocks for as Zeros."""
        runs: list[Run] = []
        at, end = (self.offset + sector) * SECTOR_BYTES, (self.offset + sector + count) * SECTOR_BYTES
        while at < end:
            found = self.file.next_data(at, end)
            data = found // SECTOR_BYTES * SECTOR_BYTES
            if data > at:
                runs.append(Zeros((data - at) // SECTOR_BYTES))
            hole = data
            if found < end:
                hole = max(-(-self.file.next_hole(found, end) // SECTOR_BYTES), data // SECTOR_BYTES + 1)
                hole = min(hole * SECTOR_BYTES, end)
                runs.append(Stored((hole - data) // SECTOR_BYTES, data // SECTOR_BYTES))
            at = max(hole, data)
        return runs

    def start_writing(self) -> None:
        """A flat file has no mark."""

    def flush(self) -> None:
        self.file.sync()

    def finish(self) -> None:
        """Nor one to take away."""


class ZeroExtent:
    """Sectors that are zero and stay so."""

    file: BlockFile | None = None

    def __init__(self, sectors: int) -> None:
        self.sectors, self.first = sectors, 0

    def resolve(self, sector: int, count: int) -> list[Run]:
        return [Zeros(count)]

    def locate(self, sector: int, count: int) -> int | None:
        return None

    def stretch(self, sector: int) -> int:
        return self.sectors - sector

    def unpack(self, run: Packed, views: Sequence[memoryview]) -> None:
        raise NotImplementedError("no sectors of a zero extent are compressed")

    def write(self, sector: int, views: Sequence[memoryview], below: Below) -> None:
        raise NotWritable("extent ZERO", self.first + sector, "it has no place for data")

    def zero(self, sector: int, count: int, below: Below | None) -> None:
        """They are."""

    def start_writing(self) -> None: ...

    def flush(self) -> None: ...

    def finish(self) -> None: ...


class ClosedExtent(ZeroExtent):
    """NOACCESS: it takes up its sectors, and nobody may see them."""

    def resolve(self, sector: int, count: int) -> list[Run]:
        raise NotWritable("extent NOACCESS", self.first + sector, "it is not to be accessed")

    def zero(self, sector: int, count: int, below: Below | None) -> None:
        self.resolve(sector, count)
