"""Ethernet frames: their sizes, the frame check sequence, and the hash that picks multicast addresses.

Source: IEEE 802.3, clause 3 (frame structure, FCS); Am79C970A data sheet, "Logical Address Filter".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from zlib import crc32

ADDRESS_BYTES = 6
HEADER_BYTES = 14
LENGTH_OFFSET = 12
DATA_MIN = 46  # a length field below it says that the rest is padding
FRAME_MIN = 60  # without the FCS, as all lengths here
FCS_BYTES = 4
BROADCAST = b"\xff" * ADDRESS_BYTES
GROUP = 0x01  # of the first byte: a multicast address, or broadcast
PADDING = memoryview(bytes(FRAME_MIN))
HASH_SHIFT = 26
ALL_ONES = 0xFFFFFFFF


def fcs_of(pieces: Iterable[memoryview | bytes]) -> bytes:
    """The frame check sequence in the order in which it is sent."""
    value = 0
    for piece in pieces:
        value = crc32(piece, value)
    return value.to_bytes(FCS_BYTES, "little")


def hash_index(address: bytes) -> int:
    """Which of the 64 bits of a logical address filter an address falls on."""
    return (crc32(address) ^ ALL_ONES) >> HASH_SHIFT


def length_of(frame: Sequence[memoryview | bytes]) -> int:
    return len(frame[0]) if len(frame) == 1 else sum(map(len, frame))


def start_of(frame: Sequence[memoryview | bytes], count: int) -> bytes:
    """Its first bytes, or all of them."""
    if frame and len(frame[0]) >= count:
        return bytes(frame[0][:count])
    return b"".join(frame)[:count]


def padded(frame: list[memoryview], length: int) -> list[memoryview]:
    """At least as long as a frame has to be, `length` being what it is."""
    return frame if length >= FRAME_MIN else [*frame, PADDING[length:]]
