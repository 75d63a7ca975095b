"""CD-ROM drive command set: operation codes, replies that do not change, profiles, features; no behaviour.

Source: MMC-3 (T10 1363D) and SFF-8020i; the identity and the capabilities page are those of VMware's drive.
"""

from enum import IntEnum

BLOCK_BYTES = 2048
CD_BLOCKS_MAX = 360_000  # 80 minutes; a larger medium is a DVD


class MmcOp(IntEnum):
    """Operation codes."""

    READ_TOC = 0x43
    GET_CONFIGURATION = 0x46
    GET_EVENT_STATUS = 0x4A
    READ_DISC_INFORMATION = 0x51
    SET_CD_SPEED = 0xBB
    MECHANISM_STATUS = 0xBD
    READ_CD = 0xBE


# Commands that run whatever attention is pending.
NOT_HELD_BACK = frozenset({0x12, 0x03, MmcOp.GET_CONFIGURATION, MmcOp.GET_EVENT_STATUS})

# UNKNOWN: how VMware's CD-ROM drive on a SCSI adapter names itself; it has the IDE one's name here.
INQUIRY_SCSI = bytes.fromhex("05 80 02 02 1F 00 00 30") + b"NECVMWarVMware IDE CDR10" + b"1.00"  # SCSI-2, wide, sync
INQUIRY = bytes.fromhex("05 80 00 21 1F 00 00 00") + b"NECVMWarVMware IDE CDR10" + b"1.00"

MSF_OFFSET = 150  # blocks before LBA 0: two seconds
FRAMES, SECONDS = 75, 60
LEAD_OUT = 0xAA
TRACK_CONTROL, LEAD_OUT_CONTROL = 0x14, 0x16  # ADR 1, data track
SESSION_INFORMATION = bytes.fromhex("000A 01 01 00 14 01 00")  # an address follows


class TocFormat(IntEnum):
    """READ TOC, byte 2, bits 3:0."""

    TOC = 0
    SESSION = 1
    RAW = 2


DISC_INFORMATION = bytes.fromhex("0020 0E 01 01 01 01 20 00") + bytes(25)  # finalized, one session and track
MECHANISM = bytes.fromhex("00 00 00 00 00 01 00 00")


class Profile(IntEnum):
    """GET CONFIGURATION."""

    NONE = 0x0000
    CD_ROM = 0x0008
    DVD_ROM = 0x0010


class FeatureRequest(IntEnum):
    """GET CONFIGURATION, byte 1, bits 1:0."""

    ALL = 0
    CURRENT = 1
    ONE = 2


class Feature(IntEnum):
    """Feature codes."""

    PROFILE_LIST = 0x0000
    CORE = 0x0001
    MORPHING = 0x0002
    REMOVABLE = 0x0003
    RANDOM_READABLE = 0x0010
    CD_READ = 0x001E
    DVD_READ = 0x001F


FEATURE_CURRENT = 1 << 0  # byte 2 of a descriptor, after the version
CORE = bytes.fromhex("0001 0B 08 00000002 01 000000")  # ATAPI
CORE_SCSI = bytes.fromhex("0001 0B 08 00000001 01 000000")
MORPHING = bytes.fromhex("0002 07 04 02 000000")
REMOVABLE = bytes.fromhex("0003 0B 04 29 000000")  # tray, eject, lock
RANDOM_READABLE = bytes.fromhex("0010 00 08 00000800 0001 00 00")
CD_READ = bytes.fromhex("001E 08 04 00 000000")
DVD_READ = bytes.fromhex("001F 00 00")

EVENTS_SUPPORTED = 0x10  # GET EVENT STATUS NOTIFICATION: the media class
NO_EVENT_AVAILABLE = 0x80
MEDIA_CLASS = 4


class MediaEvent(IntEnum):
    """Event codes of the media class."""

    NONE = 0
    EJECT_REQUEST = 1
    NEW_MEDIA = 2
    REMOVAL = 3


MEDIA_TRAY_OPEN, MEDIA_PRESENT = 1 << 0, 1 << 1

MEDIUM_TYPE_NONE, MEDIUM_TYPE_DATA = 0x70, 0x01
CAPABILITIES_PAGE = 0x2A
CAPABILITIES_LOCKED_AT, CAPABILITIES_LOCKED = 6, 0x02
MODE_PAGES = {
    0x01: bytes.fromhex("01 06 00 05 00 00 00 00"),
    0x0D: bytes.fromhex("0D 06 00 0D 00 3C 00 4B"),
    0x0E: bytes.fromhex("0E 0E 04 00 00 00 00 4B 01 FF 02 FF 00 00 00 00"),
    CAPABILITIES_PAGE: bytes.fromhex("2A 12 00 00 71 61 29 00 00 B0 00 02 02 00 00 B0 00 00 00 00"),
}

READ_CD_USER_DATA, READ_CD_NOTHING = 0x10, 0x00  # byte 9, bits 7:3
READ_CD_ANY, READ_CD_MODE_1 = 0, 2  # byte 1, bits 4:2
