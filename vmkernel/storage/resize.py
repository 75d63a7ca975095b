"""Makes disks larger, and smaller where nothing is lost: in place, and whole after a power failure at any point.

A disk grows from its files outwards: they get the room first, and the descriptor says so last. It shrinks the other way
round. Sparse extents get a larger directory and its tables at the end of their file, and one sector, the header, makes
them valid. A redo log's header must say what its descriptor says, so it is made anew beside the old one.
Contents get another content ID: children of the disk as it was are refused from then on.
Not resized: links with a parent or with children, streams, seSparse, devices, extents that do not fill a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import replace
from itertools import count

import numpy as np

from ringfence.errors import BadInput, BadOption
from vmkernel.storage.block_file import BlockFile, sync_folder
from vmkernel.storage.chain import Chain, open_disk, open_raw
from vmkernel.storage.compare import first_filled
from vmkernel.storage.copying import copy_disk
from vmkernel.storage.create import (
    CREATE_TYPES,
    HOSTED_SECTORS_MAX,
    SECTORS_MAX,
    SPLIT_SECTORS,
    Kind,
    flat,
    hosted,
    leave_holes,
    reserve,
)
from vmkernel.storage.disk import SECTOR_BYTES, Extent
from vmkernel.storage.errors import Unsupported
from vmkernel.storage.family import refuse_children
from vmkernel.storage.place import Place, elsewhere, is_taken, name_too
from vmkernel.storage.vmdk import cowd
from vmkernel.storage.vmdk.cowd import CowdExtent
from vmkernel.storage.vmdk.descriptor import Descriptor, ExtentLine
from vmkernel.storage.vmdk.descriptor_spec import Adapter, CreateType, ExtentType
from vmkernel.storage.vmdk.flat import FlatExtent
from vmkernel.storage.vmdk.geometry import geometry
from vmkernel.storage.vmdk.grain_tables import ABSENT, GTE
from vmkernel.storage.vmdk.link import Link, new_cid
from vmkernel.storage.vmdk.sparse import SparseExtent
from vmkernel.storage.vmdk.sparse_header import SparseHeader

KINDS = {
    CreateType.MONOLITHIC_SPARSE: Kind.MONOLITHIC_SPARSE, CreateType.MONOLITHIC_FLAT: Kind.MONOLITHIC_FLAT,
    CreateType.TWO_GB_SPARSE: Kind.TWO_GB_SPARSE, CreateType.TWO_GB_FLAT: Kind.TWO_GB_FLAT,
    CreateType.VMFS: Kind.THICK, CreateType.VMFS_SPARSE: Kind.VMFS_SPARSE,
}  # fmt: skip
SPLIT = frozenset({Kind.TWO_GB_SPARSE, Kind.TWO_GB_FLAT})
NEW_NAME = "resized"  # of a redo log that takes the place of another
assert set(KINDS) == set(CREATE_TYPES.values())


def resize(path: Place, size_bytes: int, *, shrink: bool = False) -> None:
    """A disk of another size; new sectors read as zeros. Raises Unsupported, BadOption, HostRefused or MediaError.

    `shrink` allows a smaller size, where the sectors that go are zeros.
    """
    if size_bytes % SECTOR_BYTES or size_bytes <= 0:
        raise BadOption(f"{path}: a disk has a multiple of {SECTOR_BYTES} bytes, not {size_bytes}")
    refuse_children(path, "disk to be resized")
    with open_disk(path, writable=True) as disk:
        plan = Resizing(path, disk, size_bytes // SECTOR_BYTES)
        judge_tail(path, disk, size_bytes, shrink=shrink)
        disk.flush()
        if plan.sectors > disk.sectors:
            plan.grow()
        elif plan.sectors < disk.sectors:
            plan.shrink()


def resize_raw(path: Place, size_bytes: int, *, shrink: bool = False) -> None:
    """Bare sectors, likewise."""
    if size_bytes % SECTOR_BYTES or size_bytes <= 0:
        raise BadOption(f"{path}: a disk has a multiple of {SECTOR_BYTES} bytes, not {size_bytes}")
    if not path.is_file():
        raise Unsupported(str(path), "disk to be resized", "a file", "a device, or nothing")
    with open_raw(path, writable=True) as disk:
        judge_tail(path, disk, size_bytes, shrink=shrink)
        for file in disk.links[0].files.values():
            file.truncate(size_bytes)
            file.sync()


def judge_tail(path: Place, disk: Chain, size_bytes: int, *, shrink: bool) -> None:
    """Raises BadOption or BadInput where something would be lost."""
    if size_bytes >= disk.size_bytes:
        return
    if not shrink:
        raise BadOption(f"{path}: {size_bytes} bytes are fewer than its {disk.size_bytes}: expected --shrink with that")
    at = first_filled(disk, size_bytes, disk.size_bytes - size_bytes)
    if at is not None:
        raise BadInput(str(path), "end of the disk that would go", "nothing but zeros", f"data at byte {at}")


class Resizing:
    """One disk on its way from one size to another."""

    def __init__(self, path: Place, disk: Chain, sectors: int) -> None:
        """Raises Unsupported or BadOption before anything is changed."""
        link = disk.links[-1]
        self.path, self.disk, self.link, self.sectors = path, disk, link, sectors
        if len(disk.links) > 1 or link.has_parent:
            raise unsupported(path, "a disk without a parent", "one that has one: make a copy of it, or commit it")
        if link.descriptor is None:
            raise unsupported(path, "a disk with a descriptor", "none")
        self.text: Descriptor = link.descriptor
        kind = KINDS.get(self.text.create_type) if self.text.create_type is not None else None
        if kind is None:
            raise unsupported(path, f"one of {', '.join(KINDS)}", f"{self.text.get('createType')}")
        self.kind: Kind = kind
        if sectors > SECTORS_MAX[kind]:
            raise BadOption(f"{path}: a {kind} disk has up to {SECTORS_MAX[kind] * SECTOR_BYTES} bytes")
        self.lines = list(self.text.extents)
        for line, extent in zip(self.lines, link.extents, strict=True):
            judge_extent(path, line, extent)
        if len(link.files) < len(self.lines):
            raise unsupported(path, "extents that fill a file each", "several in one")

    def save(self, lines: Iterable[ExtentLine]) -> None:
        """The descriptor with other extents, their geometry and another CID: the step that counts."""
        lines = list(lines)
        self.text.replace_extents(lines)
        adapter = self.text.get("ddb.adapterType")
        if adapter in set(Adapter):
            chs = geometry(Adapter(adapter), sum(line.sectors for line in lines))
            for name, value in chs._asdict().items():
                self.text.set(f"ddb.geometry.{name}", str(value))
        self.text.set_cid(new_cid(self.text.cid))
        self.link.save_descriptor()

    # larger

    def grow(self) -> None:
        if self.kind is Kind.VMFS_SPARSE:
            self._made_anew()
            return
        last, extent = self.lines[-1], self.link.extents[-1]
        before = self.disk.sectors - last.sectors
        room = SPLIT_SECTORS if self.kind in SPLIT else self.sectors
        first = max(min(self.sectors - before, room), last.sectors)
        lines = [*self.lines[:-1], replace(last, sectors=first)]
        made: list[BlockFile] = []
        try:
            if first > last.sectors:
                grow_extent(extent, first)
            while (missing := self.sectors - sum(line.sectors for line in lines)) > 0:
                lines.append(self._next_extent(min(missing, SPLIT_SECTORS), extent, made))
            for file in made:
                file.sync()
            sync_folder(self.path.parent)
            self.save(lines)
        except BaseException:
            for file in made:
                file.close()
                with suppress(OSError):
                    file.path.unlink()
            raise
        finally:
            for file in made:
                file.close()

    def _next_extent(self, sectors: int, like: Extent, made: list[BlockFile]) -> ExtentLine:
        letter = "s" if self.kind is Kind.TWO_GB_SPARSE else "f"
        stem = self.path.name.removesuffix(".vmdk")
        names = (f"{stem}-{letter}{number:03}.vmdk" for number in count(len(self.lines) + 1))
        file = BlockFile.create(first_free(self.path.with_name(name) for name in names))
        made.append(file)
        if isinstance(like, SparseExtent):
            return hosted(file, sectors, 0, like.grain_sectors)
        assert isinstance(like, FlatExtent)
        return flat(file, sectors, ExtentType.FLAT, policy(like))

    # smaller

    def shrink(self) -> None:
        if self.kind is Kind.VMFS_SPARSE:
            self._made_anew()
            return
        kept: list[ExtentLine] = []
        cut: list[tuple[Extent, int]] = []
        left = self.sectors
        for line, extent in zip(self.lines, self.link.extents, strict=True):
            stays = min(line.sectors, left)
            left -= stays
            if stays:
                kept.append(replace(line, sectors=stays))
            if stays < line.sectors:
                cut.append((extent, stays))
        self.save(kept)
        for extent, stays in cut:
            assert extent.file is not None
            if not stays:
                extent.file.close()
                extent.file.path.unlink(missing_ok=True)
            else:
                shrink_extent(extent, stays)
        sync_folder(self.path.parent)

    # redo logs

    def _made_anew(self) -> None:
        """A new file; the descriptor is switched to it, the old file's name to it, and the descriptor to that."""
        line, extent = self.lines[0], self.link.extents[0]
        assert isinstance(extent, CowdExtent)
        old = extent.file.path
        new = first_free(old.with_name(f"{old.stem}-{NEW_NAME}{number}.vmdk") for number in count(1))
        again = old.with_name(f".{new.name}")
        with ExitStack() as undo:
            file = undo.enter_context(BlockFile.create(new))
            undo.callback(new.unlink, missing_ok=True)
            cowd.write_empty(file, cowd.new_header(self.sectors, extent.grain_sectors))
            link = Link(new, None, None, writable=True)
            link.files[new] = file
            link.add(CowdExtent.open(file))
            target = Chain([link])
            copy_disk(Part(self.disk, min(self.sectors, self.disk.sectors)), target, target_is_new=True)
            link.extents[0].flush()
            link.extents[0].finish()
            sync_folder(self.path.parent)
            undo.pop_all()
        try:
            self.save([replace(line, sectors=self.sectors, name=new.name)])
            if elsewhere(new) is None:
                again.unlink(missing_ok=True)
                name_too(new, again)
                again.replace(old)
                sync_folder(self.path.parent)
                self.save([replace(line, sectors=self.sectors)])
                new.unlink()
            else:
                extent.file.close()
                old.unlink()  # a file there has one name, and keeps the one that the descriptor has now
        finally:
            file.close()


