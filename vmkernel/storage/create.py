"""Makes disks: each kind that is written, with the files and names that its makers use, and children of them.

    monolithicSparse          n.vmdk                          vmfs...      n.vmdk, n-flat.vmdk
    monolithicFlat            n.vmdk, n-flat.vmdk             vmfsSparse   n.vmdk, n-delta.vmdk
    twoGbMaxExtentSparse      n.vmdk, n-s001.vmdk ...         redo         n.vmdk.REDO, beside n.vmdk
    twoGbMaxExtentFlat        n.vmdk, n-f001.vmdk ...

The extents are made and flushed first and the descriptor last, so that what is cut short is no disk yet. No file is
overwritten, and those made are removed again when one fails. streamOptimized is written by stream_writer.py.
Source: VMware Virtual Disk Format 1.1; VMware KB 1003565 (disk formats); vmkfstools manual.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from enum import StrEnum

from ringfence.errors import BadOption
from vmkernel.storage.block_file import BlockFile, sync_folder
from vmkernel.storage.chain import LINKS_MAX, Chain, open_disk
from vmkernel.storage.disk import SECTOR_BYTES
from vmkernel.storage.errors import Unsupported
from vmkernel.storage.place import P, Place
from vmkernel.storage.vmdk import cowd, cowd_spec, sparse
from vmkernel.storage.vmdk.descriptor import Descriptor, ExtentLine, build
from vmkernel.storage.vmdk.descriptor_spec import Access, Adapter, CreateType, ExtentType
from vmkernel.storage.vmdk.link import REDO_SUFFIX
from vmkernel.storage.vmdk.sparse_header import new_header
from vmkernel.storage.vmdk.sparse_spec import (
    DESCRIPTOR_AT,
    DESCRIPTOR_SECTORS,
    GRAIN_SECTORS_DEFAULT,
    VERSION_PLAIN,
    Flags,
)

SPLIT_SECTORS = 4192256  # 2 GiB less 1 MiB
SNAPSHOTS_MAX = 32  # on one path, in ESX 3
HOSTED_SECTORS_MAX = 1 << 32
VMFS_SECTORS_MAX = (1 << 32) - 1


class Kind(StrEnum):
    """Disks that can be made; the vmfs ones by how their blocks are allocated."""

    MONOLITHIC_SPARSE = "monolithicSparse"
    MONOLITHIC_FLAT = "monolithicFlat"
    TWO_GB_SPARSE = "twoGbMaxExtentSparse"
    TWO_GB_FLAT = "twoGbMaxExtentFlat"
    THICK = "thick"
    ZEROED_THICK = "zeroedthick"
    EAGER_ZEROED_THICK = "eagerzeroedthick"
    THIN = "thin"
    VMFS_SPARSE = "vmfsSparse"


VMFS_KINDS = frozenset({Kind.THICK, Kind.ZEROED_THICK, Kind.EAGER_ZEROED_THICK, Kind.THIN})
CHILD_KINDS = frozenset({Kind.VMFS_SPARSE, Kind.MONOLITHIC_SPARSE, Kind.TWO_GB_SPARSE})
CREATE_TYPES = {
    Kind.MONOLITHIC_SPARSE: CreateType.MONOLITHIC_SPARSE, Kind.MONOLITHIC_FLAT: CreateType.MONOLITHIC_FLAT,
    Kind.TWO_GB_SPARSE: CreateType.TWO_GB_SPARSE, Kind.TWO_GB_FLAT: CreateType.TWO_GB_FLAT,
    **dict.fromkeys(VMFS_KINDS, CreateType.VMFS), Kind.VMFS_SPARSE: CreateType.VMFS_SPARSE,
}  # fmt: skip
SECTORS_MAX = {
    Kind.MONOLITHIC_FLAT: 1 << 54, Kind.TWO_GB_FLAT: 1 << 32, Kind.TWO_GB_SPARSE: 1 << 32,
    Kind.MONOLITHIC_SPARSE: HOSTED_SECTORS_MAX - (1 << 26), **dict.fromkeys(VMFS_KINDS, VMFS_SECTORS_MAX),
    Kind.VMFS_SPARSE: VMFS_SECTORS_MAX,
}  # fmt: skip


def create(
    path: Place, kind: Kind, size_bytes: int, adapter: Adapter = Adapter.LSILOGIC, *, grain_sectors: int | None = None
) -> None:
    """A new disk that reads as zeros. Raises BadOption, or HostRefused where a file is there or cannot be made."""
    sectors = size_sectors(path, kind, size_bytes)
    ddb = [("ddb.thinProvisioned", "1")] if kind == Kind.THIN else []
    with Making(path) as making:
        lines = extents(making, kind, sectors, grain_sectors)
        making.finish(build(lines, CREATE_TYPES[kind], adapter, ddb=ddb))


def create_child(
    path: Place, parent: Place, kind: Kind = Kind.VMFS_SPARSE, *, grain_sectors: int | None = None
) -> None:
    """A link that holds nothing yet, over `parent`, which must not be written from now on.

    Raises BadOption, HostRefused, and what opening the parent does. Source: VMware KB 1007969 (content IDs).
    """
    if kind not in CHILD_KINDS:
        raise BadOption(f"{path}: a link with a parent is one of {', '.join(sorted(CHILD_KINDS))}, not {kind}")
    with open_disk(parent) as chain:
        cid = chain.links[-1].cid
        if cid is None:
            raise Unsupported(str(parent), "parent of a link", "a disk with a descriptor", "none")
        refuse_depth(parent, chain)
        if any(link.descriptor and link.descriptor.create_type is CreateType.VMFS_RDMP for link in chain.links):
            raise Unsupported(str(parent), "parent of a link", "a disk", "a pass-through raw device mapping")
        sectors = chain.sectors
    hint = parent.name if parent.resolve().parent == path.resolve().parent else str(parent.resolve())
    with Making(path) as making:
        lines = extents(making, kind, sectors, grain_sectors)
        making.finish(build(lines, CREATE_TYPES[kind], None, cid=cid, parent_cid=cid, parent_hint=hint))


def create_redo(parent: P, *, bare: bool = True) -> P:
    """An ESX 2 redo log beside its disk, which is bare sectors there (`bare`), or any disk; returns its path."""
    path = parent.with_name(parent.name + REDO_SUFFIX)
    if bare and not parent.name.endswith(REDO_SUFFIX):
        with BlockFile.open(parent) as file:
            sectors = file.size // SECTOR_BYTES
    else:
        with open_disk(parent) as chain:
            refuse_depth(parent, chain)
            sectors = chain.sectors
    if not 0 < sectors <= cowd_spec.CAPACITY_MAX:
        raise BadOption(f"{parent}: a redo log is for 1 to {cowd_spec.CAPACITY_MAX} sectors, not {sectors}")
    with Making(path) as making:
        file = making.file(path)
        cowd.write_empty(file, cowd.new_header(sectors, cowd_spec.GRAIN_SECTORS_DEFAULT, parent.name))
        file.sync()
        making.keep()
    return path


def refuse_depth(parent: Place, chain: Chain) -> None:
    if len(chain.links) > SNAPSHOTS_MAX:
        raise Unsupported(str(parent), "chain", f"at most {SNAPSHOTS_MAX} links over the base", f"{len(chain.links)}")


assert SNAPSHOTS_MAX < LINKS_MAX


def size_sectors(path: Place, kind: Kind, size_bytes: int) -> int:
    sectors, rest = divmod(size_bytes, SECTOR_BYTES)
    if rest or not 0 < sectors <= SECTORS_MAX[kind]:
        most = SECTORS_MAX[kind] * SECTOR_BYTES
        raise BadOption(f"{path}: a {kind} disk has a multiple of {SECTOR_BYTES} bytes up to {most}, not {size_bytes}")
    return sectors


class Making:
    """The files of a disk that is being made; they are removed again unless `finish` or `keep` is reached."""

    def __init__(self, path: Place) -> None:
        self.path, self.stem = path, path.name.removesuffix(".vmdk")
        self.files: list[BlockFile] = []
        self.done = False

    def __enter__(self) -> Making:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self.files:
            file.close()
            if not self.done:
                with contextlib.suppress(OSError):
                    file.path.unlink()

    def file(self, path: Place) -> BlockFile:
        self.files.append(file := BlockFile.create(path))
        return file

    def extent(self, suffix: str) -> BlockFile:
        return self.file(self.path.with_name(f"{self.stem}-{suffix}.vmdk"))

    def keep(self) -> None:
        self.done = True
        sync_folder(self.path.parent)

    def finish(self, descriptor: Descriptor) -> None:
        """Write the descriptor, into the first file where that has the disk's own name."""
        text = descriptor.encode()
        own = [file for file in self.files if file.path == self.path]
        if own:
            own[0].write(DESCRIPTOR_AT * SECTOR_BYTES, [text.ljust(DESCRIPTOR_SECTORS * SECTOR_BYTES, b"\0")])
        for file in self.files:
            file.sync()
        if not own:
            made = self.file(self.path)
            made.write(0, [text])
            made.sync()
        self.keep()


