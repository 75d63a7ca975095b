"""The head of a VMFS logical volume: superblock and heartbeat slots, and the lock of every object; no behaviour.

    0x000000    zeros, 2 MB
    0x200000    file system descriptor, the "superblock"
    0x300000    2048 heartbeat slots of 512 bytes
    0x400000    the first file block from here on is the first of .fdc.sf

Offsets are bytes of the logical volume, as every position that is stored. Little-endian, packed.
Source: vmfs-tools, libvmfs/vmfs_fs.h, vmfs_heartbeat.h, vmfs_metadata.h; dissect.vmfs, c_vmfs.py.
UNKNOWN: heartbeat magic 03h, presumably "journal being replayed"; never left on disk.
"""

from enum import IntEnum, IntFlag

import numpy as np
from construct import Bytes, Int8ul, Int16ul, Int32ul, Int64ul, Struct

MAGIC, MAGIC_LOCAL = 0x2FABF15E, 0x2FABF15F
MAJOR_VMFS3, MAJOR_VMFS5, MAJOR_VMFS6 = 4, 14, 24
MINOR_VMFS3 = 31
SUPERBLOCK_AT = 0x200000
HEARTBEATS_AT = 0x300000
HEARTBEAT_BYTES = 512
HEARTBEATS = 2048
FIXED_END = 0x400000
BLOCK_SIZES = (1 << 20, 2 << 20, 4 << 20, 8 << 20)
READ_BLOCK_SIZES = tuple(1 << shift for shift in range(17, 24))  # VMFS-5 makes 512 KB where a volume is small
SUB_BLOCK_BYTES, SUB_BLOCK_BYTES_VMFS5 = 0x10000, 0x2000
LABEL_BYTES = 128
SNAPSHOT_ID = 1


class Config(IntFlag):
    """Superblock `config`; the low two bits are the access mode."""

    MODE_SHARED = 1 << 0
    MODE_PUBLIC = 1 << 1  # ESX 3: always this
    DENSE = 1 << 2  # VMFS-5: a sub-block address has 6 bits of resource number
    MAINTENANCE = 1 << 3
    LOCAL = 1 << 8


SUPERBLOCK = Struct(
    "magic" / Int32ul,
    "major" / Int32ul,
    "minor" / Int8ul,
    "uuid" / Bytes(16),
    "config" / Int32ul,
    "label" / Bytes(LABEL_BYTES),
    "disk_block_size" / Int32ul,
    "block_size" / Int64ul,
    "creation_time" / Int32ul,
    "snap_id" / Int32ul,
    "lvm_uuid" / Bytes(16),
    "lvm_snap_id" / Int32ul,
    "volume_info" / Bytes(12),
    "fdc_group_offset" / Int32ul,
    "fdc_clusters_per_group" / Int32ul,
    "sub_block_size" / Int32ul,
    "journal_slots" / Int32ul,  # from here on VMFS-5; zeros before
    "pb2_position" / Int64ul,
    "pb2_address" / Int32ul,
    "owner" / Bytes(16),
    "owner_generation" / Int64ul,
    "sdd_position" / Int64ul,
    "sdd_address" / Int32ul,
    "checksum_type" / Int8ul,
    "unmap_priority" / Int16ul,
    "reserved_114" / Bytes(32),
    "metadata_alignment" / Int32ul,
    "reserved_138" / Bytes(200),
)
assert SUPERBLOCK.sizeof() == 512


class HeartbeatMagic(IntEnum):
    """State of a slot."""

    FREE = 0xABCDEF01
    IN_USE = 0xABCDEF02
    REPLAY = 0xABCDEF03


HEARTBEAT = np.dtype([
    ("magic", "<u4"),
    ("position", "<u8"),  # its own
    ("generation", "<u8"),  # one more for every acquisition
    ("stamp", "<u8"),  # microseconds of the owner's uptime, changes with every beat
    ("owner", "V16"),
    ("journal", "<u4"),  # address of a file block
    ("driver_major", "<u4"),
    ("driver_minor", "u1"),
    ("lock_implementation", "u1"),  # from here on VMFS-5; zeros before
    ("ip", "V46"),
    ("journal_position", "<u8"),
    ("replay_host", "V16"),
    ("reserved_7c", "V24"),
    ("replay_position", "<u8"),
    ("replay_generation", "<u8"),
    ("reserved_a4", "V348"),
])  # fmt: skip
assert HEARTBEAT.itemsize == HEARTBEAT_BYTES


class LockType(IntEnum):
    """What an on-disk lock belongs to: its first word."""

    FILE_DESCRIPTOR = 0x10C00001
    FILE_BLOCKS = 0x10C00002
    SUB_BLOCKS = 0x10C00003
    POINTER_BLOCKS = 0x10C00004
    FILE_DESCRIPTORS = 0x10C00005


class LockMode(IntEnum):
    """Who may use what the lock is on."""

    FREE = 0
    EXCLUSIVE = 1
    READ_ONLY = 2
    MULTI_WRITER = 3


LOCK_BYTES = 512
HOLDERS = 8
HOLDER = np.dtype([("hb_position", "<u8"), ("hb_generation", "<u8"), ("owner", "V16")])
LOCK = np.dtype([
    ("type", "<u4"),
    ("position", "<u8"),  # its own
    ("hb_position", "<u8"),  # of the owner's slot, or the last owner's
    ("hb_generation", "<u8"),
    ("token", "<u8"),  # one more for every acquisition
    ("mode", "<u4"),
    ("owner", "V16"),  # zeros: free
    ("mtime", "<u8"),  # microseconds of uptime
    ("num_holders", "<u4"),
    ("holders", HOLDER, HOLDERS),
    ("reserved_144", "V32"),
    ("global_holders", "<u4"),  # VMFS-5
    ("global_generation", "<u8"),
    ("reserved_170", "V144"),
])  # fmt: skip
assert (HOLDER.itemsize, LOCK.itemsize) == (32, LOCK_BYTES)