class Part:
    """The first sectors of a disk."""

    writable = False

    def __init__(self, disk: Chain, sectors: int) -> None:
        self.disk, self.size_bytes = disk, sectors * SECTOR_BYTES
        self.read, self.runs, self.close = disk.read, disk.runs, disk.close
        self.write, self.zero, self.flush = disk.write, disk.zero, disk.flush


def first_free(paths: Iterable[Place]) -> Place:
    """A resizing that was cut short may have left files: they are not touched."""
    return next(path for path in paths if not is_taken(path))


def unsupported(path: Place, expected: str, found: str) -> Unsupported:
    return Unsupported(str(path), "disk to be resized", expected, found)


def judge_extent(path: Place, line: ExtentLine, extent: Extent) -> None:
    """Raises Unsupported for what fills no file of its own."""
    if extent.file is None or not extent.file.writable:
        raise unsupported(path, "extents that are written", str(line))
    if isinstance(extent, FlatExtent) and (line.offset or not extent.file.path.is_file()):
        raise unsupported(path, "extents that fill a file each", str(line))
    if not isinstance(extent, FlatExtent | SparseExtent | CowdExtent):
        raise unsupported(path, "flat and sparse extents", str(line))


# extents


def policy(extent: FlatExtent) -> Callable[[BlockFile, int], None]:
    """As the file is now: with blocks for all of it, or with holes."""
    return reserve if extent.file.allocated() >= extent.sectors * SECTOR_BYTES else leave_holes