def extents(making: Making, kind: Kind, sectors: int, grain_sectors: int | None) -> list[ExtentLine]:
    """The files and lines of an empty disk."""
    if kind == Kind.MONOLITHIC_SPARSE:
        return [hosted(making.file(making.path), sectors, DESCRIPTOR_SECTORS, grain_sectors)]
    if kind == Kind.VMFS_SPARSE:
        return [redo_log(making.extent("delta"), sectors, grain_sectors)]
    if kind == Kind.MONOLITHIC_FLAT:
        return [flat(making.extent("flat"), sectors, ExtentType.FLAT, leave_holes)]
    if kind in VMFS_KINDS:
        return [flat(making.extent("flat"), sectors, ExtentType.VMFS, ALLOCATE[kind])]
    lines = []
    for number, start in enumerate(range(0, sectors, SPLIT_SECTORS), 1):
        part = min(SPLIT_SECTORS, sectors - start)
        if kind == Kind.TWO_GB_FLAT:
            lines.append(flat(making.extent(f"f{number:03}"), part, ExtentType.FLAT, leave_holes))
        else:
            lines.append(hosted(making.extent(f"s{number:03}"), part, 0, grain_sectors))
    return lines


def hosted(file: BlockFile, sectors: int, descriptor_sectors: int, grain_sectors: int | None) -> ExtentLine:
    header = new_header(sectors, grain_sectors or GRAIN_SECTORS_DEFAULT, Flags(0), VERSION_PLAIN, descriptor_sectors)
    sparse.write_empty(file, header.with_tables_at(1 + descriptor_sectors, redundant=True))
    return ExtentLine(Access.RW, sectors, ExtentType.SPARSE, file.path.name)


