"""One link of a chain: a descriptor and the extents that it names, opened.

A sparse file opened by itself is a link too: with the descriptor inside it, or, as an ESX 2 redo log or one piece of a
split disk, with none. Where a descriptor lies inside a sparse file, extent 0 is that file, whatever name it gives.
A name is looked for as it stands, relative to the descriptor's directory, then by its last part in that directory.
"""

from __future__ import annotations

import secrets
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from pathlib import PureWindowsPath

from ringfence.errors import RingfenceError
from vmkernel.storage.block_file import BlockFile
from vmkernel.storage.datastores import in_brackets, locate
from vmkernel.storage.disk import SECTOR_BYTES, Extent
from vmkernel.storage.errors import CorruptImage, MissingLink, Unsupported
from vmkernel.storage.place import Place
from vmkernel.storage.vmdk import cowd_spec, sesparse_spec, sparse_spec
from vmkernel.storage.vmdk.cowd import CowdExtent
from vmkernel.storage.vmdk.descriptor import Descriptor, ExtentLine
from vmkernel.storage.vmdk.descriptor_spec import (
    NEVER_WRITTEN,
    TEXT_BYTES_MAX,
    Access,
    ExtentType,
)
from vmkernel.storage.vmdk.flat import ClosedExtent, FlatExtent, ZeroExtent
from vmkernel.storage.vmdk.sesparse import SeSparseExtent
from vmkernel.storage.vmdk.sparse import SparseExtent
from vmkernel.storage.vmdk.sparse_header import SparseHeader, read_header
from vmkernel.storage.vmdk.stream import StreamExtent
from vmkernel.storage.vmdk.text_home import EmbeddedText, TextFile, TextHome

REDO_SUFFIX = ".REDO"


class Link:
    """Extents in the order of their lines; `starts` are the link's sectors where they begin."""

    def __init__(self, path: Place, descriptor: Descriptor | None, home: TextHome | None, *, writable: bool) -> None:
        self.path, self.descriptor, self.home, self.writable = path, descriptor, home, writable
        self.extents: list[Extent] = []
        self.starts: list[int] = []
        self.sectors = 0
        self.parent_name = ""  # of a redo log without descriptor
        self.files: dict[Place, BlockFile] = {}
        self._begun = False
        self._started: dict[Extent, None] = {}

    def add(self, extent: Extent) -> None:
        extent.first = self.sectors
        self.extents.append(extent)
        self.starts.append(self.sectors)
        self.sectors += extent.sectors

    @property
    def cid(self) -> int | None:
        return None if self.descriptor is None else self.descriptor.cid

    @property
    def has_parent(self) -> bool:
        return bool(self.parent_name) if self.descriptor is None else self.descriptor.has_parent

    def spans(self, sector: int, count: int) -> Iterator[tuple[Extent, int, int]]:
        """(extent, its sector, how many) for a range of the link."""
        index = bisect_right(self.starts, sector) - 1
        while count:
            extent, at = self.extents[index], sector - self.starts[index]
            taken = min(count, extent.sectors - at)
            if taken:
                yield extent, at, taken
            index, sector, count = index + 1, sector + taken, count - taken

    def stretch(self, sector: int) -> int:
        """How many sectors can be resolved at once."""
        extent, at, _ = next(self.spans(sector, 1))
        return extent.stretch(at)

    # writing

    def start_writing(self, extent: Extent) -> None:
        """Before a write: on the first one the contents get another CID, so that children of the old ones notice."""
        if not self._begun:
            if self.descriptor is not None and self.home is not None:
                self.descriptor.set_cid(new_cid(self.descriptor.cid))
                if self.descriptor.get("changeTrackPath") is not None:
                    self.descriptor.remove("changeTrackPath")  # its map would no longer be true
                self.home.save(self.descriptor.encode())
            self._begun = True
        if extent not in self._started:
            extent.start_writing()
            self._started[extent] = None

    def save_descriptor(self) -> None:
        if self.descriptor is not None and self.home is not None:
            self.home.save(self.descriptor.encode())

    def flush(self) -> None:
        for extent in self._started:
            extent.flush()

    def settle(self) -> None:
        """Flush, and take away the marks of being open: what is written afterwards sets them again."""
        self.flush()
        for extent in self._started:
            extent.finish()
        self._started = {}

    def freeze(self) -> None:
        """Nothing is written to it any more, for it has a child now: others may read its files."""
        self.settle()
        self.writable = False
        for file in self.files.values():
            file.share()

    def close(self) -> None:
        """Flush, take away the marks of being open, and let go of the files, which happens whatever fails before."""
        try:
            self.settle()
        finally:
            self._started = {}
            self.abandon()

    def abandon(self) -> None:
        """Let go of the files as they are."""
        for file in self.files.values():
            file.close()


def new_cid(old: int) -> int:
    """Random, and neither the old one nor one with a meaning."""
    while (cid := secrets.randbits(32)) >= NEVER_WRITTEN or cid == old:
        pass
    return cid


def open_link(path: Place, *, writable: bool = False, lock: bool = True, recover: bool = False) -> Link:
    """Raises a BadInput that names the file and byte, or HostRefused. Nothing is written.

    `recover`: the map of a stream is made from its grains, and not taken from its directory.
    """
    with_head = BlockFile.open(path, lock=False)
    try:
        head = with_head.some_at(0, 8)
        text = b"" if is_binary(head) else with_head.some_at(0, TEXT_BYTES_MAX + 1)
    finally:
        with_head.close()
    opening = Opening(path, writable=writable, lock=lock, recover=recover)
    try:
        if is_binary(head):
            return opening.sparse_file()
        descriptor = Descriptor.parse(text.partition(b"\0")[0], path)
        return opening.described(descriptor, TextFile(path))
    except BaseException:
        opening.abandon()
        raise


