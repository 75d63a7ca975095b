"""A disk as a chain of links: each sector comes from the youngest link that has it; only the youngest is written.

A request becomes runs, each in one file, and each run is one preadv or pwritev straight from or to the caller's views.
The chain has one lock, which a read holds while it looks up where its data lies and a write until it is done.
Locks on files: block_file.py. An open chain holds its parents for reading, so nobody writes them meanwhile.
Source: VMware Virtual Disk Format 1.1, "Links"; VMware KB 1007969 (content ID).
"""

from __future__ import annotations

import contextlib
import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from types import TracebackType

from ringfence.errors import BadInput, MediaError
from vmkernel.storage.block_file import BlockFile, cut, fill_zeros
from vmkernel.storage.disk import NOT_HERE, SECTOR_BYTES, Absent, Extent, Packed, Piece, Run, Stored
from vmkernel.storage.errors import (
    ContentMismatch,
    CorruptImage,
    DamagedGrain,
    MissingLink,
    NotWritable,
    Unsupported,
)
from vmkernel.storage.place import Place
from vmkernel.storage.vmdk.check import ready_to_write
from vmkernel.storage.vmdk.flat import FlatExtent
from vmkernel.storage.vmdk.link import Link, candidates, open_link
from vmkernel.storage.vmdk.stream import StreamExtent

LINKS_MAX = 256
NOBODY = -1
Move = tuple[int, Extent | None, Run]  # which link, and from where
Way = tuple[list[int], list[Extent]]  # a link's: where its extents begin, and they


