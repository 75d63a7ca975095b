"""Checksums of TCP and UDP that a host has left to hardware that is not there.

Source: RFC 1071; RFC 9293, 3.1; RFC 768; RFC 8200, section 8.1.
"""

from __future__ import annotations

import struct

from vmkernel.net.ethernet_spec import HEADER_BYTES, TYPE, TYPE_IPV4

TYPE_IPV6 = 0x86DD
TCP, UDP = 6, 17
CHECKSUM_AT = {TCP: 16, UDP: 6}  # in the segment
IPV4_BYTES, IPV6_BYTES = 20, 40


def internet_checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def completed(frame: bytes) -> bytes:
    """With the checksum of its segment as it has to be; as it is, if it is none that has one."""
    found = segment_of(frame)
    if found is None:
        return frame
    start, end, protocol, addresses = found
    at = CHECKSUM_AT[protocol]
    segment = bytearray(frame[start:end])
    if len(segment) < at + 2:
        return frame
    segment[at : at + 2] = b"\0\0"
    pseudo = addresses + struct.pack("!II", len(segment), protocol)
    value = internet_checksum(pseudo + bytes(segment)) or (0xFFFF if protocol == UDP else 0)
    segment[at : at + 2] = value.to_bytes(2, "big")
    return frame[:start] + bytes(segment) + frame[end:]


def segment_of(frame: bytes) -> tuple[int, int, int, bytes] | None:
    """Where it is, its protocol, and the addresses of the packet."""
    kind = int.from_bytes(frame[TYPE:HEADER_BYTES], "big")
    if kind == TYPE_IPV4 and len(frame) >= HEADER_BYTES + IPV4_BYTES:
        header, length = (frame[HEADER_BYTES] & 0xF) * 4, int.from_bytes(frame[16:18], "big")
        start, end, protocol, addresses = HEADER_BYTES + header, HEADER_BYTES + length, frame[23], frame[26:34]
    elif kind == TYPE_IPV6 and len(frame) >= HEADER_BYTES + IPV6_BYTES:
        start, protocol, addresses = HEADER_BYTES + IPV6_BYTES, frame[20], frame[22:54]
        end = start + int.from_bytes(frame[18:20], "big")
    else:
        return None
    if protocol not in CHECKSUM_AT or not HEADER_BYTES + IPV4_BYTES <= start <= end <= len(frame):
        return None
    return start, end, protocol, addresses
