"""ATA task file, commands and IDENTIFY DEVICE words; no behaviour.

Source: ATA/ATAPI-6 (T13 1410D), interface registers, commands, IDENTIFY DEVICE.
"""

from enum import IntEnum, IntFlag

SECTOR_BYTES = 512
COMMAND_PORTS = 8
PRIMARY, PRIMARY_CONTROL, PRIMARY_IRQ = 0x1F0, 0x3F6, 14
SECONDARY, SECONDARY_CONTROL, SECONDARY_IRQ = 0x170, 0x376, 15


class Reg(IntEnum):
    """Command block, from its base."""

    DATA = 0
    ERROR_FEATURES = 1
    COUNT = 2
    LBA_LOW = 3
    LBA_MID = 4
    LBA_HIGH = 5
    DEVICE = 6
    STATUS_COMMAND = 7


class Status(IntFlag):
    """Status and alternate status."""

    ERR = 1 << 0
    CORR = 1 << 2
    DRQ = 1 << 3
    DSC = 1 << 4
    DF = 1 << 5
    DRDY = 1 << 6
    BSY = 1 << 7


class Error(IntFlag):
    """Error register after a command; after a reset it holds a diagnostic code."""

    NM = 1 << 1
    ABRT = 1 << 2
    MCR = 1 << 3
    IDNF = 1 << 4
    MC = 1 << 5
    UNC = 1 << 6
    ICRC = 1 << 7


DIAGNOSTIC_PASSED = 0x01


class Device(IntFlag):
    """Device register."""

    HEAD = 0xF << 0
    DEV = 1 << 4
    LBA = 1 << 6
    OBSOLETE = 1 << 5 | 1 << 7  # read as ones


class Control(IntFlag):
    """Device control, written where alternate status is read."""

    N_IEN = 1 << 1
    SRST = 1 << 2
    HOB = 1 << 7


class Command(IntEnum):
    """Command register."""

    NOP = 0x00
    DEVICE_RESET = 0x08
    RECALIBRATE = 0x10
    READ_SECTORS = 0x20
    READ_SECTORS_NO_RETRY = 0x21
    READ_SECTORS_EXT = 0x24
    READ_DMA_EXT = 0x25
    READ_NATIVE_MAX_EXT = 0x27
    READ_MULTIPLE_EXT = 0x29
    WRITE_SECTORS = 0x30
    WRITE_SECTORS_NO_RETRY = 0x31
    WRITE_SECTORS_EXT = 0x34
    WRITE_DMA_EXT = 0x35
    WRITE_MULTIPLE_EXT = 0x39
    VERIFY = 0x40
    VERIFY_NO_RETRY = 0x41
    VERIFY_EXT = 0x42
    SEEK = 0x70
    DIAGNOSE = 0x90
    INITIALIZE_PARAMETERS = 0x91
    PACKET = 0xA0
    IDENTIFY_PACKET = 0xA1
    READ_MULTIPLE = 0xC4
    WRITE_MULTIPLE = 0xC5
    SET_MULTIPLE = 0xC6
    READ_DMA = 0xC8
    READ_DMA_NO_RETRY = 0xC9
    WRITE_DMA = 0xCA
    WRITE_DMA_NO_RETRY = 0xCB
    STANDBY_IMMEDIATE = 0xE0
    IDLE_IMMEDIATE = 0xE1
    STANDBY = 0xE2
    IDLE = 0xE3
    CHECK_POWER = 0xE5
    SLEEP = 0xE6
    FLUSH = 0xE7
    FLUSH_EXT = 0xEA
    IDENTIFY = 0xEC
    SET_FEATURES = 0xEF
    READ_NATIVE_MAX = 0xF8


class Feature(IntEnum):
    """SET FEATURES, features register."""

    WRITE_CACHE_ON = 0x02
    TRANSFER_MODE = 0x03
    LOOK_AHEAD_OFF = 0x55
    KEEP_SETTINGS = 0x66
    WRITE_CACHE_OFF = 0x82
    LOOK_AHEAD_ON = 0xAA
    DEFAULT_SETTINGS = 0xCC


