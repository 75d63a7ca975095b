"""Frames as a virtual switch handles them: tags put on and taken off, and the few that it makes itself."""

from __future__ import annotations

import struct
from zlib import crc32

from vmkernel.net.ethernet_spec import (
    ADDRESS_BYTES,
    BROADCAST,
    FRAME_MIN,
    IP_ADDRESS_BYTES,
    IP_DESTINATION,
    IP_DESTINATION_LAST,
    IP_SOURCE,
    IP_SOURCE_LAST,
    RARP_HARDWARE,
    RARP_REQUEST,
    TAG_CONTROL,
    TAGGED_TYPE,
    TPID,
    TYPE,
    TYPE_BEACON,
    TYPE_IPV4,
    TYPE_RARP,
    VID_MASK,
)

HASH_SHIFT = 26
ALL_ONES = 0xFFFFFFFF
RARP = struct.Struct("!HHBBH6s4s6s4s")
BEACON = struct.Struct("!16sHI")  # whose, the number of the uplink that sent it, a sequence number


def hash_index(address: bytes) -> int:
    """Which of the 64 bits of an adapter's multicast filter an address falls on. [IEEE 802.3: CRC-32, top six bits]"""
    return (crc32(address) ^ ALL_ONES) >> HASH_SHIFT


def tagged(frame: bytes, vlan: int) -> bytes:
    """With an 802.1Q tag, priority 0; VLAN 0 is no tag."""
    return frame[:TYPE] + TPID + vlan.to_bytes(2, "big") + frame[TYPE:] if vlan else frame


def untagged(frame: bytes) -> bytes:
    """Without its outermost tag."""
    return frame[:TYPE] + frame[TAGGED_TYPE:]


def tag_vlan(frame: bytes) -> int:
    """The VLAN id of a tag that is there whole."""
    return int.from_bytes(frame[TAG_CONTROL:TAGGED_TYPE], "big") & VID_MASK


def ip_hash(frame: bytes, count: int) -> int:
    """Which of `count` uplinks, by the last bytes of the IP addresses, or whatever a frame has in their place."""
    if len(frame) <= IP_DESTINATION_LAST:
        return 0
    return (frame[IP_SOURCE_LAST] ^ frame[IP_DESTINATION_LAST]) % count


def whole_ip_hash(frame: bytes, count: int) -> int:
    """The same by all four bytes of them."""
    source = int.from_bytes(frame[IP_SOURCE : IP_SOURCE + IP_ADDRESS_BYTES], "big")
    destination = int.from_bytes(frame[IP_DESTINATION : IP_DESTINATION + IP_ADDRESS_BYTES], "big")
    return (source ^ destination) % count


def rarp(address: bytes) -> bytes:
    """The broadcast that tells the switches outside where an address is now. [RFC 903]"""
    nothing = bytes(IP_ADDRESS_BYTES)
    body = RARP.pack(RARP_HARDWARE, TYPE_IPV4, ADDRESS_BYTES, IP_ADDRESS_BYTES, RARP_REQUEST, address, nothing, address,
                     nothing)  # fmt: skip
    return (BROADCAST + address + TYPE_RARP.to_bytes(2, "big") + body).ljust(FRAME_MIN, b"\0")


def beacon(address: bytes, token: bytes, number: int, sequence: int) -> bytes:
    """A probe from the uplink `number` with its own address."""
    return (BROADCAST + address + TYPE_BEACON + BEACON.pack(token, number, sequence & ALL_ONES)).ljust(FRAME_MIN, b"\0")


def beacon_sender(frame: bytes, token: bytes) -> int | None:
    """The number of the uplink that sent it; None for a beacon that is not ours."""
    if len(frame) < TAG_CONTROL + BEACON.size:
        return None
    whose, number, _ = BEACON.unpack_from(frame, TAG_CONTROL)
    return int(number) if whose == token else None
