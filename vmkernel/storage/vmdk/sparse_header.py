"""Reads, judges and builds the header of a hosted sparse extent, and says where its tables lie.

Source: VMware Virtual Disk Format 5.0, "Hosted Sparse Extents".
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vmkernel.storage.block_file import BlockFile
from vmkernel.storage.disk import SECTOR_BYTES
from vmkernel.storage.errors import CorruptImage, Unsupported
from vmkernel.storage.vmdk.grain_tables import DIRECTORY_ENTRIES_MAX
from vmkernel.storage.vmdk.sparse_spec import (
    CAPACITY_LIMIT,
    DESCRIPTOR_SECTORS_MAX,
    GD_AT_END,
    GRAIN_SECTORS_MAX,
    HEADER,
    INCOMPATIBLE,
    KNOWN_INCOMPATIBLE,
    MAGIC,
    MAGIC_UNFINISHED,
    NEWLINES,
    OFFSETS,
    PER_TABLE_DEFAULT,
    PER_TABLE_MAX,
    PER_TABLE_MIN,
    VERSION_PLAIN,
    VERSION_STREAM,
    Compression,
    Flags,
)


@dataclass(frozen=True, slots=True)
class SparseHeader:
    """A header that can be true. Lengths and offsets are sectors."""

    version: int
    flags: Flags
    capacity: int
    grain_size: int
    descriptor_offset: int
    descriptor_size: int
    gtes_per_gt: int
    rgd_offset: int
    gd_offset: int
    over_head: int
    unclean_shutdown: int
    compression: int
    pad: bytes = bytes(433)

    @property
    def is_compressed(self) -> bool:
        return bool(self.flags & Flags.COMPRESSED)

    @property
    def is_container(self) -> bool:
        """A file that holds nothing but a descriptor."""
        return not self.capacity and bool(self.descriptor_offset)

    @property
    def tables(self) -> int:
        return -(-self.capacity // (self.gtes_per_gt * self.grain_size))

    @property
    def directory_sectors(self) -> int:
        return -(-self.tables * 4 // SECTOR_BYTES)

    @property
    def table_sectors(self) -> int:
        return -(-self.gtes_per_gt * 4 // SECTOR_BYTES)

    def with_tables_at(self, sector: int, *, redundant: bool) -> SparseHeader:
        """The same with directories and tables from `sector` on, and the grains behind them."""
        one = self.directory_sectors + self.tables * self.table_sectors
        gd = sector + (one if redundant else 0)
        over_head = -(-(gd + one) // self.grain_size) * self.grain_size
        flags = self.flags | Flags.REDUNDANT if redundant else self.flags & ~Flags.REDUNDANT
        return replace(self, rgd_offset=sector if redundant else 0, gd_offset=gd, over_head=over_head, flags=flags)

    def build(self) -> bytes:
        fields = {name: getattr(self, name) for name in OFFSETS if name not in ("magic", "newlines")}
        fields["flags"] = int(self.flags)
        return bytes(HEADER.build({**fields, "magic": MAGIC, "newlines": NEWLINES, "pad": self.pad}))


def new_header(capacity: int, grain_size: int, flags: Flags, version: int, descriptor_sectors: int) -> SparseHeader:
    """Without places for tables yet."""
    return SparseHeader(
        version=version, flags=flags | Flags.NEWLINES, capacity=capacity, grain_size=grain_size,
        descriptor_offset=1 if descriptor_sectors else 0, descriptor_size=descriptor_sectors,
        gtes_per_gt=PER_TABLE_DEFAULT, rgd_offset=0, gd_offset=0, over_head=0, unclean_shutdown=0,
        compression=Compression.DEFLATE if flags & Flags.COMPRESSED else Compression.NONE,
    )  # fmt: skip


def is_power_of_two(number: int) -> bool:
    return number > 0 and not number & (number - 1)


def read_header(file: BlockFile, at: int = 0) -> SparseHeader:
    """Raises CorruptImage or Unsupported. `at` is a byte: a stream has another header at its end."""
    return parse_header(file.bytes_at(at, HEADER.sizeof(), "header of a sparse extent"), file.path, at)


def parse_header(data: bytes, path: object, at: int = 0) -> SparseHeader:
    h = HEADER.parse(data)

    def corrupt(name: str, expected: str, found: object = None) -> CorruptImage:
        shown = str(getattr(h, name)) if found is None else str(found)
        return CorruptImage(path, at + OFFSETS[name], name, expected, shown)

    if h.magic == MAGIC_UNFINISHED:
        raise corrupt("magic", "KDMV", "kdmv, of a file that its writer left unfinished")
    if h.magic != MAGIC:
        raise corrupt("magic", "KDMV")
    if not VERSION_PLAIN <= h.version <= VERSION_STREAM:
        raise corrupt("version", f"{VERSION_PLAIN} to {VERSION_STREAM}")
    if unknown := h.flags & INCOMPATIBLE & ~KNOWN_INCOMPATIBLE:
        raise Unsupported(f"{path}: byte {at + OFFSETS['flags']}", "flags", "none that is unknown", f"{unknown:#x}")
    flags = Flags(h.flags & 0xFFFFFFFF)
    if flags & Flags.NEWLINES and h.newlines != NEWLINES:
        raise corrupt("newlines", f"{NEWLINES!r}", f"{h.newlines!r}: the file was transferred as text")
    if h.capacity >= CAPACITY_LIMIT:
        raise corrupt("capacity", f"below {CAPACITY_LIMIT} sectors")
    if h.descriptor_offset and not 0 < h.descriptor_size <= DESCRIPTOR_SECTORS_MAX:
        raise corrupt("descriptor_size", f"1 to {DESCRIPTOR_SECTORS_MAX} sectors")
    if h.descriptor_offset >= CAPACITY_LIMIT:
        raise corrupt("descriptor_offset", f"below {CAPACITY_LIMIT} sectors")
    header = SparseHeader(
        h.version, flags, h.capacity, h.grain_size, h.descriptor_offset, h.descriptor_size, h.gtes_per_gt,
        h.rgd_offset if flags & Flags.REDUNDANT else 0, h.gd_offset, h.over_head, h.unclean_shutdown, h.compression,
        h.pad,
    )  # fmt: skip
    if header.is_container:
        return header
    if not is_power_of_two(h.grain_size) or h.grain_size > GRAIN_SECTORS_MAX:
        raise corrupt("grain_size", f"a power of two up to {GRAIN_SECTORS_MAX} sectors")
    if not is_power_of_two(h.gtes_per_gt) or not PER_TABLE_MIN <= h.gtes_per_gt <= PER_TABLE_MAX:
        raise corrupt("gtes_per_gt", f"a power of two from {PER_TABLE_MIN} to {PER_TABLE_MAX}")
    if not h.capacity or header.tables > DIRECTORY_ENTRIES_MAX:
        raise corrupt("capacity", f"1 to {DIRECTORY_ENTRIES_MAX * h.gtes_per_gt * h.grain_size} sectors")
    if flags & Flags.MARKERS and not flags & Flags.COMPRESSED:
        raise corrupt("flags", "markers with compressed grains only", f"{h.flags:#x}")
    if header.is_compressed and h.compression != Compression.DEFLATE:
        raise corrupt("compression", f"{int(Compression.DEFLATE)} (deflate)")
    for name in ("gd_offset", "rgd_offset"):
        if (sector := getattr(header, name)) >= CAPACITY_LIMIT and not (name == "gd_offset" and sector == GD_AT_END):
            raise corrupt(name, f"below {CAPACITY_LIMIT} sectors")
    if h.gd_offset == GD_AT_END and not header.is_compressed:
        raise corrupt("gd_offset", "a sector of the file", "one that only a compressed extent can have")
    if h.over_head >= CAPACITY_LIMIT:
        raise corrupt("over_head", f"below {CAPACITY_LIMIT} sectors")
    return header
