"""A compressed sparse extent (streamOptimized): read, never written in place.

    header          gd_offset: the directory's sector, or "at the end"
    descriptor
    grains          each behind a marker with its sector and compressed size; a table behind each 32 MiB of them
    directory, footer (the header again, with the directory's true sector), end-of-stream marker

The directory is found by the header or the footer. `recover` ignores both and walks the markers, which finds every
whole grain of a file that was cut short. Inflated grains are kept, a few, for the next request.
Source: VMware Virtual Disk Format 5.0, "Stream-Optimized Compressed Sparse Extents".
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from ctypes import sizeof
from functools import cache

import numpy as np

from vmkernel.storage.block_file import BlockFile, fill_zeros
from vmkernel.storage.disk import SECTOR_BYTES, Absent, Below, Packed, Run, Zeros
from vmkernel.storage.errors import CorruptImage, DamagedGrain, NotWritable
from vmkernel.storage.vmdk import deflate
from vmkernel.storage.vmdk.grain_tables import ABSENT, GTE, ZERO, Entries, GrainTables, read_directory
from vmkernel.storage.vmdk.sparse_header import SparseHeader, read_header
from vmkernel.storage.vmdk.sparse_spec import (
    COMPRESSED_GRAIN_MAX,
    GD_AT_END,
    MARKER,
    OFFSETS,
    SECTOR_LIMIT,
    Flags,
    GrainMarker,
    GrainSize,
    Marker,
)

INFLATED_BYTES = 16 << 20  # of grains, kept for each extent
TOGETHER = 8  # grains that a thread inflates in one go
NEAR_BYTES = 2 << 20  # in the file, of what is read for that at once
ANYWHERE = 1  # the place of a table that is not in the file
FOOTER_FROM_END = 2 * SECTOR_BYTES


@cache
def inflaters() -> ThreadPoolExecutor:
    """Threads that inflate, for all streams of the process; started when the first is asked."""
    return ThreadPoolExecutor(os.cpu_count() or 1, "inflate")


class StreamExtent:
    """One open file of compressed grains."""

    def __init__(self, file: BlockFile, header: SparseHeader, sectors: int, tables: GrainTables) -> None:
        self.file: BlockFile = file
        self.header, self.sectors, self.tables, self.first = header, sectors, tables, 0
        self.has_markers = bool(header.flags & Flags.MARKERS)
        self.has_zero_entry = bool(header.flags & Flags.ZERO_GRAINS)
        self._inflated: OrderedDict[int, bytes] = OrderedDict()
        self._keep = max(INFLATED_BYTES // (header.grain_size * SECTOR_BYTES), 1)
        self.damage: list[str] = []  # what a recovering reader left out

    @classmethod
    def open(cls, file: BlockFile, sectors: int | None = None, *, recover: bool = False) -> StreamExtent:
        """Raises CorruptImage when header, footer or directory cannot be true."""
        header = read_header(file)
        if sectors is not None and sectors > header.capacity:
            at = OFFSETS["capacity"]
            raise CorruptImage(file.path, at, "capacity", f"the descriptor's {sectors} sectors", f"{header.capacity}")
        sectors = header.capacity if sectors is None else sectors
        if header.grain_size > COMPRESSED_GRAIN_MAX:
            at = OFFSETS["grain_size"]
            raise CorruptImage(file.path, at, "grain_size", f"at most {COMPRESSED_GRAIN_MAX}", f"{header.grain_size}")
        if recover and header.flags & Flags.MARKERS:
            return cls._recovered(file, header, sectors)
        if header.gd_offset == GD_AT_END:
            header = read_footer(file, header)
        directory = read_directory(file, header.gd_offset, header.tables)
        return cls(file, header, sectors, GrainTables(file, directory, header.gtes_per_gt, 1))

    @classmethod
    def _recovered(cls, file: BlockFile, header: SparseHeader, sectors: int) -> StreamExtent:
        tables = FoundTables(file, header.tables, header.gtes_per_gt)
        extent = cls(file, header, sectors, tables)
        for sector, lba in extent.walk():
            if lba % header.grain_size or lba >= header.capacity:
                extent.damage.append(f"sector {sector}: a grain for sector {lba}, which the disk has not")
            else:
                tables.found(lba // header.grain_size, sector)
        return extent

    def walk(self) -> Iterator[tuple[int, int]]:
        """(sector of the file, sector of the disk) of every whole grain, in file order; ends where markers do."""
        at, end = max(self.header.over_head, self._first_marker()) * SECTOR_BYTES, self.file.refresh()
        while at + SECTOR_BYTES <= end:
            marker = MARKER.parse(self.file.bytes_at(at, SECTOR_BYTES))
            if marker.size:
                length = sizeof(GrainMarker) + marker.size
                if marker.size > 2 * self.header.grain_size * SECTOR_BYTES + SECTOR_BYTES or at + length > end:
                    self.damage.append(f"byte {at}: a grain of {marker.size} bytes, which is cut short")
                    return
                yield at // SECTOR_BYTES, marker.value
                at += -(-length // SECTOR_BYTES) * SECTOR_BYTES
            elif marker.type == Marker.END:
                return
            else:
                at += SECTOR_BYTES + min(marker.value, end) * SECTOR_BYTES
        self.damage.append(f"byte {at}: the end of the file, and no end-of-stream marker")

    def _first_marker(self) -> int:
        return max(1, self.header.descriptor_offset + self.header.descriptor_size)

    def resolve(self, sector: int, count: int) -> list[Run]:
        runs: list[Run] = []
        size = self.header.grain_size
        grain, skip = divmod(sector, size)
        last = (sector + count - 1) // size
        if self.tables.is_empty(grain, last - grain + 1):
            return [Absent(count)]
        try:
            entries = self.tables.entries(grain, last - grain + 1).tolist()
        except DamagedGrain as error:
            error.block = self.first + sector
            raise
        for entry in entries:
            length = min(size - skip, count)
            if entry == ABSENT:
                runs.append(Absent(length))
            elif entry == ZERO and self.has_zero_entry:
                runs.append(Zeros(length))
            else:
                runs.append(Packed(length, entry, grain, skip))
            grain, skip, count = grain + 1, 0, count - length
        return runs

    def locate(self, sector: int, count: int) -> int | None:
        return None

    def stretch(self, sector: int) -> int:
        grain, skip = divmod(sector, self.header.grain_size)
        return min(self.tables.stretch(grain) * self.header.grain_size - skip, self.sectors - sector)

    def prepare(self, runs: Sequence[Packed]) -> None:
        """Inflate the grains of a request together, on all processors, as far as they are kept."""
        missing = [run for run in runs[: self._keep] if run.grain not in self._inflated]
        if len(missing) > 1:
            parts = [missing[at : at + TOGETHER] for at in range(0, len(missing), TOGETHER)]
            for part, inflated in zip(parts, inflaters().map(self._inflate_all, parts), strict=True):
                for run, data in zip(part, inflated, strict=True):
                    self._keep_inflated(run.grain, data)

    def _inflate_all(self, runs: Sequence[Packed]) -> list[bytes]:
        """Grains that lie near one another are read at once."""
        first, last = min(run.at for run in runs), max(run.at for run in runs)
        start, length = first * SECTOR_BYTES, (last - first) * SECTOR_BYTES + self._guess
        if first < 1 or length > NEAR_BYTES:
            return [self._inflate(run) for run in runs]
        near = memoryview(self.file.some_at(start, length))
        return [self._inflate(run, near[run.at * SECTOR_BYTES - start :]) for run in runs]

    def _keep_inflated(self, grain: int, data: bytes) -> None:
        self._inflated[grain] = data
        while len(self._inflated) > self._keep:
            self._inflated.popitem(last=False)

    def unpack(self, run: Packed, views: Sequence[memoryview]) -> None:
        data = self._inflated.get(run.grain)
        if data is None:
            data = self._inflate(run)
            self._keep_inflated(run.grain, data)
        at = run.skip * SECTOR_BYTES
        for view in views:
            piece = data[at : at + len(view)]
            view[: len(piece)] = piece
            if len(piece) < len(view):
                fill_zeros([view[len(piece) :]])
            at += len(view)

    @property
    def _guess(self) -> int:
        """How many bytes a compressed grain may have with its marker; more are read when it has."""
        return min(self.header.grain_size * SECTOR_BYTES // 4, 1 << 16) + SECTOR_BYTES

    def packed_bytes(self, run: Packed, start: bytes | memoryview = b"") -> memoryview:
        """A grain as it is in the file, without its marker. Raises DamagedGrain. `start`: what has been read of it."""
        at, size = run.at * SECTOR_BYTES, self.header.grain_size * SECTOR_BYTES
        kind = GrainMarker if self.has_markers else GrainSize
        if not start and run.at >= 1:
            start = self.file.some_at(at, self._guess)
        if len(start) < sizeof(kind):
            raise self._damaged(run, "place of the grain", "a sector of the file", f"sector {run.at}")
        head = kind.from_buffer_copy(start)
        if isinstance(head, GrainMarker) and head.lba != run.grain * self.header.grain_size:
            raise self._damaged(run, "marker", f"sector {run.grain * self.header.grain_size}", f"sector {head.lba}")
        if not 0 < head.size <= 2 * size + SECTOR_BYTES:
            raise self._damaged(run, "compressed size", f"1 to {2 * size + SECTOR_BYTES}", f"{head.size}")
        missing = sizeof(kind) + head.size - len(start)
        if missing > 0:
            start = bytes(start) + self.file.some_at(at + len(start), missing)
        data = memoryview(start)[sizeof(kind) : sizeof(kind) + head.size]
        if len(data) < head.size:
            raise self._damaged(run, "grain", f"{head.size} bytes", f"the end of the file after {len(data)}")
        return data

    def _inflate(self, run: Packed, start: bytes | memoryview = b"") -> bytes:
        size = self.header.grain_size * SECTOR_BYTES
        try:
            data = deflate.unpack(self.packed_bytes(run, start), size)
        except ValueError as error:
            raise self._damaged(run, "grain", "a deflated stream", str(error)) from error
        inside = (
            min(self.sectors, (run.grain + 1) * self.header.grain_size) - run.grain * self.header.grain_size
        ) * SECTOR_BYTES
        if not inside <= len(data) <= size:
            found = f"more than {size}" if len(data) > size else str(len(data))
            raise self._damaged(run, "inflated grain", f"{inside} to {size} bytes", found)
        return data

    def _damaged(self, run: Packed, what: str, expected: str, found: str) -> DamagedGrain:
        block = self.first + run.grain * self.header.grain_size + run.skip
        return DamagedGrain(self.file.path, run.at * SECTOR_BYTES, what, expected, found, block)

    def write(self, sector: int, views: Sequence[memoryview], below: Below) -> None:
        raise NotWritable(self.file.path, self.first + sector, "compressed grains are not written in place")

    def zero(self, sector: int, count: int, below: Below | None) -> None:
        raise NotWritable(self.file.path, self.first + sector, "compressed grains are not written in place")

    def start_writing(self) -> None: ...

    def flush(self) -> None: ...

    def finish(self) -> None: ...


class FoundTables(GrainTables):
    """Tables that are not in the file, made from the grains that were found; only those that hold any take memory."""

    def __init__(self, file: BlockFile, tables: int, per_table: int) -> None:
        super().__init__(file, np.zeros(tables, GTE), per_table, 1)
        self._made: dict[int, Entries] = {}

    def found(self, grain: int, sector: int) -> None:
        index, slot = divmod(grain, self.per_table)
        if index not in self._made:
            self.directory[index] = ANYWHERE
            self._made[index] = np.zeros(self.per_table, GTE)
        if sector < SECTOR_LIMIT:
            self._made[index][slot] = sector

    def table(self, index: int) -> Entries:
        return self._made.get(index, self._none)


def read_footer(file: BlockFile, header: SparseHeader) -> SparseHeader:
    """The header's copy at the end, which knows where the directory is. Raises CorruptImage."""
    at = file.refresh() - FOOTER_FROM_END
    if at < SECTOR_BYTES:
        raise CorruptImage(
            file.path, file.size, "stream", "a footer and an end-of-stream marker", "the end of the file"
        )
    footer = read_header(file, at)
    if footer.gd_offset == GD_AT_END:
        raise CorruptImage(file.path, at + OFFSETS["gd_offset"], "gd_offset of the footer", "a sector", "none")
    for name in ("capacity", "grain_size", "gtes_per_gt"):
        if getattr(footer, name) != getattr(header, name):
            expected, found = str(getattr(header, name)), str(getattr(footer, name))
            raise CorruptImage(file.path, at + OFFSETS[name], f"{name} of the footer", expected, found)
    return footer