FEATURES_IGNORED = frozenset({Feature.LOOK_AHEAD_OFF, Feature.LOOK_AHEAD_ON, Feature.KEEP_SETTINGS,
                              Feature.DEFAULT_SETTINGS})  # fmt: skip
ACTIVE_OR_IDLE = 0xFF  # CHECK POWER MODE

# Transfer modes, as SET FEATURES 03h takes them in the count register: a class in bits 7:3, a number in 2:0.
MODE_PIO_DEFAULT, MODE_PIO, MODE_MULTIWORD, MODE_ULTRA = 0x00, 0x08, 0x20, 0x40
PIO_MODE_MAX, MULTIWORD_MODE_MAX, ULTRA_MODE_MAX = 4, 2, 2
DMA_MODES = 0x0007  # words 63 and 88: modes 0 to 2; the selected one's bit is 8 higher

MULTIPLE_MAX = 16
LBA28_SECTORS = 1 << 28
LBA28_MAX = LBA28_SECTORS - 1
LBA48_MASK = (1 << 48) - 1
CYLINDERS_MAX, HEADS, SECTORS_PER_TRACK = 16383, 16, 63

SIGNATURE_ATA = (0x00, 0x00)  # LBA mid, LBA high
SIGNATURE_PACKET = (0x14, 0xEB)


class Word(IntEnum):
    """IDENTIFY DEVICE and IDENTIFY PACKET DEVICE: 16-bit word numbers."""

    GENERAL = 0
    CYLINDERS = 1
    HEADS = 3
    SECTORS_PER_TRACK = 6
    SERIAL = 10
    BUFFER_TYPE = 20
    BUFFER_SECTORS = 21
    FIRMWARE = 23
    MODEL = 27
    MULTIPLE = 47
    CAPABILITIES = 49
    PIO_TIMING = 51
    VALID = 53
    CURRENT_GEOMETRY = 54
    CURRENT_SECTORS = 57
    MULTIPLE_NOW = 59
    LBA28_SECTORS = 60
    MULTIWORD = 63
    PIO_MODES = 64
    CYCLE_TIMES = 65
    MAJOR_VERSION = 80
    SUPPORTED = 82
    ENABLED = 85
    ULTRA = 88
    LBA48_SECTORS = 100


IDENTIFY_WORDS = 256
SERIAL_CHARACTERS, FIRMWARE_CHARACTERS, MODEL_CHARACTERS = 20, 8, 40

GENERAL_FIXED = 0x0040
GENERAL_CDROM = 0x85C0  # packet device, CD-ROM, removable, DRQ within 50 us, 12-byte packets
CAPABILITIES_DISK = 0x0B00  # LBA, DMA, IORDY
CAPABILITIES_CDROM = 0x0F00
PIO_TIMING_2 = 0x0200
CYCLE_NS = 120
VERSIONS_DISK, VERSIONS_CDROM = 0x007E, 0x001E
SUPPORTED_DISK = (0x4068, 0x7400, 0x4000)  # NOP, look-ahead, write cache, power; LBA48 and both flushes
SUPPORTED_CDROM = (0x4214, 0x4000, 0x4000)  # NOP, DEVICE RESET, PACKET, removable media
WRITE_CACHE = 1 << 5  # word 85

FIRMWARE = "00000001"
SERIAL_DISK = "00000000000000000001"
MODEL_DISK = "VMware Virtual IDE Hard Drive"
MODEL_CDROM = "VMware Virtual IDE CDROM Drive"


class Reason(IntFlag):
    """Interrupt reason of a packet device: the count register."""

    CD = 1 << 0
    IO = 1 << 1


PACKET_BYTES = 12
PACKET_DMA, PACKET_OVERLAP = 0x01, 0x02  # features register
