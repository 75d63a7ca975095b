"""A capture in pcapng, written as it comes: to a file, or a pipe that somebody reads meanwhile.

    Section Header, then for each point that is looked at an Interface Description before its first Enhanced Packet;
    Interface Statistics at the end.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from vmkernel.net.pcapng_layout import (
    BYTE_ORDER_MAGIC,
    HEAD,
    INTERFACE,
    LENGTH_UNKNOWN,
    LINKTYPE_ETHERNET,
    NANOSECONDS,
    OPTION,
    PACKET,
    SECTION,
    STATISTICS,
    TAIL,
    VERSION,
    Block,
    Option,
    PacketFlags,
)

APPLICATION = b"Ringfence"
WORD = 4


class PcapngWriter:
    """Into `out`; nothing is held back but by that. Times are nanoseconds of the Unix epoch."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self.counts: list[int] = []  # of each interface
        self._last_ns = 0
        body = SECTION.pack(BYTE_ORDER_MAGIC, *VERSION, LENGTH_UNKNOWN)
        self._block(Block.SECTION_HEADER, body, option(Option.SECTION_USER_APPLICATION, APPLICATION))

    def interface(self, name: str) -> int:
        """Its number."""
        body = INTERFACE.pack(LINKTYPE_ETHERNET, 0, 0)
        options = (option(Option.INTERFACE_NAME, name.encode()),
                   option(Option.INTERFACE_TIME_RESOLUTION, bytes([NANOSECONDS])))  # fmt: skip
        self._block(Block.INTERFACE_DESCRIPTION, body, *options)
        self.counts.append(0)
        return len(self.counts) - 1

    def packet(self, interface: int, at_ns: int, frame: bytes, length: int, *, outbound: bool) -> None:
        """`length` is the frame's own, of which `frame` may be the beginning."""
        flags = PacketFlags.OUTBOUND if outbound else PacketFlags.INBOUND
        body = PACKET.pack(interface, *halves(at_ns), len(frame), length) + padded(frame)
        self._block(Block.ENHANCED_PACKET, body, option(Option.PACKET_FLAGS, struct.pack("<I", flags)))
        self.counts[interface] += 1
        self._last_ns = max(self._last_ns, at_ns)

    def finish(self, lost: int) -> None:
        """How many frames there were; `lost` of them all did not get here."""
        for number, count in enumerate(self.counts):
            dropped = lost if number == 0 else 0
            options = (option(Option.STATISTICS_RECEIVED, struct.pack("<Q", count + dropped)),
                       option(Option.STATISTICS_DROPPED, struct.pack("<Q", dropped)))  # fmt: skip
            body = STATISTICS.pack(number, *halves(self._last_ns))
            self._block(Block.INTERFACE_STATISTICS, body, *options)

    def _block(self, kind: Block, body: bytes, *options: bytes) -> None:
        whole = b"".join([body, *options, OPTION.pack(Option.END, 0)])
        length = HEAD.size + len(whole) + TAIL.size
        self._out.write(HEAD.pack(kind, length) + whole + TAIL.pack(length))


def halves(at_ns: int) -> tuple[int, int]:
    return at_ns >> 32, at_ns & 0xFFFFFFFF


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % WORD)


def option(code: Option, value: bytes) -> bytes:
    return OPTION.pack(code, len(value)) + padded(value)
