"""Firmware configuration device: ports, keys, and the structures in guest memory; no behaviour.

Source: QEMU, docs/specs/fw_cfg; SeaBIOS, src/fw/paravirt, for the keys that it reads.
"""

from ctypes import BigEndianStructure, LittleEndianStructure, c_char, c_uint16, c_uint32, c_uint64, sizeof
from enum import IntEnum, IntFlag

SELECTOR_PORT = 0x510
PORTS = 12  # selector and data, two unused, the DMA address


class Offset(IntEnum):
    """Ports, from the first. The DMA address is big-endian: its upper half comes first."""

    SELECTOR = 0
    DATA = 1
    DMA_HIGH = 4
    DMA_LOW = 8


DMA_SIGNATURE = b"QEMU CFG"  # what the DMA address register reads as
SIGNATURE = b"QEMU"


class Key(IntEnum):
    """Items at fixed keys; multi-byte values are little-endian."""

    SIGNATURE = 0x0000
    FEATURES = 0x0001
    UUID = 0x0002
    NOGRAPHIC = 0x0004
    CPUS = 0x0005
    NUMA = 0x000D
    BOOT_MENU = 0x000E
    MAX_CPUS = 0x000F
    DIRECTORY = 0x0019
    FIRST_FILE = 0x0020


KEY_MASK = 0xBFFF  # bit 14 asks for the write channel, which nothing here has
KEY_LIMIT = 0x4000  # above bit 15, which marks items of one architecture


class Feature(IntFlag):
    """Item 0001."""

    FILES = 1 << 0
    DMA = 1 << 1


class DmaControl(IntFlag):
    """Control word of a DMA request; bits 31:16 are the key to select."""

    ERROR = 1 << 0
    READ = 1 << 1
    SKIP = 1 << 2
    SELECT = 1 << 3
    WRITE = 1 << 4


class DmaRequest(BigEndianStructure):
    """What the DMA address points at. `control` is cleared, or becomes ERROR, when it is done."""

    _fields_ = [("control", c_uint32), ("length", c_uint32), ("address", c_uint64)]


assert sizeof(DmaRequest) == 16


class FileEntry(BigEndianStructure):
    """One row of the directory, which begins with their number as a big-endian dword."""

    _fields_ = [("size", c_uint32), ("key", c_uint16), ("reserved", c_uint16), ("name", c_char * 56)]


assert sizeof(FileEntry) == 64
NAME_BYTES = FileEntry.name.size - 1  # a zero ends it


class E820Entry(LittleEndianStructure):
    """One row of etc/e820."""

    _pack_ = 1
    _fields_ = [("address", c_uint64), ("length", c_uint64), ("type", c_uint32)]


assert sizeof(E820Entry) == 20


class E820Type(IntEnum):
    """Kinds of memory."""

    RAM = 1
    RESERVED = 2
    ACPI = 3
    NVS = 4
