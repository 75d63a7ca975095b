"""SCSI: status, task attributes, sense keys and codes, sense data, operation codes; no behaviour.

Source: SPC-3, sense data, commands, additional sense codes; SAM-2, status and task attributes.
"""

from ctypes import BigEndianStructure, c_uint8, c_uint16, c_uint32, sizeof
from enum import IntEnum
from typing import NamedTuple


class Status(IntEnum):
    """The byte that ends a command."""

    GOOD = 0x00
    CHECK_CONDITION = 0x02
    CONDITION_MET = 0x04
    BUSY = 0x08
    RESERVATION_CONFLICT = 0x18
    TASK_SET_FULL = 0x28
    TASK_ABORTED = 0x40


class Tag(IntEnum):
    """How a command is queued."""

    SIMPLE = 0
    HEAD = 1
    ORDERED = 2
    UNTAGGED = 5


class Direction(IntEnum):
    """Where a buffer's data goes, seen from the initiator."""

    IN = 0
    OUT = 1


class Reset(IntEnum):
    """A reset that is not power-on."""

    BUS = 0
    TARGET = 1
    LUN = 2


class Key(IntEnum):
    """Sense key."""

    NO_SENSE = 0x0
    NOT_READY = 0x2
    MEDIUM_ERROR = 0x3
    HARDWARE_ERROR = 0x4
    ILLEGAL_REQUEST = 0x5
    UNIT_ATTENTION = 0x6
    DATA_PROTECT = 0x7
    ABORTED_COMMAND = 0xB
    MISCOMPARE = 0xE


class Sense(NamedTuple):
    """What was wrong: sense key, additional sense code and its qualifier."""

    key: int
    asc: int
    ascq: int


NO_SENSE = Sense(Key.NO_SENSE, 0x00, 0x00)
BECOMING_READY = Sense(Key.NOT_READY, 0x04, 0x01)
STOPPED = Sense(Key.NOT_READY, 0x04, 0x02)
NO_MEDIUM = Sense(Key.NOT_READY, 0x3A, 0x00)
NO_MEDIUM_TRAY_OPEN = Sense(Key.NOT_READY, 0x3A, 0x02)
LOCKED_EMPTY = Sense(Key.NOT_READY, 0x53, 0x02)
WRITE_ERROR = Sense(Key.MEDIUM_ERROR, 0x0C, 0x00)
READ_ERROR = Sense(Key.MEDIUM_ERROR, 0x11, 0x00)
RECORD_NOT_FOUND = Sense(Key.MEDIUM_ERROR, 0x14, 0x00)
INTERNAL_FAILURE = Sense(Key.HARDWARE_ERROR, 0x44, 0x00)
LIST_LENGTH = Sense(Key.ILLEGAL_REQUEST, 0x1A, 0x00)
INVALID_OPCODE = Sense(Key.ILLEGAL_REQUEST, 0x20, 0x00)
LBA_OUT_OF_RANGE = Sense(Key.ILLEGAL_REQUEST, 0x21, 0x00)
INVALID_FIELD = Sense(Key.ILLEGAL_REQUEST, 0x24, 0x00)
LUN_NOT_SUPPORTED = Sense(Key.ILLEGAL_REQUEST, 0x25, 0x00)
INVALID_PARAMETER = Sense(Key.ILLEGAL_REQUEST, 0x26, 0x00)
SAVING_NOT_SUPPORTED = Sense(Key.ILLEGAL_REQUEST, 0x39, 0x00)
LOCKED = Sense(Key.ILLEGAL_REQUEST, 0x53, 0x02)
WRONG_TRACK_MODE = Sense(Key.ILLEGAL_REQUEST, 0x64, 0x00)
MEDIUM_CHANGED = Sense(Key.UNIT_ATTENTION, 0x28, 0x00)
POWER_ON = Sense(Key.UNIT_ATTENTION, 0x29, 0x01)
BUS_RESET = Sense(Key.UNIT_ATTENTION, 0x29, 0x02)
DEVICE_RESET = Sense(Key.UNIT_ATTENTION, 0x29, 0x03)
CAPACITY_CHANGED = Sense(Key.UNIT_ATTENTION, 0x2A, 0x09)
WRITE_PROTECTED = Sense(Key.DATA_PROTECT, 0x27, 0x00)
MISCOMPARE = Sense(Key.MISCOMPARE, 0x1D, 0x00)
RESET_ASC = 0x29  # replaces every other unit attention


class SenseData(BigEndianStructure):
    """Fixed-format sense data."""

    _pack_ = 1
    _fields_ = [
        ("response", c_uint8),
        ("segment", c_uint8),
        ("key", c_uint8),
        ("information", c_uint32),
        ("additional_length", c_uint8),
        ("command_specific", c_uint32),
        ("asc", c_uint8),
        ("ascq", c_uint8),
        ("fru", c_uint8),
        ("key_specific", c_uint8),
        ("field_pointer", c_uint16),
    ]


assert sizeof(SenseData) == 18
RESPONSE_CURRENT, VALID = 0x70, 0x80
ADDITIONAL_LENGTH = 10
FIELD_IN_CDB, FIELD_IN_LIST = 0xC0, 0x80  # SKSV, and C/D for the CDB
BIT_VALID = 0x08  # BPV: bits 2:0 hold the field's highest bit


class Op(IntEnum):
    """Operation codes that more than one kind of device has."""

    TEST_UNIT_READY = 0x00
    REZERO_UNIT = 0x01
    REQUEST_SENSE = 0x03
    READ_6 = 0x08
    SEEK_6 = 0x0B
    INQUIRY = 0x12
    MODE_SELECT_6 = 0x15
    RESERVE_6 = 0x16
    RELEASE_6 = 0x17
    MODE_SENSE_6 = 0x1A
    START_STOP_UNIT = 0x1B
    RECEIVE_DIAGNOSTIC = 0x1C
    SEND_DIAGNOSTIC = 0x1D
    PREVENT_ALLOW = 0x1E
    READ_CAPACITY_10 = 0x25
    READ_10 = 0x28
    SEEK_10 = 0x2B
    WRITE_BUFFER = 0x3B
    READ_BUFFER = 0x3C
    MODE_SELECT_10 = 0x55
    RESERVE_10 = 0x56
    RELEASE_10 = 0x57
    MODE_SENSE_10 = 0x5A
    REPORT_LUNS = 0xA0
    READ_12 = 0xA8


CDB_BYTES = (6, 10, 10, 0, 16, 12, 10, 10)  # by operation code, bits 7:5; group 3 has no fixed length
CDB_BYTES_MAX = 16
LBA_6_MASK, COUNT_6_FOR_0 = 0x1FFFFF, 256  # of the 6-byte block commands
CONTROL_LINK, CONTROL_NACA = 0x01, 0x04  # of a CDB's last byte


class PageControl(IntEnum):
    """MODE SENSE, byte 2, bits 7:6."""

    CURRENT = 0
    CHANGEABLE = 1
    DEFAULT = 2
    SAVED = 3


ALL_PAGES = PAGE_MASK = 0x3F  # MODE SENSE, byte 2
SAVE_PAGES = 0x01  # MODE SELECT, byte 1
LUN_LIST = bytes.fromhex("0000000800000000 0000000000000000")  # LUN 0 and no other
NO_DEVICE_AT_LUN = bytes([0x7F, 0, 0, 0, 31]) + bytes(31)  # INQUIRY of another LUN
