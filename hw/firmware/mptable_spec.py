"""MultiProcessor Specification 1.4 tables: layouts; no behaviour.

Source: Intel MultiProcessor Specification 1.4, chapter 4.
"""

from ctypes import LittleEndianStructure, c_char, c_uint8, c_uint16, c_uint32, sizeof
from enum import IntEnum, IntFlag

OEM = b"RNGFNC  "
PRODUCT = b"440BX       "
SPECIFICATION = 4  # 1.4
POINTER_ALIGNMENT = 16


class Packed(LittleEndianStructure):
    """A structure without holes."""

    _pack_ = 1


class FloatingPointer(Packed):
    """MP floating pointer structure. `length` counts 16 bytes; features[0] 0: a configuration table exists."""

    _fields_ = [("signature", c_char * 4), ("table", c_uint32), ("length", c_uint8), ("specification", c_uint8),
                ("checksum", c_uint8), ("features", c_uint8 * 5)]  # fmt: skip


FLOATING_SIGNATURE, TABLE_SIGNATURE = b"_MP_", b"PCMP"


class ConfigTable(Packed):
    """MP configuration table header; `entries` entries follow."""

    _fields_ = [("signature", c_char * 4), ("length", c_uint16), ("specification", c_uint8), ("checksum", c_uint8),
                ("oem", c_char * 8), ("product", c_char * 12), ("oem_table", c_uint32), ("oem_table_bytes", c_uint16),
                ("entries", c_uint16), ("local_apic", c_uint32), ("extended_bytes", c_uint16),
                ("extended_checksum", c_uint8), ("reserved", c_uint8)]  # fmt: skip


class Processor(Packed):
    """`signature` and `features`: EAX and EDX of CPUID leaf 1."""

    _fields_ = [("type", c_uint8), ("apic_id", c_uint8), ("apic_version", c_uint8), ("flags", c_uint8),
                ("signature", c_uint32), ("features", c_uint32), ("reserved", c_uint32 * 2)]  # fmt: skip


class ProcessorFlag(IntFlag):
    """Processor entry flags."""

    ENABLED = 1 << 0
    BOOTSTRAP = 1 << 1


class Bus(Packed):
    """A bus and what kind it is."""

    _fields_ = [("type", c_uint8), ("bus", c_uint8), ("kind", c_char * 6)]


PCI_BUS, ISA_BUS = b"PCI   ", b"ISA   "


class IoApic(Packed):
    """An I/O APIC."""

    _fields_ = [("type", c_uint8), ("apic_id", c_uint8), ("apic_version", c_uint8), ("flags", c_uint8),
                ("address", c_uint32)]  # fmt: skip


IO_APIC_ENABLED = 1 << 0


class Interrupt(Packed):
    """Where a bus's interrupt goes: an input of an I/O APIC, or of local APICs. `flags` is a `Signalling`.

    On a PCI bus `source_irq` is the slot in bits 6:2 and the pin, from 0, in bits 1:0.
    """

    _fields_ = [("type", c_uint8), ("kind", c_uint8), ("flags", c_uint16), ("source_bus", c_uint8),
                ("source_irq", c_uint8), ("apic_id", c_uint8), ("input", c_uint8)]  # fmt: skip


class EntryType(IntEnum):
    """First byte of an entry; they come in this order."""

    PROCESSOR = 0
    BUS = 1
    IO_APIC = 2
    IO_INTERRUPT = 3
    LOCAL_INTERRUPT = 4


class InterruptKind(IntEnum):
    """What an interrupt entry is about."""

    INT = 0
    NMI = 1
    SMI = 2
    EXTINT = 3


EVERY_LOCAL_APIC = 0xFF
CONFORMS = 0  # flags: as the bus has it

assert (sizeof(FloatingPointer), sizeof(ConfigTable), sizeof(Processor)) == (16, 44, 20)
assert (sizeof(Bus), sizeof(IoApic), sizeof(Interrupt)) == (8, 8, 8)
