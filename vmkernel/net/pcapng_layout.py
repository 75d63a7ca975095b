"""pcapng: the blocks that a capture is made of; no behaviour.

Source: IETF draft-ietf-opsawg-pcapng, sections 3 and 4.
"""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag


class Block(IntEnum):
    """Block types."""

    SECTION_HEADER = 0x0A0D0D0A
    INTERFACE_DESCRIPTION = 1
    INTERFACE_STATISTICS = 5
    ENHANCED_PACKET = 6


class Option(IntEnum):
    """Options that are used here; the number's meaning depends on the block."""

    END = 0
    COMMENT = 1
    SECTION_USER_APPLICATION = 4
    INTERFACE_NAME = 2
    INTERFACE_TIME_RESOLUTION = 9
    PACKET_FLAGS = 2
    STATISTICS_RECEIVED = 4
    STATISTICS_DROPPED = 5


class PacketFlags(IntFlag):
    """epb_flags, bits 0 and 1: the direction, as the one sees it who is plugged in."""

    INBOUND = 1
    OUTBOUND = 2


BYTE_ORDER_MAGIC = 0x1A2B3C4D
VERSION = 1, 0
LENGTH_UNKNOWN = -1
LINKTYPE_ETHERNET = 1
NANOSECONDS = 9  # if_tsresol: ten to the minus ninth

HEAD = struct.Struct("<II")  # type, total length
TAIL = struct.Struct("<I")
OPTION = struct.Struct("<HH")  # code, length
SECTION = struct.Struct("<IHHq")
INTERFACE = struct.Struct("<HHI")  # link type, 0, snap length (0: none)
PACKET = struct.Struct("<IIIII")  # interface, time high, time low, captured, original
STATISTICS = struct.Struct("<III")  # interface, time high, time low