class Chain:
    """`links` with the base first. `warnings` are for a person: what a relaxed or recovering opening passed over."""

    def __init__(self, links: list[Link], warnings: Sequence[str] = ()) -> None:
        self.links, self.warnings = links, list(warnings)
        self.sectors = links[-1].sectors
        self._lock = threading.RLock()
        self._find_top()

    def _find_top(self) -> None:
        self._top = len(self.links) - 1
        self._ways = [(link.starts, link.extents) for link in reversed(self.links)]
        self._begun: set[Extent] = set()  # those of the youngest link that have the marks of being written

    @property
    def size_bytes(self) -> int:
        return self.sectors * SECTOR_BYTES

    @property
    def writable(self) -> bool:
        return self.links[-1].writable

    def __enter__(self) -> Chain:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    # reading

    def read(self, offset: int, views: Sequence[memoryview]) -> None:
        """What lies together in one file goes a short way, in one frame: half of a small read's time is Python's."""
        length = len(views[0]) if len(views) == 1 else sum(map(len, views))
        with self._lock:
            extent, at = self._find(self._ways, offset, length)
        if at is None:
            self._read_apart(offset, length, views)
        elif extent is None or extent.file is None:
            fill_zeros(views)
        elif extent.file.read_at_once(at * SECTOR_BYTES, views) != length:
            self._read_apart(offset, length, views)

    def _read_apart(self, offset: int, length: int, views: Sequence[memoryview]) -> None:
        sector, count = self._sectors(offset, length)
        with self._lock:
            moves = self._resolve(self._top, sector, count) if count else []
        self._fetch(sector, moves, views)

    def read_at_once(self, offset: int, views: Sequence[memoryview]) -> bool:
        """Read what the host has in memory; False, and perhaps something in the views, where it would have to wait.

        Raises nothing: what cannot be read is for `read` to say.
        """
        if not self._lock.acquire(blocking=False):
            return False
        try:
            length = sum(map(len, views))
            extent, at = self._find(self._ways, offset, length)
        finally:
            self._lock.release()
        if at is None:
            return False
        if extent is None or extent.file is None:
            fill_zeros(views)
            return True
        return extent.file.read_cached(at * SECTOR_BYTES, views) == length

    def _find(self, ways: Sequence[Way], offset: int, length: int) -> tuple[Extent | None, int | None]:
        """What has a request together, and at which sector of its file: (None, NOT_HERE) where no link has any of it.

        (None, None): that is not known yet, or not so, or no request.
        """
        if (offset | length) % SECTOR_BYTES or not 0 <= offset < offset + length <= self.sectors * SECTOR_BYTES:
            return None, None
        sector, count = offset // SECTOR_BYTES, length // SECTOR_BYTES
        for starts, extents in ways:
            index = bisect_right(starts, sector) - 1
            extent, first = extents[index], sector - starts[index]
            at = extent.locate(first, count) if first + count <= extent.sectors else None
            if at is None:
                return None, None
            if at != NOT_HERE:
                return extent, at
        return None, NOT_HERE

    def _resolve(self, level: int, sector: int, count: int) -> list[Move]:
        """(link, extent, run) for a range as link `level` shows it; Absent is what no link has."""
        if level < 0:
            return [(NOBODY, None, Absent(count))]
        found: list[Move] = []
        for extent, at, taken in self.links[level].spans(sector, count):
            found += self._below_absent(level, extent, sector, extent.resolve(at, taken))
            sector += taken
        return found

    def _below_absent(self, level: int, extent: Extent, sector: int, runs: list[Run]) -> list[Move]:
        found: list[Move] = []
        for run in runs:
            if type(run) is Absent:
                found += self._resolve(level - 1, sector, run.sectors)
            else:
                found.append((level, extent, run))
            sector += run.sectors
        return found

    def _fetch(self, sector: int, moves: Sequence[Move], views: Sequence[memoryview]) -> None:
        at = 0
        packed: dict[StreamExtent, list[Packed]] = {}
        for _, extent, run in moves:
            if type(run) is Packed and isinstance(extent, StreamExtent):
                packed.setdefault(extent, []).append(run)
        if packed:
            self._unpack_ahead(packed)
        for _, extent, run in moves:
            length = run.sectors * SECTOR_BYTES
            part = cut(views, at, length)
            if type(run) is Stored and extent is not None and extent.file is not None:
                with Numbered(sector + at // SECTOR_BYTES, run.sectors):
                    extent.file.read(run.at * SECTOR_BYTES, part)
            elif type(run) is Packed and extent is not None:
                with self._lock:
                    extent.unpack(run, part)
            else:
                fill_zeros(part)
            at += length

    def _unpack_ahead(self, packed: dict[StreamExtent, list[Packed]]) -> None:
        """What cannot be unpacked is named when its turn comes."""
        with self._lock, contextlib.suppress(MediaError):
            for extent, runs in packed.items():
                extent.prepare(runs)

    def _read_below(self, start: int, sector: int, count: int) -> bytes:
        """What is under the written link, for an extent that begins at `start`."""
        data = bytearray(count * SECTOR_BYTES)
        if self._top:
            self._fetch(start + sector, self._resolve(self._top - 1, start + sector, count), [memoryview(data)])
        return bytes(data)

    def runs(self, offset: int, length: int) -> Iterator[Piece]:
        sector, count = self._sectors(offset, length)
        held: Piece | None = None
        end = sector + count
        while sector < end:
            with self._lock:
                step = min(end - sector, *(link.stretch(sector) for link in self.links))
                moves = self._resolve(self._top, sector, step)
            for piece in pieces(sector * SECTOR_BYTES, moves):
                if held is not None and continues(held, piece):
                    held = held._replace(length=held.length + piece.length)
                    continue
                if held is not None:
                    yield held
                held = piece
            sector += step
        if held is not None:
            yield held

    # writing

    def write(self, offset: int, views: Sequence[memoryview]) -> None:
        sector, count = self._sectors(offset, sum(map(len, views)))
        with self._lock:
            if count and self._write_over(sector, count, views):
                return
            at = 0
            self._begun.clear()
            written = []
            for extent, first, taken in self._writable_spans(sector, count):
                below = partial(self._read_below, sector + at - first)
                with Numbered(sector + at, count - at):
                    extent.write(first, cut(views, at * SECTOR_BYTES, taken * SECTOR_BYTES), below)
                written.append(extent)
                at += taken
            self._begun.update(written)

    def _write_over(self, sector: int, count: int, views: Sequence[memoryview]) -> bool:
        """The short way over what lies together in the youngest link; False: it is for the long way."""
        link = self.links[-1]
        index = bisect_right(link.starts, sector) - 1
        extent, first = link.extents[index], sector - link.starts[index]
        if not link.writable or extent.file is None or not extent.file.writable or first + count > extent.sectors:
            return False
        link.start_writing(extent)
        at = extent.locate(first, count)
        if at is None or at == NOT_HERE:
            return False
        with Numbered(sector, count):
            extent.file.write(at * SECTOR_BYTES, views)
        self._begun.add(extent)
        return True

    def write_at_once(self, offset: int, views: Sequence[memoryview]) -> bool:
        """Write over what is there, into the host's page cache; False, and perhaps a part written, where it is more.

        It is more too while another thread writes or flushes. Raises nothing: what fails is for `write` to say.
        """
        if not self._begun or not self._lock.acquire(blocking=False):
            return False
        try:
            length = sum(map(len, views))
            extent, at = self._find(self._ways[:1], offset, length)
            if at is None or extent is None or extent.file is None or extent not in self._begun:
                return False
            return extent.file.write_cached(at * SECTOR_BYTES, views) == length
        finally:
            self._lock.release()

    def zero(self, offset: int, length: int) -> None:
        sector, count = self._sectors(offset, length)
        with self._lock:
            at = 0
            for extent, first, taken in self._writable_spans(sector, count):
                below = partial(self._read_below, sector + at - first) if self._top else None
                with Numbered(sector + at, count - at):
                    extent.zero(first, taken, below)
                at += taken

    def _writable_spans(self, sector: int, count: int) -> Iterator[tuple[Extent, int, int]]:
        link = self.links[-1]
        if not link.writable:
            raise NotWritable(link.path, sector, "it was opened for reading")
        for extent, at, taken in link.spans(sector, count):
            if extent.file is not None and not extent.file.writable:
                raise NotWritable(extent.file.path, sector, "its extent is RDONLY")
            link.start_writing(extent)
            yield extent, at, taken

    def flush(self) -> None:
        with self._lock:
            self.links[-1].flush()

    def hold(self) -> AbstractContextManager[object]:
        """While it is entered no other thread writes, or begins to read."""
        return self._lock

    def settle(self) -> None:
        """Flush the youngest link, and take away its marks of being open."""
        with self._lock:
            self._begun.clear()
            self.links[-1].settle()

    def push(self, child: Link) -> None:
        """A child of the youngest link, opened for writing, becomes the youngest; others may read the old one then.

        Whoever waits to write has not written yet, and reads go on. Raises CorruptImage, ContentMismatch, HostTrouble.
        """
        with self._lock:
            check_parent(child, self.links[-1], relaxed=False, warnings=[])
            self._begun.clear()
            self.links[-1].freeze()
            self.links = [*self.links, child]
            self._find_top()

    def close(self) -> None:
        with self._lock:
            self._begun.clear()
            try:
                self.links[-1].close()
            finally:
                for link in self.links:
                    link.abandon()

    def _sectors(self, offset: int, length: int) -> tuple[int, int]:
        if offset % SECTOR_BYTES or length % SECTOR_BYTES:
            raise ValueError(f"a request of {length} bytes at {offset}: both must be multiples of {SECTOR_BYTES}")
        sector, count = offset // SECTOR_BYTES, length // SECTOR_BYTES
        if offset < 0 or sector + count > self.sectors:
            raise MediaError(sector, count)
        return sector, count


class Numbered:
    """What the host refuses inside is an error of this sector of the disk; damage knows its sector already."""

    def __init__(self, sector: int, count: int) -> None:
        self.sector, self.count = sector, count

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: object) -> None:
        if isinstance(error, MediaError) and not isinstance(error, DamagedGrain):
            error.block, error.count = self.sector, self.count