def is_binary(head: bytes) -> bool:
    magics = (sparse_spec.MAGIC, sparse_spec.MAGIC_UNFINISHED, cowd_spec.MAGIC, sesparse_spec.MAGIC_BYTES)
    return head.startswith(magics)


class Opening:
    """The steps of opening a link; keeps the files for the case that one fails."""

    def __init__(self, path: Place, *, writable: bool, lock: bool, recover: bool) -> None:
        self.path, self.writable, self.lock, self.recover = path, writable, lock, recover
        self.files: dict[Place, BlockFile] = {}

    def abandon(self) -> None:
        for file in self.files.values():
            file.close()

    def file(self, path: Place, *, writable: bool) -> BlockFile:
        """Each file once, however many extents lie in it."""
        try:
            key = path.resolve()
        except (OSError, RuntimeError, ValueError):
            key = path
        if key not in self.files:
            self.files[key] = BlockFile.open(path, writable=writable, lock=self.lock)
        return self.files[key]

    def _link(self, descriptor: Descriptor | None, home: TextHome | None) -> Link:
        link = Link(self.path, descriptor, home, writable=self.writable)
        link.files = self.files
        return link

    def sparse_file(self) -> Link:
        file = self.file(self.path, writable=self.writable)
        magic = file.bytes_at(0, 4)
        if magic == cowd_spec.MAGIC:
            link = self._link(None, None)
            extent = CowdExtent.open(file)
            link.add(extent)
            link.parent_name = extent.header.parent_name
            if not link.parent_name and self.path.name.endswith(REDO_SUFFIX):
                link.parent_name = self.path.name.removesuffix(REDO_SUFFIX)
            return link
        if magic not in (sparse_spec.MAGIC, sparse_spec.MAGIC_UNFINISHED):
            link = self._link(None, None)
            link.add(SeSparseExtent.open(file))
            return link
        header = read_header(file)
        if not header.descriptor_offset:
            link = self._link(None, None)
            link.add(self._hosted(file, header, None))
            return link
        at = header.descriptor_offset * SECTOR_BYTES
        text = file.some_at(at, header.descriptor_size * SECTOR_BYTES)
        descriptor = Descriptor.parse(text, f"{self.path}: descriptor at byte {at}")
        home = EmbeddedText(file, header.descriptor_offset, header.descriptor_size)
        return self.described(descriptor, home, None if header.is_container else header)

    def described(self, descriptor: Descriptor, home: TextHome, own: SparseHeader | None = None) -> Link:
        """A link with all its extents. `own`: the descriptor lies in a file that is extent 0 itself."""
        link = self._link(descriptor, home)
        if not descriptor.extents:
            raise CorruptImage(self.path, 0, "descriptor", "at least one extent", "none")
        for number, line in enumerate(descriptor.extents):
            if own is not None and not number:
                link.add(self._hosted(self.file(self.path, writable=self.writable), own, line.sectors))
            else:
                link.add(self._extent(line))
        if not link.sectors:
            raise CorruptImage(self.path, descriptor.extents[0].at, "extents", "at least one sector", "none")
        return link

    def _hosted(self, file: BlockFile, header: SparseHeader, sectors: int | None) -> Extent:
        if header.is_compressed:
            if self.writable:
                raise Unsupported(
                    str(file.path), "disk to be written", "grains that are not compressed", "streamOptimized"
                )
            return StreamExtent.open(file, sectors, recover=self.recover)
        return SparseExtent.open(file, sectors)

    def _extent(self, line: ExtentLine) -> Extent:
        if line.access == Access.NOACCESS:
            return ClosedExtent(line.sectors)
        if line.type == ExtentType.ZERO:
            return ZeroExtent(line.sectors)
        where = f"{self.path}: byte {line.at}"
        file = self.file(find(self.path, line.name, where), writable=self.writable and line.access == Access.RW)
        if line.type in (ExtentType.FLAT, ExtentType.VMFS):
            return FlatExtent.open(file, line.sectors, line.offset)
        if line.type in (ExtentType.VMFSRDM, ExtentType.VMFSRAW):
            if file.size < line.sectors * SECTOR_BYTES:
                expected = f"the {line.sectors} sectors of the device that {line.name!r} maps"
                raise Unsupported(where, "raw device mapping", expected, f"a file of {file.size} bytes")
            return FlatExtent.open(file, line.sectors)
        if line.type == ExtentType.VMFSSPARSE:
            return CowdExtent.open(file, line.sectors)
        if line.type == ExtentType.SESPARSE:
            return SeSparseExtent.open(file, line.sectors)
        return self._hosted(file, read_header(file), line.sectors)


def find(descriptor: Place, name: str, where: str) -> Place:
    """The file that a descriptor names. Raises MissingLink, which says what was looked for."""
    for candidate in candidates(descriptor, name):
        try:
            if candidate.exists() and not candidate.is_dir():
                return candidate
        except (OSError, ValueError):
            continue
    raise MissingLink(where, "extent", f"a file {name!r}", "none of this name")


def candidates(descriptor: Place, name: str) -> Iterator[Place]:
    """As it stands; by its last part, written with either separator, in the descriptor's directory, or in a sibling."""
    folder = descriptor.parent
    if in_brackets(name) is not None:
        with suppress(RingfenceError):  # a datastore that is not known, or away: the name may be a file's nevertheless
            yield locate(folder, name)
    yield folder / name
    parts = PureWindowsPath(name).parts
    if parts:
        yield folder.joinpath(*parts[1:] if PureWindowsPath(name).anchor else parts)
        yield folder / parts[-1]
    if len(parts) > 1:
        yield folder.parent / parts[-2] / parts[-1]
