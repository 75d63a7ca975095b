"""Partition tables: the MBR with its extended partitions, and the GPT. Sectors of 512 bytes, little-endian.

    MBR   sector 0: 446 bytes of program, 4 entries, 55 AA. An extended partition begins with a sector of the same form:
          its first entry is a logical partition, its second the next such sector
    GPT   sector 1 and the last one: a header each, which names an array of entries
Source: UEFI Specification 2.10, chapter 5; Linux, Documentation of the msdos partition types for the extended ones.
"""

from __future__ import annotations

from construct import Array, Bytes, Const, Int8ul, Int32ul, Int64ul, Struct

SIGNATURE = b"\x55\xaa"
MBR_ENTRY = Struct(
    "boot" / Int8ul,  # 80h: active
    "first_chs" / Bytes(3),
    "type" / Int8ul,
    "last_chs" / Bytes(3),
    "start" / Int32ul,
    "sectors" / Int32ul,
)
MBR = Struct("program" / Bytes(446), "entries" / Array(4, MBR_ENTRY), "signature" / Const(SIGNATURE))
assert (MBR_ENTRY.sizeof(), MBR.sizeof()) == (16, 512)

BOOT_MARKS = frozenset({0x00, 0x80})
EXTENDED_TYPES = frozenset({0x05, 0x0F, 0x85})
PROTECTIVE_TYPE = 0xEE  # the disk has a GPT
FIRST_LOGICAL = 5
LOGICALS_MAX = 255

GPT_SIGNATURE = b"EFI PART"
GPT_HEADER = Struct(
    "signature" / Const(GPT_SIGNATURE),
    "revision" / Int32ul,
    "header_bytes" / Int32ul,
    "header_crc" / Int32ul,  # computed with zeros here
    "reserved" / Int32ul,
    "own_sector" / Int64ul,
    "other_sector" / Int64ul,
    "first_usable" / Int64ul,
    "last_usable" / Int64ul,
    "disk_guid" / Bytes(16),
    "entries_sector" / Int64ul,
    "entry_count" / Int32ul,
    "entry_bytes" / Int32ul,
    "entries_crc" / Int32ul,
)
GPT_ENTRY = Struct(
    "type_guid" / Bytes(16),  # zeros: unused
    "guid" / Bytes(16),
    "first" / Int64ul,
    "last" / Int64ul,  # belongs to the partition
    "attributes" / Int64ul,
    "name" / Bytes(72),  # UTF-16
)
assert (GPT_HEADER.sizeof(), GPT_ENTRY.sizeof()) == (92, 128)
GPT_CRC_AT = 16
GPT_ENTRIES_BYTES_MAX = 1 << 20