def pieces(start: int, moves: Sequence[Move]) -> Iterator[Piece]:
    for level, extent, run in moves:
        if extent is not None and isinstance(extent, FlatExtent) and type(run) is Stored:
            for part in extent.holes(run.at - extent.offset, run.sectors):
                yield from pieces_of(start, level, extent.file, part)
                start += part.sectors * SECTOR_BYTES
            continue
        yield from pieces_of(start, level, None if extent is None else extent.file, run)
        start += run.sectors * SECTOR_BYTES


def pieces_of(start: int, level: int, file: BlockFile | None, run: Run) -> Iterator[Piece]:
    """In the files that the host has open: of a file on a volume that is the volume's device."""
    length = run.sectors * SECTOR_BYTES
    if file is None or not isinstance(run, Stored | Packed):
        yield Piece(start, length, level, None, 0)
        return
    packed = type(run) is Packed
    for place, offset, part in file.located(run.at * SECTOR_BYTES, SECTOR_BYTES if packed else length):
        yield Piece(start, length if packed else part, level, place, offset, packed)
        start += part


def continues(held: Piece, piece: Piece) -> bool:
    """Is this piece the next bytes of the same place?"""
    if held.layer != piece.layer or held.file is not piece.file or held.packed or piece.packed:
        return False
    return held.file is None or held.offset + held.length == piece.offset