def redo_log(file: BlockFile, sectors: int, grain_sectors: int | None) -> ExtentLine:
    cowd.write_empty(file, cowd.new_header(sectors, grain_sectors or cowd_spec.GRAIN_SECTORS_DEFAULT))
    return ExtentLine(Access.RW, sectors, ExtentType.VMFSSPARSE, file.path.name)


def flat(file: BlockFile, sectors: int, kind: ExtentType, allocate: Callable[[BlockFile, int], None]) -> ExtentLine:
    allocate(file, sectors * SECTOR_BYTES)
    return ExtentLine(Access.RW, sectors, kind, file.path.name)


def write_zeros(file: BlockFile, size: int) -> None:
    file.zero(0, size)


def reserve(file: BlockFile, size: int) -> None:
    file.reserve(size)


def leave_holes(file: BlockFile, size: int) -> None:
    file.truncate(size)


# On a directory of the host, blocks that were reserved read as zeros already: thick and zeroedthick are the same.
ALLOCATE: dict[Kind, Callable[[BlockFile, int], None]] = {
    Kind.THICK: reserve,
    Kind.ZEROED_THICK: reserve,
    Kind.EAGER_ZEROED_THICK: write_zeros,
    Kind.THIN: leave_holes,
}
assert ALLOCATE.keys() == VMFS_KINDS
