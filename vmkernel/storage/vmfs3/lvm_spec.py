"""The LVM of a VMFS device: header, volume descriptor, physical extents; no behaviour.

    0x100000    device header
    0x100200    volume descriptors, a sector each; VMFS-3 has one
    0x180200    PE bitmap: 8192 bits, LSB first, 1 = used
    0x180600    PE table: 8192 entries. LVM 5 may have several pairs of bitmap and table here, one behind the other
    0x1100000   physical extents of 256 MB, one behind the other

Offsets are relative to the partition. Little-endian, packed.
Source: dissect.vmfs, c_lvm.py; vmfs-tools, libvmfs/vmfs_lvm.h; util-linux, libblkid, vmfs.c.
UNKNOWN: what lies between the fields that are named reserved; zeros everywhere it was seen, kept as read.
"""

from enum import IntEnum

import numpy as np
from construct import Bytes, Int8ul, Int16ul, Int32ul, Int64ul, Struct

MAGIC = 0xC001D00D
MAJOR_LVM3, MAJOR_LVM5, MAJOR_LVM6 = 3, 5, 6
MINOR = 0x10
PARTITION_TYPE = 0xFB
DUMP_PARTITION_TYPE = 0xFC
PARTITION_GUID = "AA31E02A-400F-11DB-9590-000C2911D1B8"
PARTITION_START_LBA = 128

HEADER_AT = 0x100000
DESCRIPTORS_AT = 0x100200
DESCRIPTORS_MAX = 512
PE_BITMAP_AT = 0x180200
PE_BITMAP_BYTES = 0x400
PE_TABLE_AT = 0x180600
PES_PER_TABLE = 8192
PE_TABLES_MAX = 8  # pairs of bitmap and table in one place
EXTENDED_MAX = 64  # headers of further tables that are followed
DATA_AT = 0x1100000
PE_BYTES = 0x10000000
DEVICES_MAX = 32
SECTOR_BYTES = 512
UUID_BYTES = 16
NAME_BYTES = 64
SNAPSHOT_ID = 1


class VolumeState(IntEnum):
    """`state` of a volume descriptor."""

    INVALID = 0
    NORMAL = 1
    RESIGNATURE_PENDING = 2
    RESIGNATURE_DONE = 3


class DiskIdType(IntEnum):
    """`type` of a disk id."""

    NAME = 0  # `id` is a device name such as vmhba0:C0:T0:L0
    SCSI = 1  # `id` is a serial number followed by the first 6 bytes of the model


DISK_ID_TEXT_BYTES = 44
DISK_ID = Struct(
    "type" / Int8ul,
    "id_length" / Int8ul,
    "lun" / Int16ul,
    "device_type" / Int8ul,
    "scsi_level" / Int8ul,
    "vendor" / Bytes(8),
    "model" / Bytes(16),
    "revision" / Bytes(4),
    "id" / Bytes(DISK_ID_TEXT_BYTES),
)
assert DISK_ID.sizeof() == 78

DEVICE_HEADER = Struct(
    "magic" / Int32ul,
    "major" / Int32ul,
    "minor" / Int32ul,
    "disk_id" / DISK_ID,
    "disk_block_size" / Int32ul,
    "total_bytes" / Int64ul,
    "num_volumes" / Int32ul,
    "num_pes" / Int32ul,
    "last_pe" / Int32ul,
    "generation" / Int64ul,
    "data_offset" / Int64ul,
    "device_uuid" / Bytes(16),
    "init_time_us" / Int64ul,
    "mod_time_us" / Int64ul,
    "locked_by" / Bytes(16),
    "locked_when_us" / Int64ul,
    "reserved_ba" / Int32ul,
    "num_pe_maps" / Int32ul,
    "extended_offset" / Int64ul,
    "md_alignment" / Int32ul,  # this and the next two: LVM 6
    "num_pes_6" / Int32ul,
    "flags" / Int32ul,
    "reserved_d6" / Bytes(298),
)
assert DEVICE_HEADER.sizeof() == SECTOR_BYTES

EXTENDED_HEADER = Struct(  # LVM 5: where more pairs of bitmap and table are
    "magic" / Int32ul,
    "num_pe_maps" / Int32ul,
    "data_offset" / Int64ul,
    "next_offset" / Int64ul,
)
assert EXTENDED_HEADER.sizeof() == 24
EXTENDED_PE_BITMAP_AT = PE_BITMAP_AT - HEADER_AT  # behind an extended header, as behind the first

VOLUME_DESCRIPTOR = Struct(
    "logical_size" / Int64ul,
    "generation" / Int64ul,
    "state" / Int32ul,
    "name" / Bytes(NAME_BYTES),
    "lvm_uuid" / Bytes(16),
    "snap_id" / Int32ul,
    "creation_time_us" / Int64ul,
    "volume_id" / Int32ul,
    "num_pes" / Int32ul,
    "first_pe" / Int64ul,
    "last_pe" / Int64ul,
    "mod_time_us" / Int64ul,
    "num_devices" / Int32ul,
    "reserved_94" / Bytes(124),
    "consumed_pes" / Int32ul,
    "reserved_114" / Bytes(236),
)
assert VOLUME_DESCRIPTOR.sizeof() == SECTOR_BYTES

PE_ENTRY = np.dtype([
    ("used", "u1"),
    ("pe_id", "<u4"),  # restarts at 0 on each device
    ("volume_id", "<u4"),
    ("physical_offset", "<u8"),
    ("logical_offset", "<u8"),
    ("length", "<u8"),
    ("version", "<u4"),
    ("reserved_25", "V91"),
])  # fmt: skip
assert PE_ENTRY.itemsize == 128
