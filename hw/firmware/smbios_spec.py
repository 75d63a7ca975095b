"""SMBIOS 2.4: the entry point and the structures that the board has; layouts and values; no behaviour.

A structure is its header and fields, then its strings, each ended by a zero, then one more zero (two if it has no
strings). Fields that name a string hold its number, from 1.
Source: DMTF DSP0134, System Management BIOS Reference Specification 2.4, chapters 2 and 3.
"""

from ctypes import LittleEndianStructure, c_char, c_uint8, c_uint16, c_uint32, c_uint64, sizeof
from enum import IntEnum

MAJOR, MINOR, BCD_REVISION = 2, 4, 0x24
ANCHOR_ALIGNMENT = 16


class Packed(LittleEndianStructure):
    """A structure without holes."""

    _pack_ = 1


class EntryPoint(Packed):
    """What systems search for. The intermediate part, from `dmi`, has a checksum of its own."""

    _fields_ = [("anchor", c_char * 4), ("checksum", c_uint8), ("length", c_uint8), ("major", c_uint8),
                ("minor", c_uint8), ("largest", c_uint16), ("revision", c_uint8), ("formatted", c_uint8 * 5),
                ("dmi", c_char * 5), ("dmi_checksum", c_uint8), ("table_bytes", c_uint16), ("table", c_uint32),
                ("structures", c_uint16), ("bcd_revision", c_uint8)]  # fmt: skip


ANCHOR, DMI_ANCHOR = b"_SM_", b"_DMI_"
DMI_OFFSET = EntryPoint.dmi.offset


class Kind(IntEnum):
    """Structure types."""

    BIOS = 0
    SYSTEM = 1
    BASE_BOARD = 2
    CHASSIS = 3
    PROCESSOR = 4
    MEMORY_ARRAY = 16
    MEMORY_DEVICE = 17
    MEMORY_ARRAY_ADDRESS = 19
    BOOT = 32
    END = 127


class Header(Packed):
    """What every structure begins with; `length` is without the strings."""

    _fields_ = [("kind", c_uint8), ("length", c_uint8), ("handle", c_uint16)]


class Bios(Header):
    """Type 0."""

    _pack_ = 1
    _fields_ = [("vendor", c_uint8), ("version", c_uint8), ("segment", c_uint16), ("date", c_uint8),
                ("rom_size", c_uint8), ("characteristics", c_uint64), ("extension1", c_uint8), ("extension2", c_uint8),
                ("release_major", c_uint8), ("release_minor", c_uint8), ("controller_major", c_uint8),
                ("controller_minor", c_uint8)]  # fmt: skip


ROM_UNIT = 64 << 10  # rom_size counts these, less one
ISA, PCI, SHADOWING, CD_BOOT, SELECTABLE_BOOT, EDD = 1 << 4, 1 << 7, 1 << 12, 1 << 15, 1 << 16, 1 << 19
EXTENSION1_ACPI = 1 << 0
EXTENSION2_VIRTUAL_MACHINE = 1 << 4
NO_CONTROLLER = 0xFF


class System(Header):
    """Type 1. The UUID's bytes are in the order in which it is written: before 2.6 none of its fields was swapped."""

    _pack_ = 1
    _fields_ = [("manufacturer", c_uint8), ("product", c_uint8), ("version", c_uint8), ("serial", c_uint8),
                ("uuid", c_uint8 * 16), ("wake_up", c_uint8), ("sku", c_uint8), ("family", c_uint8)]  # fmt: skip


WAKE_UP_POWER_SWITCH = 6


class BaseBoard(Header):
    """Type 2."""

    _pack_ = 1
    _fields_ = [("manufacturer", c_uint8), ("product", c_uint8), ("version", c_uint8), ("serial", c_uint8)]


class Chassis(Header):
    """Type 3."""

    _pack_ = 1
    _fields_ = [("manufacturer", c_uint8), ("type", c_uint8), ("version", c_uint8), ("serial", c_uint8),
                ("asset", c_uint8), ("boot_state", c_uint8), ("power_state", c_uint8), ("thermal_state", c_uint8),
                ("security", c_uint8)]  # fmt: skip


CHASSIS_OTHER, STATE_SAFE, SECURITY_NONE = 1, 3, 3


class Processor(Header):
    """Type 4. `identity` is EAX and EDX of CPUID leaf 1; speeds are MHz."""

    _pack_ = 1
    _fields_ = [("socket", c_uint8), ("type", c_uint8), ("family", c_uint8), ("manufacturer", c_uint8),
                ("identity", c_uint32 * 2), ("version", c_uint8), ("voltage", c_uint8), ("clock_mhz", c_uint16),
                ("max_mhz", c_uint16), ("current_mhz", c_uint16), ("status", c_uint8), ("upgrade", c_uint8),
                ("caches", c_uint16 * 3), ("serial", c_uint8), ("asset", c_uint8), ("part", c_uint8)]  # fmt: skip


CENTRAL_PROCESSOR, FAMILY_UNKNOWN, UPGRADE_NONE = 3, 2, 6
POPULATED_ENABLED = 1 << 6 | 1
NO_CACHE = 0xFFFF


class MemoryArray(Header):
    """Type 16. `capacity_kib` is the most that fits in."""

    _pack_ = 1
    _fields_ = [("location", c_uint8), ("use", c_uint8), ("correction", c_uint8), ("capacity_kib", c_uint32),
                ("error", c_uint16), ("devices", c_uint16)]  # fmt: skip


ON_THE_BOARD, SYSTEM_MEMORY, NO_CORRECTION = 3, 3, 3
NO_ERROR_HANDLE = 0xFFFE


class MemoryDevice(Header):
    """Type 17. Widths are bits; a speed of 0 MHz is unknown."""

    _pack_ = 1
    _fields_ = [("array", c_uint16), ("error", c_uint16), ("total_width", c_uint16), ("data_width", c_uint16),
                ("size_mib", c_uint16), ("form", c_uint8), ("set", c_uint8), ("locator", c_uint8), ("bank", c_uint8),
                ("type", c_uint8), ("detail", c_uint16), ("speed_mhz", c_uint16), ("manufacturer", c_uint8),
                ("serial", c_uint8), ("asset", c_uint8), ("part", c_uint8)]  # fmt: skip


FORM_DIMM, TYPE_SDRAM, DETAIL_SYNCHRONOUS = 9, 0x0F, 1 << 7
DIMM_BITS = 64


class MemoryArrayAddress(Header):
    """Type 19. `last_kib` is the last KiB that belongs to it."""

    _pack_ = 1
    _fields_ = [("first_kib", c_uint32), ("last_kib", c_uint32), ("array", c_uint16), ("width", c_uint8)]


class Boot(Header):
    """Type 32."""

    _pack_ = 1
    _fields_ = [("reserved", c_uint8 * 6), ("status", c_uint8)]


assert (sizeof(EntryPoint), sizeof(Bios), sizeof(System), sizeof(BaseBoard)) == (0x1F, 0x18, 0x1B, 0x08)
assert (sizeof(Chassis), sizeof(Processor), sizeof(MemoryArray), sizeof(MemoryDevice)) == (0x0D, 0x23, 0x0F, 0x1B)
assert (sizeof(MemoryArrayAddress), sizeof(Boot)) == (0x0F, 0x0B)
