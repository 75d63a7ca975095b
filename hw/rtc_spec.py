"""MC146818 real-time clock and the CMOS memory behind it: indices, bits, contents; no behaviour.

Source: Motorola MC146818 data sheet, "Registers" and figure 11; for the CMOS bytes what SeaBIOS 1.16 and Linux read.
"""

from enum import IntEnum, IntFlag

PORT = 0x70
PORTS = 2
IRQ = 8
CMOS_BYTES = 128


class Index(IntEnum):
    """Byte numbers, written to port 70h."""

    SECONDS = 0x00
    SECONDS_ALARM = 0x01
    MINUTES = 0x02
    MINUTES_ALARM = 0x03
    HOURS = 0x04
    HOURS_ALARM = 0x05
    WEEKDAY = 0x06  # 1 is Sunday
    DAY = 0x07
    MONTH = 0x08
    YEAR = 0x09
    A = 0x0A
    B = 0x0B
    C = 0x0C
    D = 0x0D
    DIAGNOSTICS = 0x0E
    SHUTDOWN = 0x0F
    FLOPPIES = 0x10
    EQUIPMENT = 0x14
    BASE_KIB = 0x15
    EXTENDED_KIB = 0x17
    EXTENDED_KIB_FOUND = 0x30
    CENTURY = 0x32
    ABOVE_16_MIB = 0x34
    BOOT_FLAG = 0x36
    BOOT_THIRD = 0x38
    BOOT_ORDER = 0x3D
    CPUS = 0x5F


ALARMS = frozenset({Index.SECONDS_ALARM, Index.MINUTES_ALARM, Index.HOURS_ALARM})
TIME = frozenset(range(Index.SECONDS, Index.A)) - ALARMS | {Index.CENTURY}
BOOT_FLAG_VALID = 0x80  # no diagnostics asked for, and odd parity (Simple Boot Flag Specification 2.1)
ALARM_ANY = 0xC0  # "an alarm byte with both high bits set is don't care"
HOURS_PM = 0x80


class RegA(IntFlag):
    """Register A."""

    RS = 0xF << 0
    DV = 7 << 4
    UIP = 1 << 7


DV_RUNNING = 2 << 4  # a 32.768 kHz crystal; the other settings stop the clock on a PC
DV_RESET = 6 << 4  # and 7 << 4: divider chain held in reset


class RegB(IntFlag):
    """Register B."""

    DSE = 1 << 0
    HOURS_24 = 1 << 1
    DM = 1 << 2
    SQWE = 1 << 3
    UIE = 1 << 4
    AIE = 1 << 5
    PIE = 1 << 6
    SET = 1 << 7


CLEARED_BY_RESET = RegB.SQWE | RegB.UIE | RegB.AIE | RegB.PIE
D_VRT = 0x80
COLD_A, COLD_B = 0x26, 0x02

UIP_NS = 244_000  # UIP rises this long before an update
DIVIDER_RELEASE_NS = 500_000_000  # the first update comes this long after the divider's reset ends


class Boot(IntEnum):
    """Boot devices, in the nibbles of 3Dh and the upper one of 38h."""

    NONE = 0
    FLOPPY = 1
    DISK = 2
    CD = 3
    NETWORK = 4


FLOPPY_SIGNATURE_UNCHECKED = 0x01  # bit 0 of 38h
FLOPPY_1440 = 4
EQUIPMENT_PC = 0x06  # a coprocessor and a PS/2 mouse; bit 0 and 7:6 count floppies
BASE_MEMORY_KIB = 640
