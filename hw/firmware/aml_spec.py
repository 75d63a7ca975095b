"""ACPI Machine Language: opcodes, and the descriptors of resource templates; no behaviour.

Names are the specification's, as are the bits. Only what an ACPI 1.0 interpreter knows.
Source: ACPI Specification 1.0b, chapter 16 (AML encoding) and section 6.4 (resource data types).
"""

from ctypes import LittleEndianStructure, c_uint8, c_uint16, c_uint32, sizeof
from enum import IntEnum, IntFlag

NAME_SEGMENT_BYTES = 4
DUAL_NAME_PREFIX, MULTI_NAME_PREFIX = 0x2E, 0x2F
ROOT_CHARACTER, PARENT_CHARACTER = "\\", "^"
EXTENDED = 0x5B  # comes before the opcodes of `Extended`


class Op(IntEnum):
    """One-byte opcodes."""

    ZERO = 0x00
    ONE = 0x01
    NAME = 0x08
    BYTE = 0x0A
    WORD = 0x0B
    DWORD = 0x0C
    SCOPE = 0x10
    BUFFER = 0x11
    PACKAGE = 0x12
    METHOD = 0x14
    LOCAL0 = 0x60
    ARG0 = 0x68
    STORE = 0x70
    SUBTRACT = 0x74
    SHIFT_LEFT = 0x79
    AND = 0x7B
    FIND_SET_RIGHT_BIT = 0x82
    CREATE_WORD_FIELD = 0x8B
    IF = 0xA0
    ELSE = 0xA1
    RETURN = 0xA4


class Extended(IntEnum):
    """Second byte of an opcode that begins with EXTENDED."""

    OPERATION_REGION = 0x80
    FIELD = 0x81
    DEVICE = 0x82
    PROCESSOR = 0x83


class RegionSpace(IntEnum):
    """What an operation region is a window on."""

    SYSTEM_MEMORY = 0
    SYSTEM_IO = 1
    PCI_CONFIG = 2


class FieldAccess(IntEnum):
    """Flags of a field: access width in bits 3:0, then lock and update rules (here: none, preserve)."""

    ANY = 0
    BYTE = 1
    WORD = 2
    DWORD = 3


METHOD_SERIALIZED = 1 << 3  # flags of a method; bits 2:0 count its arguments


class DeviceStatus(IntFlag):
    """What _STA returns."""

    PRESENT = 1 << 0
    DECODING = 1 << 1
    SHOWN = 1 << 2
    WORKING = 1 << 3


END_TAG = bytes([0x79, 0x00])  # checksum 0: not checked


class Irq(LittleEndianStructure):
    """IRQ format descriptor: `mask` has a bit for each ISA IRQ. The short form lacks `flags`: edge, high, exclusive."""

    _pack_ = 1
    _fields_ = [("tag", c_uint8), ("mask", c_uint16), ("flags", c_uint8)]


IRQ_TAG, IRQ_NO_FLAGS_TAG = 0x23, 0x22
IRQ_NO_FLAGS_BYTES = Irq.flags.offset


class IrqFlag(IntFlag):
    """How an interrupt is signalled."""

    HIGH_EDGE = 1 << 0
    LOW_LEVEL = 1 << 3
    SHARED = 1 << 4


class Dma(LittleEndianStructure):
    """DMA format descriptor: `mask` has a bit for each channel; flags 0: compatibility, no bus master, 8 bits."""

    _pack_ = 1
    _fields_ = [("tag", c_uint8), ("mask", c_uint8), ("flags", c_uint8)]


DMA_TAG = 0x2A


class IoPorts(LittleEndianStructure):
    """I/O port descriptor: `length` ports from anywhere between `low` and `high` that `alignment` divides."""

    _pack_ = 1
    _fields_ = [("tag", c_uint8), ("decode", c_uint8), ("low", c_uint16), ("high", c_uint16), ("alignment", c_uint8),
                ("length", c_uint8)]  # fmt: skip


IO_TAG = 0x47
DECODE_16 = 1


class FixedMemory(LittleEndianStructure):
    """32-bit fixed location memory range descriptor."""

    _pack_ = 1
    _fields_ = [("tag", c_uint8), ("bytes", c_uint16), ("writable", c_uint8), ("base", c_uint32), ("length", c_uint32)]


FIXED_MEMORY_TAG = 0x86


class WordSpace(LittleEndianStructure):
    """Word address space descriptor: a window of a bridge, `first` to `last`, both included."""

    _pack_ = 1
    _fields_ = [("tag", c_uint8), ("bytes", c_uint16), ("kind", c_uint8), ("flags", c_uint8), ("specific", c_uint8),
                ("granularity", c_uint16), ("first", c_uint16), ("last", c_uint16), ("translation", c_uint16),
                ("length", c_uint16)]  # fmt: skip


class DwordSpace(LittleEndianStructure):
    """DWORD address space descriptor."""

    _pack_ = 1
    _fields_ = [("tag", c_uint8), ("bytes", c_uint16), ("kind", c_uint8), ("flags", c_uint8), ("specific", c_uint8),
                ("granularity", c_uint32), ("first", c_uint32), ("last", c_uint32), ("translation", c_uint32),
                ("length", c_uint32)]  # fmt: skip


DWORD_SPACE_TAG, WORD_SPACE_TAG = 0x87, 0x88
LARGE_HEADER_BYTES = 3  # tag and length, which `bytes` does not count


class SpaceKind(IntEnum):
    """What an address space descriptor is about."""

    MEMORY = 0
    IO = 1
    BUS = 2


class SpaceFlag(IntFlag):
    """General flags. Decoding is positive and the bridge passes the range on."""

    MIN_FIXED = 1 << 2
    MAX_FIXED = 1 << 3


class MemorySpecific(IntFlag):
    """Type-specific flags of a memory window."""

    READ_WRITE = 1 << 0


ENTIRE_RANGE = 3  # type-specific flags of an I/O window: ISA and other ports alike

assert (sizeof(Irq), sizeof(Dma), sizeof(IoPorts), sizeof(FixedMemory)) == (4, 3, 8, 12)
assert (sizeof(WordSpace), sizeof(DwordSpace)) == (16, 26)
