"""Multiboot 1: header, information structure, memory map; no behaviour.

The header is read once, from a file; the other structures are laid into guest memory.
Source: Multiboot Specification 0.6.96, sections 3.1 to 3.3.
"""

from ctypes import LittleEndianStructure, c_uint32, c_uint64, sizeof
from enum import IntFlag

from construct import Const, Int32ul, Struct

HEADER_MAGIC = 0x1BADB002
LOADED_MAGIC = 0x2BADB002
HEADER_SEARCH_BYTES = 8192
HEADER_ALIGN = 4


class HeaderFlag(IntFlag):
    """What the program asks for. A loader must refuse bits 0-15 that it does not know."""

    PAGE_ALIGN = 1 << 0
    MEMORY = 1 << 1
    VIDEO = 1 << 2
    ADDRESSES = 1 << 16


KNOWN_REQUIREMENTS = HeaderFlag.PAGE_ALIGN | HeaderFlag.MEMORY | HeaderFlag.VIDEO
REQUIREMENTS = 0xFFFF


# In the file's first 8 KiB. The sum of its three words is 0, modulo 2^32.
HEADER = Struct(
    "magic" / Const(HEADER_MAGIC, Int32ul),
    "flags" / Int32ul,
    "checksum" / Int32ul,
)
assert HEADER.sizeof() == 12

# Right behind it; they count only with HeaderFlag.ADDRESSES.
HEADER_ADDRESSES = Struct(
    "header_addr" / Int32ul,
    "load_addr" / Int32ul,
    "load_end_addr" / Int32ul,
    "bss_end_addr" / Int32ul,
    "entry_addr" / Int32ul,
)
assert HEADER_ADDRESSES.sizeof() == 20


class InfoFlag(IntFlag):
    """Which fields of the information structure hold something."""

    MEMORY = 1 << 0
    CMDLINE = 1 << 2
    MODULES = 1 << 3
    MEMORY_MAP = 1 << 6
    LOADER_NAME = 1 << 9


class Info(LittleEndianStructure):
    """What EBX points to. mem_lower and mem_upper are KiB."""

    _fields_ = [
        ("flags", c_uint32), ("mem_lower", c_uint32), ("mem_upper", c_uint32), ("boot_device", c_uint32),
        ("cmdline", c_uint32), ("mods_count", c_uint32), ("mods_addr", c_uint32), ("syms", c_uint32 * 4),
        ("mmap_length", c_uint32), ("mmap_addr", c_uint32), ("drives_length", c_uint32), ("drives_addr", c_uint32),
        ("config_table", c_uint32), ("boot_loader_name", c_uint32), ("apm_table", c_uint32), ("vbe", c_uint32 * 4),
    ]  # fmt: skip


assert sizeof(Info) == 88

MEMORY_USABLE = 1
MEMORY_RESERVED = 2


class MemoryMapEntry(LittleEndianStructure):
    """`size` is what follows it: 20."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_ = [("size", c_uint32), ("base", c_uint64), ("length", c_uint64), ("kind", c_uint32)]


assert sizeof(MemoryMapEntry) == 24
