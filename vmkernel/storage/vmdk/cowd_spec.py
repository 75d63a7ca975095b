"""COWD ("vmfsSparse"): the header of a redo log; no behaviour.

    sector 0..3     header
    gd_offset       grain directory: one GDE per grain table (its sector; 0 = none)
    ...             grain tables (4096 GTEs each: the grain's sector; 0 = ask the parent) and grains, as they came

Little-endian; every offset and length is in 512-byte sectors.
Source: VMware Virtual Disk Format 1.1, "ESX Server Sparse Extents".
UNKNOWN: the 8 bytes after saved_generation; preserved as read.
"""

from enum import IntFlag

from construct import Bytes, Int32ul, Struct

MAGIC = b"COWD"
VERSION = 1
HEADER_SECTORS = 4
PER_TABLE = 4096
TABLE_SECTORS = 32
GRAIN_SECTORS_DEFAULT, GRAIN_SECTORS_MAX = 1, 2048
CAPACITY_MAX = (1 << 32) - 1
NAME_BYTES, DESCRIPTION_BYTES, PARENT_NAME_BYTES = 60, 512, 1024


class Flags(IntFlag):
    """Header flags."""

    ROOT = 1 << 0  # `origin` holds a geometry, and not the name of a parent
    CHECK_CAPABLE = 1 << 1
    INCONSISTENT = 1 << 2


HEADER = Struct(
    "magic" / Bytes(4),
    "version" / Int32ul,
    "flags" / Int32ul,
    "num_sectors" / Int32ul,
    "grain_size" / Int32ul,
    "gd_offset" / Int32ul,
    "num_gd_entries" / Int32ul,
    "free_sector" / Int32ul,
    "origin" / Bytes(PARENT_NAME_BYTES),
    "parent_generation" / Int32ul,
    "generation" / Int32ul,
    "name" / Bytes(NAME_BYTES),
    "description" / Bytes(DESCRIPTION_BYTES),
    "saved_generation" / Int32ul,
    "reserved" / Bytes(8),
    "unclean_shutdown" / Int32ul,
    "padding" / Bytes(396),
)
assert HEADER.sizeof() == 2048
OFFSETS = {
    "magic": 0, "version": 4, "flags": 8, "num_sectors": 12, "grain_size": 16, "gd_offset": 20, "num_gd_entries": 24,
    "free_sector": 28, "origin": 32, "saved_generation": 1636, "unclean_shutdown": 1648,
}  # fmt: skip
