"""A ring of PCnet descriptors, in the layout of the software style in force.

    style 0     address 15:0 | address 23:16, status 15:8 | BCNT | misc         16-bit words
    style 1, 2  address | BCNT, status | misc | user                            32-bit words
    style 3     misc | BCNT, status | address | user

Descriptors are aligned to their size. A status, with OWN, is stored last.
Source: AMD Am79C970A data sheet, "Receive Descriptors", "Transmit Descriptors".
"""

from __future__ import annotations

from contextlib import ExitStack
from struct import Struct
from typing import NamedTuple

from hw.net.pcnet_spec import ADDRESS_24, BCNT, BUFFER_BYTES_MAX, EXCHANGED, Style
from hw.net.rings import EntryRing
from hw.wiring import GuestMemory

SCAN_MAX = 512  # descriptors that one access may set to work
HALF = 0x8000
NARROW_LAYOUT, WIDE_LAYOUT, EXCHANGED_LAYOUT = Struct("<IH"), Struct("<IHH"), Struct("<4xHHI")
WORD, DWORD = Struct("<H"), Struct("<I")


class Descriptor(NamedTuple):
    """What a descriptor said when it was read."""

    address: int
    length: int
    status: int


class Ring(EntryRing):
    """Its methods raise RingfenceError where there is no memory."""

    def __init__(self, memory: GuestMemory, held: ExitStack, style: Style, base: int, length: int, high: int) -> None:
        """`high` is what goes above the 24 address bits of a 16-bit descriptor."""
        super().__init__(memory, held, base & -style.size, style.size, length)
        self.style, self.high = style, high

    def read(self, index: int) -> Descriptor:
        at, style = self.find(index), self.style
        if not style.wide:
            word, count = NARROW_LAYOUT.unpack_from(self.bytes, at)
            return Descriptor(word & ADDRESS_24 | self.high, BUFFER_BYTES_MAX - (count & BCNT), word >> 16 & 0xFF00)
        if style is EXCHANGED:
            count, status, address = EXCHANGED_LAYOUT.unpack_from(self.bytes, at)
        else:
            address, count, status = WIDE_LAYOUT.unpack_from(self.bytes, at)
        return Descriptor(address, BUFFER_BYTES_MAX - (count & BCNT), status)

    def give_back(self, index: int, status: int) -> None:
        """Store the status, which has no OWN: from here on the descriptor is the driver's."""
        at = self.find(index) + self.style.status_at
        if self.style.wide:
            WORD.pack_into(self.bytes, at, status)
            self.stored(at, WORD.size)
        else:
            self.bytes[at] = status >> 8
            self.stored(at, 1)

    def write_misc(self, index: int, misc: int) -> None:
        """A word in 16-bit structures."""
        at, layout = self.find(index) + self.style.misc_at, DWORD if self.style.wide else WORD
        layout.pack_into(self.bytes, at, misc)
        self.stored(at, layout.size)


def ring_length(register: int) -> int:
    """Descriptors. A driver that sets the register itself writes the two's complement of a length."""
    return (0x10000 - register if register >= HALF else register) or 1
