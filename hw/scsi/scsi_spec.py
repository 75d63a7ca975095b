"""SCSI: status, sense keys and codes, sense data; no behaviour.

Source: SPC-3, sense data, commands, additional sense codes.
"""

from ctypes import BigEndianStructure, c_uint8, c_uint16, c_uint32, sizeof
from enum import IntEnum
from typing import NamedTuple


class Key(IntEnum):
    """Sense key."""

    NO_SENSE = 0x0
    NOT_READY = 0x2
    MEDIUM_ERROR = 0x3
    HARDWARE_ERROR = 0x4
    ILLEGAL_REQUEST = 0x5
    UNIT_ATTENTION = 0x6


class Sense(NamedTuple):
    """What was wrong: sense key, additional sense code and its qualifier."""

    key: int
    asc: int
    ascq: int


NO_SENSE = Sense(Key.NO_SENSE, 0x00, 0x00)
NO_MEDIUM = Sense(Key.NOT_READY, 0x3A, 0x00)
NO_MEDIUM_TRAY_OPEN = Sense(Key.NOT_READY, 0x3A, 0x02)
LOCKED_EMPTY = Sense(Key.NOT_READY, 0x53, 0x02)
READ_ERROR = Sense(Key.MEDIUM_ERROR, 0x11, 0x00)
INVALID_OPCODE = Sense(Key.ILLEGAL_REQUEST, 0x20, 0x00)
LBA_OUT_OF_RANGE = Sense(Key.ILLEGAL_REQUEST, 0x21, 0x00)
INVALID_FIELD = Sense(Key.ILLEGAL_REQUEST, 0x24, 0x00)
SAVING_NOT_SUPPORTED = Sense(Key.ILLEGAL_REQUEST, 0x39, 0x00)
LOCKED = Sense(Key.ILLEGAL_REQUEST, 0x53, 0x02)
WRONG_TRACK_MODE = Sense(Key.ILLEGAL_REQUEST, 0x64, 0x00)
MEDIUM_CHANGED = Sense(Key.UNIT_ATTENTION, 0x28, 0x00)
POWER_ON = Sense(Key.UNIT_ATTENTION, 0x29, 0x01)


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
FIELD_IN_CDB = 0xC0  # SKSV and C/D


class Op(IntEnum):
    """Operation codes that more than one kind of device has."""

    TEST_UNIT_READY = 0x00
    REQUEST_SENSE = 0x03
    INQUIRY = 0x12
    MODE_SENSE_6 = 0x1A
    START_STOP_UNIT = 0x1B
    PREVENT_ALLOW = 0x1E
    READ_CAPACITY_10 = 0x25
    READ_10 = 0x28
    SEEK_10 = 0x2B
    MODE_SENSE_10 = 0x5A
    REPORT_LUNS = 0xA0
    READ_12 = 0xA8


class PageControl(IntEnum):
    """MODE SENSE, byte 2, bits 7:6."""

    CURRENT = 0
    CHANGEABLE = 1
    DEFAULT = 2
    SAVED = 3


ALL_PAGES = 0x3F
LUN_LIST = bytes.fromhex("0000000800000000 0000000000000000")  # LUN 0 and no other
