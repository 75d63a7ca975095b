"""A virtual SCSI disk: operation codes, fields, replies that do not change, mode pages; no behaviour.

Source: SBC-2 (T10 1417D) and SPC-3 (T10 1416D); the identity is that of VMware's virtual disk.
"""

from enum import IntEnum
from typing import NamedTuple

BLOCK_BYTES = 512
READ_CAPACITY_LAST = 0xFFFFFFFF  # READ CAPACITY(10): more than that


class DiskOp(IntEnum):
    """Operation codes."""

    FORMAT_UNIT = 0x04
    REASSIGN_BLOCKS = 0x07
    WRITE_6 = 0x0A
    WRITE_10 = 0x2A
    WRITE_VERIFY_10 = 0x2E
    VERIFY_10 = 0x2F
    PREFETCH_10 = 0x34
    SYNCHRONIZE_10 = 0x35
    READ_DEFECT_DATA_10 = 0x37
    WRITE_SAME_10 = 0x41
    READ_16 = 0x88
    WRITE_16 = 0x8A
    WRITE_VERIFY_16 = 0x8E
    VERIFY_16 = 0x8F
    SYNCHRONIZE_16 = 0x91
    WRITE_SAME_16 = 0x93
    SERVICE_ACTION_IN_16 = 0x9E
    WRITE_12 = 0xAA
    WRITE_VERIFY_12 = 0xAE
    VERIFY_12 = 0xAF


# Byte 1 of the block commands.
RELATIVE_ADDRESS, BYTE_CHECK_SHIFT, BYTE_CHECK_MASK, FUA = 0x01, 1, 0x03, 0x08
WRITE_SAME_REFUSED = 0x1E  # ANCHOR, UNMAP, PBDATA, LBDATA
COMPARE = 1  # BYTCHK: with the initiator's data

EXTENT, THIRD_PARTY = 0x01, 0x10  # RESERVE and RELEASE, byte 1
FORMAT_DATA = 0x10  # FORMAT UNIT, byte 1
PAGE_CODE_VALID = 0x01  # RECEIVE DIAGNOSTIC RESULTS, byte 1
READ_CAPACITY_16 = 0x10  # service action
SERVICE_ACTION_MASK = 0x1F
PARTIAL_MEDIUM = 0x01  # READ CAPACITY: PMI
READ_CAPACITY_16_BYTES = 32
START, POWER_CONDITION_SHIFT = 0x01, 4  # START STOP UNIT, byte 4
ENABLE_VPD, COMMAND_DATA = 0x01, 0x02  # INQUIRY, byte 1
DESCRIPTOR_FORMAT = 0x01  # REQUEST SENSE, byte 1
REPORT_LUNS_SELECT_MAX = 2
DEFECT_LISTS, PHYSICAL_SECTORS = 0x18, 0x05  # READ DEFECT DATA, byte 2: PLIST and GLIST; format
DIAGNOSTIC_PAGES = bytes.fromhex("00 00 0001 00")  # page 0: the list of pages, which is itself

REASSIGN_LONG = 0x03  # REASSIGN BLOCKS, byte 1: LONGLBA, LONGLIST
REASSIGN_HEADER_BYTES, REASSIGN_ENTRY_BYTES = 4, 4


class BufferMode(IntEnum):
    """READ BUFFER, byte 1, bits 4:0. There is no buffer, so every answer is zeros."""

    HEADER_AND_DATA = 0x00
    DATA = 0x02
    DESCRIPTOR = 0x03
    ECHO_DESCRIPTOR = 0x0B


BUFFER_MODE_MASK = 0x1F
BUFFER_REPLY_BYTES = 4

INQUIRY = bytes.fromhex("00 00 02 02 1F 00 00 32") + b"VMware  " + b"Virtual disk    " + b"1.0 "
assert len(INQUIRY) == 36


class VpdPage(IntEnum):
    """INQUIRY with EVPD."""

    SUPPORTED = 0x00
    SERIAL = 0x80
    IDENTIFICATION = 0x83


DESIGNATOR = bytes.fromhex("01 03 00 10")  # binary, NAA, of the logical unit; 16 bytes follow
UUID_BYTES = 16


class ModePage(IntEnum):
    """Mode pages, in the order in which page 3Fh lists them: page 0 is last."""

    ERROR_RECOVERY = 0x01
    DISCONNECT = 0x02
    FORMAT = 0x03
    GEOMETRY = 0x04
    CACHING = 0x08
    CONTROL = 0x0A
    VENDOR = 0x00


# UNKNOWN: which pages make up the 90 bytes that page 3Fh has on ESX (it answers 5D 00 00 00 and no caching page).
# With an empty page 0 these do.
FIXED_PAGES = {
    ModePage.ERROR_RECOVERY: bytes.fromhex("01 0A C0 08 00 00 00 00 08 00 00 00"),
    ModePage.DISCONNECT: bytes.fromhex("02 0E 80 80") + bytes(12),
    ModePage.CONTROL: bytes.fromhex("0A 0A 00 10") + bytes(8),
    ModePage.VENDOR: bytes.fromhex("00 00"),
}
SUBPAGES_ALL = 0xFF
WRITE_PROTECT = 0x80  # device-specific parameter
WRITE_CACHE_ENABLE = 0x04  # caching page, byte 2
CACHING_PAGE_BYTES = 0x14
ROTATION_RPM = 7200
HARD_SECTORED = 0x40  # format page, byte 20


class Geometry(NamedTuple):
    """As pages 3 and 4 and the BIOS tell it."""

    cylinders: int
    heads: int
    sectors: int


# Up to so many blocks, adapters count so many heads and sectors per track.
TRANSLATIONS = ((1 << 21, 64, 32), (1 << 22, 128, 32))
TRANSLATION_LARGE = (255, 63)
CYLINDERS_MAX = 0xFFFFFF
