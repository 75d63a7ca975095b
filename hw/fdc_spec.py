"""Intel 82077AA floppy disk controller on a PC/AT: ports, bits, commands, status bytes, diskette formats; no behaviour.

Names are the data sheet's.
Source: Intel 82077AA data sheet, "Register description", "Command set", "Status register encoding".
"""

from enum import IntEnum, IntFlag
from typing import NamedTuple

FIRST_PORT = 0x3F0
PORTS = 6
RATE_PORT = 0x3F7  # DIR and CCR; 3F6h is the IDE channel's
FLOPPY_IRQ = 6
DRIVES = 4
SECTOR_BYTES = 512
FIFO_BYTES = 16


class Offset(IntEnum):
    """Ports, from 3F0h."""

    SRA = 0
    SRB = 1
    DOR = 2
    TDR = 3
    MSR_DSR = 4
    FIFO = 5
    DIR_CCR = 7


class Dor(IntFlag):
    """Digital output register. Bits 7:4 turn the motors of drives 3 to 0."""

    SELECT = 3 << 0
    NOT_RESET = 1 << 2
    DMA_GATE = 1 << 3  # INT and DRQ reach the bus


class Dsr(IntFlag):
    """Data rate select register."""

    RATE = 3 << 0
    POWER_DOWN = 1 << 6
    RESET = 1 << 7


class Msr(IntFlag):
    """Main status register."""

    BUSY = 1 << 4
    NON_DMA = 1 << 5
    DIO = 1 << 6  # the processor is to read
    RQM = 1 << 7


class Rate(IntEnum):
    """Data rate, kbit/s, as in DSR and CCR bits 1:0."""

    K500 = 0
    K300 = 1
    K250 = 2
    K1000 = 3


RATE_RESET = Rate.K250
TDR_TAPE = 0x03
UNDRIVEN = 0xFF
DIR_UNDRIVEN = 0x7F  # bits 6:0, in AT mode
DSKCHG = 0x80


class Op(IntEnum):
    """Commands, without the modifiers in bits 7:5."""

    READ_TRACK = 0x02
    SPECIFY = 0x03
    SENSE_DRIVE = 0x04
    WRITE = 0x05
    READ = 0x06
    RECALIBRATE = 0x07
    SENSE_INTERRUPT = 0x08
    WRITE_DELETED = 0x09
    READ_ID = 0x0A
    READ_DELETED = 0x0C
    FORMAT = 0x0D
    DUMPREG = 0x0E
    SEEK = 0x0F
    VERSION = 0x10
    PERPENDICULAR = 0x12
    CONFIGURE = 0x13
    LOCK = 0x14
    VERIFY = 0x16
    RELATIVE_SEEK = 0x8F


MT, MFM, SK = 0x80, 0x40, 0x20
LOCK_BIT, STEP_IN = 0x80, 0x40
OPCODE = 0x1F


class Form(NamedTuple):
    """A command's modifier bits and its length in bytes."""

    modifiers: int
    length: int


FORMS: dict[Op, Form] = {
    Op.READ_TRACK: Form(MFM, 9),
    Op.SPECIFY: Form(0, 3),
    Op.SENSE_DRIVE: Form(0, 2),
    Op.WRITE: Form(MT | MFM, 9),
    Op.READ: Form(MT | MFM | SK, 9),
    Op.RECALIBRATE: Form(0, 2),
    Op.SENSE_INTERRUPT: Form(0, 1),
    Op.WRITE_DELETED: Form(MT | MFM, 9),
    Op.READ_ID: Form(MFM, 2),
    Op.READ_DELETED: Form(MT | MFM | SK, 9),
    Op.FORMAT: Form(MFM, 6),
    Op.DUMPREG: Form(0, 1),
    Op.SEEK: Form(0, 3),
    Op.VERSION: Form(0, 1),
    Op.PERPENDICULAR: Form(0, 2),
    Op.CONFIGURE: Form(0, 4),
    Op.LOCK: Form(LOCK_BIT, 1),
    Op.VERIFY: Form(MT | MFM | SK, 9),
    Op.RELATIVE_SEEK: Form(STEP_IN, 3),
}
COMMANDS = {byte: op for op, form in FORMS.items() for byte in range(256) if byte & ~form.modifiers & 0xFF == op}
VERSION_ENHANCED = 0x90
VERIFY_COUNT = 0x80  # EC, in VERIFY's second byte: DTL is a number of sectors


class St0(IntFlag):
    """Status register 0: drive and head below."""

    HEAD = 1 << 2
    EQUIPMENT_CHECK = 1 << 4
    SEEK_END = 1 << 5
    ABNORMAL = 1 << 6
    INVALID = 2 << 6
    POLLING = 3 << 6


class St1(IntFlag):
    """Status register 1."""

    MISSING_ADDRESS = 1 << 0
    NOT_WRITABLE = 1 << 1
    NO_DATA = 1 << 2
    DATA_ERROR = 1 << 5
    END_OF_CYLINDER = 1 << 7


class St2(IntFlag):
    """Status register 2."""

    BAD_CYLINDER = 1 << 1
    WRONG_CYLINDER = 1 << 4
    DATA_ERROR = 1 << 5
    CONTROL_MARK = 1 << 6


class St3(IntFlag):
    """Status register 3: drive and head below."""

    TWO_SIDED = 1 << 3
    TRACK_0 = 1 << 4
    READY = 1 << 5
    WRITE_PROTECTED = 1 << 6


class Configure(IntFlag):
    """CONFIGURE's second byte."""

    THRESHOLD = 0xF
    POLL_OFF = 1 << 4
    FIFO_OFF = 1 << 5
    IMPLIED_SEEK = 1 << 6


NON_DMA = 0x01  # SPECIFY's third byte
PERPENDICULAR_OW = 0x80
PERPENDICULAR_MODE, PERPENDICULAR_DRIVES = 0x03, 0x3C
SECTOR_CODE = 2  # N of 512 bytes
STEPS_MAX = 79  # RECALIBRATE gives up after as many
LAST_TRACK = 82  # where a 3.5-inch drive's head reaches its stop


class Geometry(NamedTuple):
    """A diskette format of a 3.5-inch 1.44 MB drive."""

    cylinders: int
    heads: int
    sectors: int
    rate: Rate

    @property
    def blocks(self) -> int:
        return self.cylinders * self.heads * self.sectors


FORMATS = (
    Geometry(80, 2, 9, Rate.K250),
    Geometry(80, 2, 18, Rate.K500),
    Geometry(80, 2, 21, Rate.K500),
)
BY_BLOCKS = {geometry.blocks: geometry for geometry in FORMATS}
