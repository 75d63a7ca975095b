"""Cisco Discovery Protocol, version 2: addresses, kinds of fields, times; no behaviour.

    802.3 header with the length behind it, LLC and SNAP, then version, time to live, checksum, and the fields:
    kind, length with this header, value. Numbers are in network byte order.
Source: Cisco, "Cisco Discovery Protocol" (frame formats, LAN switching documentation); RFC 1071 (checksum).
"""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag

ADDRESS = bytes.fromhex("01000ccccccc")
SNAP = bytes.fromhex("aaaa0300000c2000")  # LLC for SNAP, Cisco's OUI, CDP
LENGTH = struct.Struct("!H")  # of an 802.3 frame, in the place of a type
HEADER = struct.Struct("!BBH")  # version, time to live in seconds, checksum
FIELD = struct.Struct("!HH")
VERSION = 2
TIME_TO_LIVE_S, INTERVAL_S = 180, 60


class Field(IntEnum):
    """Kinds of fields; the value of a text is its bytes, without an end."""

    DEVICE = 0x0001
    ADDRESSES = 0x0002
    PORT = 0x0003
    CAPABILITIES = 0x0004
    SOFTWARE = 0x0005
    PLATFORM = 0x0006
    NATIVE_VLAN = 0x000A
    DUPLEX = 0x000B
    MTU = 0x0011


class Capability(IntFlag):
    """Of Field.CAPABILITIES, 32 bits."""

    ROUTER = 0x01
    BRIDGE = 0x02
    SOURCE_ROUTE_BRIDGE = 0x04
    SWITCH = 0x08
    HOST = 0x10
    IGMP = 0x20
    REPEATER = 0x40


ADDRESS_COUNT = struct.Struct("!I")
IPV4_HEAD = bytes.fromhex("0101cc0004")  # NLPID, one byte long: IP; four bytes of address