def grow_extent(extent: Extent, sectors: int) -> None:
    """The file has the room, durably; the old size stays valid."""
    if isinstance(extent, FlatExtent):
        give = policy(extent)
        extent.file.truncate(extent.sectors * SECTOR_BYTES)  # what lay behind the extent is not to be seen
        give(extent.file, sectors * SECTOR_BYTES)
        extent.file.sync()
    elif isinstance(extent, SparseExtent):
        grow_sparse(extent, sectors)


def grow_sparse(extent: SparseExtent, sectors: int) -> None:
    """Raises BadOption where entries cannot reach that far."""
    header = extent.header
    larger = replace(header, capacity=max(sectors, header.capacity))
    clear_tail(extent)
    grain = header.grain_size
    first = -(-extent.file_sectors // grain) * grain
    new_tables = larger.tables - header.tables
    if not new_tables:
        write_header(extent, larger)
        return
    copies = 1 if extent.redundant is None else 2
    moves = larger.directory_sectors > header.directory_sectors
    directory = larger.directory_sectors if moves else 0
    end = first + copies * (directory + new_tables * header.table_sectors)
    if end > HOSTED_SECTORS_MAX:
        raise BadOption(f"{extent.file.path}: no room for {new_tables} tables below sector {HOSTED_SECTORS_MAX}")
    extent.file.truncate(-(-end // grain) * grain * SECTOR_BYTES)
    at = first
    places = []
    for old in (extent.tables.directory,) if extent.redundant is None else (extent.redundant, extent.tables.directory):
        tables = at + directory + np.arange(new_tables, dtype=np.int64) * header.table_sectors
        entries = np.concatenate([old.astype(np.int64)[: header.tables], tables]).astype(GTE)
        place = at if moves else (header.rgd_offset if old is extent.redundant else header.gd_offset)
        skip = 0 if moves else header.tables
        extent.file.write(place * SECTOR_BYTES + skip * GTE.itemsize, [entries[skip:].tobytes()])
        places.append(place)
        at += directory + new_tables * header.table_sectors
    rgd = places[0] if len(places) > 1 else 0
    write_header(extent, replace(larger, rgd_offset=rgd, gd_offset=places[-1]))


def write_header(extent: SparseExtent, header: SparseHeader) -> None:
    """One sector, once everything that it points at is safe."""
    extent.file.sync()
    extent.file.write(0, [header.build()])
    extent.file.sync()
    extent.header = header


def clear_tail(extent: SparseExtent) -> None:
    """What the last table and the last grain hold behind the end of the disk becomes nothing and zeros."""
    grain, per_table = extent.grain_sectors, extent.tables.per_table
    grains = -(-extent.sectors // grain)
    tables = np.flatnonzero(extent.tables.directory[(grains - 1) // per_table :]) + (grains - 1) // per_table
    for index in tables.tolist():
        keep = max(grains - index * per_table, 0)
        beyond = extent.tables.table(index)[keep:]
        if beyond.any():
            extent.tables.set(index * per_table + keep, np.full(len(beyond), ABSENT, GTE))
    inside = extent.sectors % grain
    entry = int(extent.tables.entries(grains - 1, 1)[0])
    if inside and entry >= extent.data_start:
        start, end = entry + inside, min(entry + grain, extent.file_sectors)
        extent.file.zero(start * SECTOR_BYTES, max(end - start, 0) * SECTOR_BYTES)
    if extent.tables.dirty:
        extent.write_tables()


def shrink_extent(extent: Extent, sectors: int) -> None:
    """The descriptor has the new size already."""
    if isinstance(extent, FlatExtent):
        extent.file.truncate(sectors * SECTOR_BYTES)
        extent.file.sync()
    elif isinstance(extent, SparseExtent):
        extent.sectors = sectors
        clear_tail(extent)
        write_header(extent, replace(extent.header, capacity=sectors))
