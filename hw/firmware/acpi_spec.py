"""ACPI 1.0 tables: layouts and flags; no behaviour.

Source: ACPI Specification 1.0b, sections 5.2.3 to 5.2.8; Simple Boot Flag Specification 1.0 for BOOT.
"""

from ctypes import LittleEndianStructure, c_char, c_uint8, c_uint16, c_uint32, sizeof
from enum import IntFlag

OEM = b"RNGFNC"
OEM_TABLE = b"440BX   "
OEM_REVISION = 1
CREATOR = b"RNGF"
CREATOR_REVISION = 1
TABLE_ALIGNMENT = 16
FACS_ALIGNMENT = 64


class Packed(LittleEndianStructure):
    """A structure without holes."""

    _pack_ = 1


class Rsdp(Packed):
    """Root system description pointer. `reserved` is the revision: 0 for ACPI 1.0."""

    _fields_ = [("signature", c_char * 8), ("checksum", c_uint8), ("oem", c_char * 6), ("reserved", c_uint8),
                ("rsdt", c_uint32)]  # fmt: skip


RSDP_SIGNATURE = b"RSD PTR "
RSDP_ALIGNMENT = 16


class TableHeader(Packed):
    """What every table but the FACS begins with."""

    _fields_ = [("signature", c_char * 4), ("length", c_uint32), ("revision", c_uint8), ("checksum", c_uint8),
                ("oem", c_char * 6), ("oem_table", c_char * 8), ("oem_revision", c_uint32), ("creator", c_char * 4),
                ("creator_revision", c_uint32)]  # fmt: skip


class Fadt(Packed):
    """Fixed ACPI description table, revision 1, without its header. Blocks are I/O ports, lengths bytes."""

    _fields_ = [
        ("firmware_ctrl", c_uint32), ("dsdt", c_uint32), ("int_model", c_uint8), ("reserved1", c_uint8),
        ("sci_int", c_uint16), ("smi_cmd", c_uint32), ("acpi_enable", c_uint8), ("acpi_disable", c_uint8),
        ("s4bios_req", c_uint8), ("reserved2", c_uint8), ("pm1a_evt_blk", c_uint32), ("pm1b_evt_blk", c_uint32),
        ("pm1a_cnt_blk", c_uint32), ("pm1b_cnt_blk", c_uint32), ("pm2_cnt_blk", c_uint32), ("pm_tmr_blk", c_uint32),
        ("gpe0_blk", c_uint32), ("gpe1_blk", c_uint32), ("pm1_evt_len", c_uint8), ("pm1_cnt_len", c_uint8),
        ("pm2_cnt_len", c_uint8), ("pm_tm_len", c_uint8), ("gpe0_blk_len", c_uint8), ("gpe1_blk_len", c_uint8),
        ("gpe1_base", c_uint8), ("reserved3", c_uint8), ("p_lvl2_lat", c_uint16), ("p_lvl3_lat", c_uint16),
        ("flush_size", c_uint16), ("flush_stride", c_uint16), ("duty_offset", c_uint8), ("duty_width", c_uint8),
        ("day_alrm", c_uint8), ("mon_alrm", c_uint8), ("century", c_uint8), ("reserved4", c_uint8 * 3),
        ("flags", c_uint32),
    ]  # fmt: skip


INT_MODEL_DUAL_PIC = 0
P_LVL2_ABSENT, P_LVL3_ABSENT = 101, 1001  # microseconds; more than 100 and 1000 say that there is no such state


class FadtFlag(IntFlag):
    """Fixed feature flags. Some say so when clear: power button and RTC status are fixed, the timer has 24 bits."""

    WBINVD = 1 << 0
    PROC_C1 = 1 << 2
    P_LVL2_UP = 1 << 3
    PWR_BUTTON = 1 << 4
    SLP_BUTTON = 1 << 5
    FIX_RTC = 1 << 6
    RTC_S4 = 1 << 7
    TMR_VAL_EXT = 1 << 8


class Facs(Packed):
    """Firmware ACPI control structure."""

    _fields_ = [("signature", c_char * 4), ("length", c_uint32), ("hardware_signature", c_uint32),
                ("firmware_waking_vector", c_uint32), ("global_lock", c_uint32), ("flags", c_uint32),
                ("reserved", c_uint8 * 40)]  # fmt: skip


class Madt(Packed):
    """Multiple APIC description table, without header and entries."""

    _fields_ = [("local_apic", c_uint32), ("flags", c_uint32)]


PCAT_COMPAT = 1 << 0  # there is a pair of 8259s as well


class MadtLocalApic(Packed):
    """A processor."""

    _fields_ = [("type", c_uint8), ("length", c_uint8), ("processor", c_uint8), ("apic_id", c_uint8),
                ("flags", c_uint32)]  # fmt: skip


class MadtIoApic(Packed):
    """An I/O APIC whose first input is interrupt `first` of the system."""

    _fields_ = [("type", c_uint8), ("length", c_uint8), ("apic_id", c_uint8), ("reserved", c_uint8),
                ("address", c_uint32), ("first", c_uint32)]  # fmt: skip


class MadtOverride(Packed):
    """An ISA interrupt that is not the I/O APIC's input of that number, or not edge and active high."""

    _fields_ = [("type", c_uint8), ("length", c_uint8), ("bus", c_uint8), ("irq", c_uint8), ("interrupt", c_uint32),
                ("flags", c_uint16)]  # fmt: skip


class MadtLocalNmi(Packed):
    """The local interrupt input of a processor that carries NMI."""

    _fields_ = [("type", c_uint8), ("length", c_uint8), ("processor", c_uint8), ("flags", c_uint16),
                ("lint", c_uint8)]  # fmt: skip


MADT_LOCAL_APIC, MADT_IO_APIC, MADT_OVERRIDE, MADT_LOCAL_NMI = 0, 1, 2, 4
LOCAL_APIC_ENABLED = 1 << 0


class Signalling(IntFlag):
    """Polarity and trigger mode, as MADT and MP table have them; 0 conforms to the bus."""

    HIGH = 1 << 0
    LOW = 3 << 0
    EDGE = 1 << 2
    LEVEL = 3 << 2


class Boot(Packed):
    """Simple boot flag table, without its header: the CMOS byte that says how the last boot went."""

    _fields_ = [("cmos_index", c_uint8), ("reserved", c_uint8 * 3)]


BOOT_FLAG_INDEX = 0x36

assert (sizeof(Rsdp), sizeof(TableHeader), sizeof(Fadt), sizeof(Facs)) == (20, 36, 116 - 36, 64)
assert (sizeof(MadtLocalApic), sizeof(MadtIoApic), sizeof(MadtOverride), sizeof(MadtLocalNmi)) == (8, 12, 10, 6)
assert (sizeof(Madt), sizeof(Boot)) == (8, 4)
