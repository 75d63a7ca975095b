"""The container of .vmss and .vmsn files: header, groups, tags; no behaviour.

    0        header       magic, a word, number of groups
    12       groups       80 bytes each: name, where its tags are, how many bytes
    ...      tags         flags, length of the name, name, indices, data; two zero bytes end a group

Little-endian. A tag's data is at most 61 bytes, or a block: its size on disk and in memory, the size of a padding, the
padding, the bytes. Group "memory" says which pages are where in its block Memory[0][0]; group "cpu" has the registers.
Source: Volatility 3, layers/vmware.py; Volatility 2, addrspaces/vmware.py.
UNKNOWN: the second word of the header, 0 in the files of others; this writer keeps a checksum there.
"""

from construct import Bytes, Int8ul, Int16ul, Int32ul, Int64ul, Struct

MAGIC = 0xBED2BED2  # block sizes of 64 bits
NAME_BYTES = 64
INDEX_SHIFT = 6
SHORT_DATA_MAX = 61
LARGE_TAG = "Memory"
FILLER_TAG = "align"
BLOCK_DATA = 62  # 63 is one that may be compressed
GROUPS_MAX = 256
META_BYTES_MAX = 64 << 20

HEADER = Struct("magic" / Int32ul, "word" / Int32ul, "groups" / Int32ul)
assert HEADER.sizeof() == 12

GROUP = Struct("name" / Bytes(NAME_BYTES), "offset" / Int64ul, "size" / Int64ul)
assert GROUP.sizeof() == 80

TAG = Struct("flags" / Int8ul, "name_length" / Int8ul)
BLOCK = Struct("disk_bytes" / Int64ul, "memory_bytes" / Int64ul, "padding" / Int16ul)
assert BLOCK.sizeof() == 18
INDEX = Int32ul
END = b"\0\0"