# opening


def open_disk(
    path: Place, *, writable: bool = False, lock: bool = True, relaxed: bool = False, recover: bool = False
) -> Chain:
    """A VMDK with its parents. Raises a BadInput that names file and byte, or HostRefused.

    Nothing is written before the first write, but that the tables of a file left unclean are checked and mended when it
    is opened for writing. `relaxed`, for reading: a parent whose CID is another is a warning. `recover`: see open_link.
    Without `lock` a disk may be read while another process writes it.
    """
    if writable and (relaxed or recover):
        raise Unsupported(str(path), "relaxed or recovering opening", "one for reading", "one for writing")
    links: list[Link] = []
    warnings: list[str] = []
    try:
        links.append(open_link(path, writable=writable, lock=lock, recover=recover))
        seen = {file_id(path)}
        while links[0].has_parent:
            child = links[0]
            parent = parent_path(child)
            if (identity := file_id(parent)) in seen or len(links) >= LINKS_MAX:
                found = "one that is its own ancestor" if identity in seen else f"more than {LINKS_MAX} links"
                raise CorruptImage(child.path, 0, f"parent {parent.name!r}", "another disk", found)
            seen.add(identity)
            links.insert(0, open_parent(child, parent, lock=lock, recover=recover))
            check_parent(links[1], links[0], relaxed, warnings)
        if writable:
            warnings += ready_to_write(links[-1])
        warnings += [
            f"{link.path}: {text}"
            for link in links
            for extent in link.extents
            for text in getattr(extent, "damage", ())
        ]
    except BaseException:
        for link in links:
            link.abandon()
        raise
    return Chain(links, warnings)


def file_id(path: Place) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise MissingLink(str(path), "link", "a file", error.strerror or "none") from error
    return status.st_dev, status.st_ino


def parent_path(child: Link) -> Place:
    """Raises MissingLink, which names what was looked for and the link that did open."""
    name = child.parent_name if child.descriptor is None else child.descriptor.parent_hint
    for candidate in candidates(child.path, name) if name else ():
        try:
            if candidate.is_file():
                return candidate
        except (OSError, ValueError):
            continue
    raise MissingLink(str(child.path), "parent", f"a file {name!r}" if name else "a parentFileNameHint", "none")


def open_parent(child: Link, path: Place, *, lock: bool, recover: bool) -> Link:
    """A link like others; the parent of a redo log without descriptor may be bare sectors."""
    try:
        return open_link(path, lock=lock, recover=recover)
    except CorruptImage as error:
        if child.descriptor is not None or not error.what.startswith("version of the descriptor"):
            raise
    return bare_link(path, lock=lock)


def bare_link(path: Place, *, writable: bool = False, lock: bool = True) -> Link:
    """A file or device of bare sectors as a link; a last sector that it does not fill is left out."""
    file = BlockFile.open(path, writable=writable, lock=lock)
    sectors = file.size // SECTOR_BYTES
    if not sectors:
        file.close()
        raise BadInput(str(path), "size", "at least one sector", f"{file.size} bytes")
    link = Link(path, None, None, writable=writable)
    link.files[path] = file
    link.add(FlatExtent(file, sectors))
    return link


def open_raw(path: Place, *, writable: bool = False, lock: bool = True) -> Chain:
    """Bare sectors as a disk. Raises BadInput or HostRefused."""
    return Chain([bare_link(path, writable=writable, lock=lock)])


def check_parent(child: Link, parent: Link, relaxed: bool, warnings: list[str]) -> None:
    """Raises ContentMismatch or CorruptImage."""
    if child.sectors != parent.sectors:
        found = f"{child.sectors}, and {parent.path.name} has {parent.sectors}"
        raise CorruptImage(child.path, 0, "capacity", "the same in each link", found)
    if child.descriptor is None or parent.cid is None or child.descriptor.parent_cid == parent.cid:
        return
    expected, found = f"{child.descriptor.parent_cid:08x}, as when it was made", f"{parent.cid:08x} in {parent.path}"
    if not relaxed:
        raise ContentMismatch(str(child.path), "content ID of the parent, which was modified since", expected, found)
    warnings.append(f"{child.path}: the parent was modified since: expected {expected}, found {found}")
