"""seSparse: the constant and the volatile header, and the entries of its tables; no behaviour.

    sector 0         constant header: where everything is
    volatile header  counters, and whether the journal must be replayed
    grain directory  8-byte entries: the index of a table
    grain tables     4096 entries of 8 bytes each
    grains           8 sectors each

Little-endian; every offset and length is in 512-byte sectors.
Source: QEMU, block/vmdk.c (reader of seSparse extents); dissect.hypervisor, disk/c_vmdk.py.
UNKNOWN: journal, free bitmap and back map, which only a writer needs.
"""

from construct import Array, Bytes, Int64ul, Struct

MAGIC = 0x00000000CAFEBABE
MAGIC_BYTES = MAGIC.to_bytes(8, "little")
VERSION = 0x0000000200000001
VOLATILE_MAGIC = 0x00000000CAFECAFE
GRAIN_SECTORS = 8
TABLE_SECTORS = 64
PER_TABLE = 4096
DIRECTORY_TAG = 0x10000000  # the high half of a directory entry that names a table
KIND_SHIFT = 60
ABSENT, UNMAPPED, ZERO, ALLOCATED = range(4)

HEADER = Struct(
    "magic" / Int64ul,
    "version" / Int64ul,
    "capacity" / Int64ul,
    "grain_size" / Int64ul,
    "table_size" / Int64ul,
    "flags" / Int64ul,
    "reserved" / Array(4, Int64ul),
    "volatile_offset" / Int64ul,
    "volatile_size" / Int64ul,
    "journal_header_offset" / Int64ul,
    "journal_header_size" / Int64ul,
    "journal_offset" / Int64ul,
    "journal_size" / Int64ul,
    "directory_offset" / Int64ul,
    "directory_size" / Int64ul,
    "tables_offset" / Int64ul,
    "tables_size" / Int64ul,
    "bitmap_offset" / Int64ul,
    "bitmap_size" / Int64ul,
    "back_map_offset" / Int64ul,
    "back_map_size" / Int64ul,
    "grains_offset" / Int64ul,
    "grains_size" / Int64ul,
    "pad" / Bytes(304),
)
assert HEADER.sizeof() == 512

VOLATILE = Struct(
    "magic" / Int64ul,
    "free_table" / Int64ul,
    "next_transaction" / Int64ul,
    "replay_journal" / Int64ul,
    "pad" / Bytes(480),
)
assert VOLATILE.sizeof() == 512
OFFSETS = {
    "magic": 0, "version": 8, "capacity": 16, "grain_size": 24, "table_size": 32, "flags": 40, "volatile_offset": 80,
    "directory_offset": 128, "directory_size": 136, "tables_offset": 144, "tables_size": 152, "grains_offset": 192,
    "grains_size": 200,
}  # fmt: skip
