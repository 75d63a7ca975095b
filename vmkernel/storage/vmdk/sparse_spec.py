"""Hosted sparse extents ("KDMV") and their streamOptimized form: header, flags, markers; no behaviour.

    0        header              one sector
    1        descriptor          optional, as many sectors as the header says
    rgd      copy of the directory, and of its tables
    gd       grain directory: one GDE per table; then the tables of 512 GTEs each
    over_head                    the first grain: all begin at a multiple of grain_size

Little-endian; every offset and length is in 512-byte sectors.
Source: VMware Virtual Disk Format 1.1 and 5.0, "Hosted Sparse Extents", "Stream-Optimized Compressed Sparse Extents".
"""

from ctypes import LittleEndianStructure, c_uint32, c_uint64, sizeof
from enum import IntEnum, IntFlag

from construct import Bytes, Int8ul, Int16ul, Int32ul, Int64ul, Struct

MAGIC = b"KDMV"
MAGIC_UNFINISHED = b"kdmv"
VERSION_PLAIN, VERSION_ZERO_GRAINS, VERSION_STREAM = 1, 2, 3
GRAIN_SECTORS_DEFAULT, GRAIN_SECTORS_MAX = 128, 1 << 21
COMPRESSED_GRAIN_MAX = 1 << 14  # 8 MiB: a grain is inflated in memory
PER_TABLE_DEFAULT, PER_TABLE_MIN, PER_TABLE_MAX = 512, 128, 1 << 16
DESCRIPTOR_AT, DESCRIPTOR_SECTORS = 1, 20
DESCRIPTOR_SECTORS_MAX = 2048
GD_AT_END = 0xFFFFFFFFFFFFFFFF
NEWLINES = b"\n \r\n"
STREAM_OVER_HEAD = 128
SECTOR_LIMIT = 1 << 32  # entries of a table have 32 bits
CAPACITY_LIMIT = 1 << 54


class Flags(IntFlag):
    """Header flags."""

    NEWLINES = 1 << 0
    REDUNDANT = 1 << 1
    ZERO_GRAINS = 1 << 2
    COMPRESSED = 1 << 16
    MARKERS = 1 << 17


INCOMPATIBLE = 0xFFFF0000  # a reader that does not know one of these must refuse
KNOWN_INCOMPATIBLE = int(Flags.COMPRESSED | Flags.MARKERS)


class Compression(IntEnum):
    """How grains are compressed."""

    NONE = 0
    DEFLATE = 1


HEADER = Struct(
    "magic" / Bytes(4),
    "version" / Int32ul,
    "flags" / Int32ul,
    "capacity" / Int64ul,
    "grain_size" / Int64ul,
    "descriptor_offset" / Int64ul,
    "descriptor_size" / Int64ul,
    "gtes_per_gt" / Int32ul,
    "rgd_offset" / Int64ul,
    "gd_offset" / Int64ul,
    "over_head" / Int64ul,
    "unclean_shutdown" / Int8ul,
    "newlines" / Bytes(4),
    "compression" / Int16ul,
    "pad" / Bytes(433),
)
assert HEADER.sizeof() == 512
OFFSETS = {
    "magic": 0, "version": 4, "flags": 8, "capacity": 12, "grain_size": 20, "descriptor_offset": 28,
    "descriptor_size": 36, "gtes_per_gt": 44, "rgd_offset": 48, "gd_offset": 56, "over_head": 64,
    "unclean_shutdown": 72, "newlines": 73, "compression": 77,
}  # fmt: skip


class Marker(IntEnum):
    """What follows a marker whose size is 0; a marker with a size is a grain's."""

    END = 0
    TABLE = 1
    DIRECTORY = 2
    FOOTER = 3
    PROGRESS = 4


MARKER = Struct("value" / Int64ul, "size" / Int32ul, "type" / Int32ul, "pad" / Bytes(496))
assert MARKER.sizeof() == 512


class GrainMarker(LittleEndianStructure):
    """In front of a compressed grain: the extent's sector, and how many bytes follow."""

    _pack_ = 1
    _fields_ = [("lba", c_uint64), ("size", c_uint32)]


assert sizeof(GrainMarker) == 12


class GrainSize(LittleEndianStructure):
    """In front of a compressed grain where there are no markers."""

    _fields_ = [("size", c_uint32)]


assert sizeof(GrainSize) == 4
