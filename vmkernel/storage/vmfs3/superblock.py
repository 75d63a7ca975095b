"""The file system descriptor of a volume, checked, and what kind of volume it makes."""

from __future__ import annotations

from dataclasses import dataclass

from vmkernel.storage.errors import Unsupported
from vmkernel.storage.vmfs3.errors import CorruptVolume
from vmkernel.storage.vmfs3.identity import uuid_text
from vmkernel.storage.vmfs3.layout import offsets
from vmkernel.storage.vmfs3.lvm import LogicalVolume
from vmkernel.storage.vmfs3.volume_spec import (
    BLOCK_SIZES,
    FIXED_END,
    MAGIC,
    MAGIC_LOCAL,
    MAJOR_VMFS3,
    MAJOR_VMFS5,
    MAJOR_VMFS6,
    READ_BLOCK_SIZES,
    SUPERBLOCK,
    SUPERBLOCK_AT,
    Config,
)

OFFSETS = offsets(SUPERBLOCK)


@dataclass(frozen=True, slots=True)
class Superblock:
    """A superblock that can be true. Sizes are bytes, UUIDs as they are on disk, the time is in seconds since 1970."""

    magic: int
    major: int
    minor: int
    uuid: bytes
    config: Config
    label: str
    block_size: int
    creation_time: int
    snap_id: int
    lvm_uuid: bytes
    fdc_group_offset: int
    fdc_clusters_per_group: int
    sub_block_size: int
    pb2_position: int
    pb2_address: int

    @property
    def version(self) -> int:
        """3 or 5."""
        return 3 if self.major == MAJOR_VMFS3 else 5

    @property
    def is_local(self) -> bool:
        return self.magic == MAGIC_LOCAL

    @property
    def dense(self) -> bool:
        return bool(self.config & Config.DENSE)

    @property
    def fdc_block(self) -> int:
        """Number of the first file block of .fdc.sf."""
        return max(1, FIXED_END // self.block_size)


def read_superblock(lv: LogicalVolume) -> Superblock:
    """Raises CorruptVolume, or Unsupported for VMFS-6."""
    if lv.size < FIXED_END:
        raise CorruptVolume(lv.name, 0, "size of the volume", f"{FIXED_END} bytes or more", str(lv.size))
    h = SUPERBLOCK.parse(lv.bytes_at(SUPERBLOCK_AT, SUPERBLOCK.sizeof()))

    def check(name: str, good: bool, expected: str, found: object) -> None:
        if not good:
            at = SUPERBLOCK_AT + OFFSETS[name]
            raise CorruptVolume(lv.name, at, f"{name} of the superblock", expected, str(found))

    check("magic", h.magic in (MAGIC, MAGIC_LOCAL), f"{MAGIC:#x}", f"{h.magic:#x}")
    if h.major >= MAJOR_VMFS6:
        raise Unsupported(lv.name, "file system", "VMFS-3 or VMFS-5", f"VMFS-6 (version {h.major}.{h.minor})")
    good = h.major == MAJOR_VMFS3 or MAJOR_VMFS5 <= h.major < MAJOR_VMFS6
    check("major", good, f"{MAJOR_VMFS3} (VMFS-3) or {MAJOR_VMFS5} (VMFS-5)", h.major)
    sizes = READ_BLOCK_SIZES if h.major >= MAJOR_VMFS5 else BLOCK_SIZES
    check("block_size", h.block_size in sizes, f"one of {', '.join(map(str, sizes))}", h.block_size)
    if lv.uuid is not None:
        expected = f"{uuid_text(lv.uuid)}, the logical volume's"
        check("lvm_uuid", h.lvm_uuid == lv.uuid, expected, uuid_text(h.lvm_uuid))
    return Superblock(
        h.magic, h.major, h.minor, h.uuid, Config(h.config), h.label.partition(b"\0")[0].decode("utf-8", "replace"),
        h.block_size, h.creation_time, h.snap_id, h.lvm_uuid, h.fdc_group_offset, h.fdc_clusters_per_group,
        h.sub_block_size, h.pb2_position, h.pb2_address,
    )  # fmt: skip
