"""A stream (streamOptimized) that comes from a pipe, front to back, with its directory at the end: read once, not kept.

The grains tell where they belong. The tables, the directory and the footer that follow are held against what came, so
that whoever begins with them would see the same disk; what differs is an error, after most has been read.
Some grains are held until they are fetched. Not for streams that are cut short, need a parent, or have no markers.
Source: VMware Virtual Disk Format 5.0, "Stream-Optimized Compressed Sparse Extents".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from ctypes import sizeof
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vmkernel.storage.block_file import BlockFile, fill_zeros
from vmkernel.storage.disk import SECTOR_BYTES, Disk, Piece
from vmkernel.storage.errors import CorruptImage, NotWritable, Unsupported
from vmkernel.storage.vmdk import deflate
from vmkernel.storage.vmdk.descriptor import Descriptor
from vmkernel.storage.vmdk.descriptor_spec import ExtentType
from vmkernel.storage.vmdk.grain_tables import GTE
from vmkernel.storage.vmdk.sparse_header import SparseHeader, parse_header
from vmkernel.storage.vmdk.sparse_spec import (
    COMPRESSED_GRAIN_MAX,
    GD_AT_END,
    MARKER,
    OFFSETS,
    SECTOR_LIMIT,
    Flags,
    GrainMarker,
    Marker,
)
from vmkernel.storage.vmdk.stream import inflaters

DESCRIPTOR_END_MAX = 1 << 11  # sectors
OVER_HEAD_MAX = 1 << 17  # sectors that are passed over before the first grain
TOGETHER = 64  # grains that are inflated at once
UNIT_BYTES = 64 << 10  # pieces begin and end at a multiple of it, but for the last
PIECE_BYTES = 1 << 20
SKIP_BYTES = 1 << 20
NOBODY = -1  # the layer of a piece that no link has
Fetch = Callable[[int], bytes]  # so many bytes, fewer at the end


class PipeFile(BlockFile):
    """What pieces of such a disk name as their file: it is never asked for bytes."""

    def __init__(self, path: Path) -> None:
        self.fd, self.path, self.writable, self.size = -1, path, False, 0


class Packed(NamedTuple):
    """A compressed grain: its number, and the byte of the stream where its marker is."""

    grain: int
    at: int
    data: bytes


def streamed(start: bytes, path: Path, fetch: Fetch) -> tuple[PipedStream | None, bytes]:
    """The disk, and what has been read of it so far; None where it has to be kept. `start` is the first sector.

    Raises CorruptImage or Unsupported for a header that cannot be true.
    """
    if len(start) < SECTOR_BYTES:
        return None, start
    header = parse_header(start, path)
    end = header.descriptor_offset + header.descriptor_size
    markers = Flags.COMPRESSED | Flags.MARKERS
    if header.flags & markers != markers or header.gd_offset != GD_AT_END or not 1 < end <= DESCRIPTOR_END_MAX:
        return None, start
    start += fetch(end * SECTOR_BYTES - len(start))
    if len(start) < end * SECTOR_BYTES:
        return None, start
    at = header.descriptor_offset * SECTOR_BYTES
    descriptor = Descriptor.parse(start[at:], f"{path}: descriptor at byte {at}")
    first = max(header.over_head, end)
    lines = descriptor.extents
    alone = len(lines) == 1 and lines[0].type == ExtentType.SPARSE and 0 < lines[0].sectors <= header.capacity
    fits = first <= OVER_HEAD_MAX and header.grain_size <= COMPRESSED_GRAIN_MAX
    if not alone or descriptor.has_parent or not fits:
        return None, start
    return PipedStream(path, header, lines[0].sectors, first, len(start), fetch), start


class PipedStream:
    """A disk that is read once, in the order of `runs`: what `read` has given is gone."""

    writable = False

    def __init__(
        self, path: Path, header: SparseHeader, sectors: int, first: int, position: int, fetch: Fetch
    ) -> None:
        """`first` is the sector of the first marker, `position` the byte of what `fetch` gives next."""
        self.path, self.header, self.sectors, self.first = path, header, sectors, first
        self.warnings: list[str] = []
        self.rising = False  # whoever reads cannot go back
        self._fetch, self._at = fetch, position
        self._file = PipeFile(path)
        self._held: dict[int, bytes] = {}  # inflated, by number
        self._places: dict[int, dict[int, int]] = {}  # by table: the sectors of grains that no table has named yet
        self._tables: dict[int, int] = {}
        self._directory = 0
        self._has_footer = False

    @property
    def size_bytes(self) -> int:
        return self.sectors * SECTOR_BYTES

    @property
    def grain_bytes(self) -> int:
        return self.header.grain_size * SECTOR_BYTES

    def close(self) -> None:
        """The pipe is another's."""

    def flush(self) -> None: ...

    def write(self, offset: int, views: Sequence[memoryview]) -> None:
        raise NotWritable(self.path, offset // SECTOR_BYTES, "it comes from a pipe")

    def zero(self, offset: int, length: int) -> None:
        raise NotWritable(self.path, offset // SECTOR_BYTES, "it comes from a pipe")

    # the disk

    def runs(self, offset: int, length: int) -> Iterator[Piece]:
        """All of it, once; the last of each grain that comes twice. Raises CorruptImage, Unsupported."""
        assert (offset, length) == (0, self.size_bytes), "a pipe is read as a whole"
        start = end = furthest = 0
        for grain in self._grains():
            at = grain * self.grain_bytes
            joins = start <= at < self._whole(end) or (at == self._whole(end) and end - start < PIECE_BYTES)
            if start < end and joins:
                end = max(end, min(at + self.grain_bytes, self.size_bytes))
                continue
            if start < end:
                yield self._piece(start, self._whole(end))
            furthest = max(furthest, self._whole(end))
            start, end = at // UNIT_BYTES * UNIT_BYTES, min(at + self.grain_bytes, self.size_bytes)
            if start > furthest:
                yield Piece(furthest, start - furthest, NOBODY, None, 0)
            elif start < furthest and self.rising:
                expected = f"sector {furthest // SECTOR_BYTES} or later, for nobody can go back"
                raise Unsupported(str(self.path), "next grain", expected, f"sector {at // SECTOR_BYTES}")
        if start < end:
            yield self._piece(start, self._whole(end))
        furthest = max(furthest, self._whole(end))
        if furthest < self.size_bytes:
            yield Piece(furthest, self.size_bytes - furthest, NOBODY, None, 0)

    def _whole(self, end: int) -> int:
        return min(-(-end // UNIT_BYTES) * UNIT_BYTES, self.size_bytes)

    def _piece(self, start: int, end: int) -> Piece:
        return Piece(start, end - start, 0, self._file, start, packed=True)

    def read(self, offset: int, views: Sequence[memoryview]) -> None:
        for view in views:
            done = 0
            while done < len(view):
                grain, skip = divmod(offset + done, self.grain_bytes)
                length = min(self.grain_bytes - skip, len(view) - done)
                data = self._held.get(grain, b"")[skip : skip + length]
                view[done : done + len(data)] = data
                if len(data) < length:
                    fill_zeros([view[done + len(data) : done + length]])
                done += length
                if skip + length == self.grain_bytes or offset + done == self.size_bytes:
                    self._held.pop(grain, None)
            offset += len(view)

    # the pipe

    def _grains(self) -> Iterator[int]:
        """The number of each grain, once it is held."""
        waiting: list[Packed] = []
        for packed in self._walk():
            waiting.append(packed)
            if len(waiting) == TOGETHER:
                yield from self._inflated(waiting)
                waiting = []
        yield from self._inflated(waiting)

    def _inflated(self, waiting: list[Packed]) -> Iterator[int]:
        for packed, data in zip(waiting, inflaters().map(self._inflate, waiting), strict=True):
            self._held[packed.grain] = data
            yield packed.grain

    def _inflate(self, packed: Packed) -> bytes:
        try:
            data = deflate.unpack(packed.data, self.grain_bytes)
        except ValueError as error:
            raise CorruptImage(self.path, packed.at, "grain", "a deflated stream", str(error)) from error
        inside = min(self.size_bytes - packed.grain * self.grain_bytes, self.grain_bytes)
        if not inside <= len(data) <= self.grain_bytes:
            expected = f"{inside} to {self.grain_bytes} bytes"
            raise CorruptImage(self.path, packed.at, "inflated grain", expected, str(len(data)))
        return data

    def _walk(self) -> Iterator[Packed]:
        """Every grain up to the end-of-stream marker; the metadata between them is judged."""
        self._skip(self.first * SECTOR_BYTES - self._at)
        while True:
            at = self._at
            sector = self._take(SECTOR_BYTES, "marker")
            marker = MARKER.parse(sector)
            if marker.size:
                packed = self._grain(at, sector, marker.value, marker.size)
                if packed.grain * self.header.grain_size < self.sectors:
                    yield packed
            elif marker.type == Marker.END:
                self._judge_end(at)
                return
            else:
                self._metadata(at, marker.type, marker.value)

    def _grain(self, at: int, sector: bytes, lba: int, size: int) -> Packed:
        if lba % self.header.grain_size or lba >= self.header.capacity:
            expected = f"the start of a grain below sector {self.header.capacity}"
            raise CorruptImage(self.path, at, "marker", expected, f"sector {lba}")
        most = 2 * self.grain_bytes + SECTOR_BYTES
        if size > most:
            raise CorruptImage(self.path, at, "compressed size", f"1 to {most}", str(size))
        if at // SECTOR_BYTES >= SECTOR_LIMIT:
            raise CorruptImage(self.path, at, "place of the grain", f"below sector {SECTOR_LIMIT}", "a later one")
        length = sizeof(GrainMarker) + size
        more = -(-length // SECTOR_BYTES) * SECTOR_BYTES - len(sector)
        data = (sector + self._take(more, "grain"))[sizeof(GrainMarker) : length]
        grain = lba // self.header.grain_size
        index, slot = divmod(grain, self.header.gtes_per_gt)
        self._places.setdefault(index, {})[slot] = at // SECTOR_BYTES
        return Packed(grain, at, data)

    def _metadata(self, at: int, kind: int, sectors: int) -> None:
        place = self._at // SECTOR_BYTES
        if kind == Marker.TABLE:
            self._judge_length(at, "grain table", sectors, self.header.table_sectors)
            self._judge_table(place, self._take(sectors * SECTOR_BYTES, "grain table"))
        elif kind == Marker.DIRECTORY:
            self._judge_length(at, "grain directory", sectors, self.header.directory_sectors)
            self._judge_directory(place)
        elif kind == Marker.FOOTER:
            self._judge_length(at, "footer", sectors, 1)
            self._judge_footer(self._at, self._take(SECTOR_BYTES, "footer"))
        else:
            self._skip(sectors * SECTOR_BYTES)

    # what follows the grains

    def _judge_length(self, at: int, what: str, found: int, expected: int) -> None:
        if found != expected:
            raise CorruptImage(self.path, at, f"marker of the {what}", f"{expected} sectors", str(found))

    def _judge_table(self, place: int, data: bytes) -> None:
        entries = np.frombuffer(data, GTE, self.header.gtes_per_gt)
        slots = np.flatnonzero(entries)
        named = dict(zip(slots.tolist(), entries[slots].tolist(), strict=True))
        if not named:
            return
        index = next((index for index, places in self._places.items() if places == named), None)
        if index is None:
            where = place * SECTOR_BYTES
            raise CorruptImage(self.path, where, "grain table", "the grains that came before it", "others")
        del self._places[index]
        self._tables[index] = place

    def _judge_directory(self, place: int) -> None:
        """Read in parts: it may be long."""
        left = self.header.directory_sectors
        index = 0
        while left:
            count = min(left, SKIP_BYTES // SECTOR_BYTES)
            entries = np.frombuffer(self._take(count * SECTOR_BYTES, "grain directory"), GTE)
            entries = entries[: max(self.header.tables - index, 0)]
            for slot in np.flatnonzero(entries).tolist():
                known, found = self._tables.pop(index + slot, 0), int(entries[slot])
                if known != found:
                    expected = f"sector {known}" if known else "none, for no table came"
                    at = place * SECTOR_BYTES + (index + slot) * GTE.itemsize
                    raise CorruptImage(self.path, at, f"grain directory, entry {index + slot}", expected, f"{found}")
            index, left = index + count * SECTOR_BYTES // GTE.itemsize, left - count
        self._directory = place

    def _judge_footer(self, at: int, data: bytes) -> None:
        footer = parse_header(data, self.path, at)
        for name in ("capacity", "grain_size", "gtes_per_gt"):
            if getattr(footer, name) != getattr(self.header, name):
                expected, found = str(getattr(self.header, name)), str(getattr(footer, name))
                raise CorruptImage(self.path, at + OFFSETS[name], f"{name} of the footer", expected, found)
        if footer.gd_offset != self._directory:
            where, expected = at + OFFSETS["gd_offset"], f"sector {self._directory}"
            raise CorruptImage(self.path, where, "gd_offset of the footer", expected, str(footer.gd_offset))
        self._has_footer = True

    def _judge_end(self, at: int) -> None:
        missing = "footer" if not self._has_footer else ""
        if self._places or self._tables:
            missing = "table of grains that came" if self._places else "directory entry of a table that came"
        if missing:
            raise CorruptImage(self.path, at, "stream", f"a {missing}", "the end-of-stream marker")
        while self._fetch(SKIP_BYTES):
            pass  # whoever writes should not find the pipe broken

    def _take(self, length: int, what: str) -> bytes:
        data = self._fetch(length) if length else b""
        self._at += len(data)
        if len(data) < length:
            raise CorruptImage(self.path, self._at, what, f"{length} bytes", f"the end of the stream after {len(data)}")
        return data

    def _skip(self, length: int) -> None:
        while length > 0:
            length -= len(self._take(min(length, SKIP_BYTES), "stream"))


def keep_order(disk: Disk) -> None:
    """Whoever takes the disk's contents takes them from front to back."""
    if isinstance(disk, PipedStream):
        disk.rising = True
