"""Follows a Fusion-MPT scatter/gather list: simple elements in the request frame, then in the segments of its chain.

    frame      simple ... simple  chain        a chain element lies at the frame's ChainOffset (dwords), and
    segment    simple ... simple  chain        says where the next segment is, how long, and where in it the
    segment    simple ... simple               next chain element lies (0: it is the last)

All that a list says is a guest's: elements and segments are counted, and a list that goes on too long is refused.
Source: Fusion-MPT Message Passing Interface specification, "Scatter Gather Elements".
"""

from __future__ import annotations

from collections.abc import Iterator

from hw.scsi.lsilogic_spec import ELEMENTS_MAX, SGE_LENGTH, Sge
from hw.scsi.parallel_bus import BadBuffer, fetch
from hw.wiring import GuestMemory

CHAIN_BYTES, CHAIN_64_BYTES = 8, 12
# As plain numbers, for an operation on flags is a call.
ELEMENT, SIMPLE, CHAIN = int(Sge.ELEMENT), int(Sge.SIMPLE), int(Sge.CHAIN)
END_OF_LIST, LAST_ELEMENT, ADDRESS_64 = int(Sge.END_OF_LIST), int(Sge.LAST_ELEMENT), int(Sge.ADDRESS_64)


def segments_of(memory: GuestMemory, frame: bytes, at: int, chain_offset: int) -> Iterator[tuple[int, int]]:
    """(address, bytes) of each simple element. Raises RingfenceError where the list cannot be followed."""
    segment, chain_at = frame, 4 * chain_offset
    budget = ELEMENTS_MAX
    while budget > 0:
        budget -= 1
        word = _dword(segment, at)
        flags = word >> 24
        kind = flags & ELEMENT
        if kind == CHAIN:
            segment, chain_at = _next_segment(memory, segment, at)
            at = 0
            continue
        if kind != SIMPLE:
            raise BadBuffer(f"a scatter/gather element with flags {flags:#04x}: expected a simple one or a chain")
        yield _address(segment, at, flags), word & SGE_LENGTH
        if flags & END_OF_LIST:
            return
        at += CHAIN_64_BYTES if flags & ADDRESS_64 else CHAIN_BYTES
        if flags & LAST_ELEMENT:
            if not chain_at:
                return
            at = chain_at
    raise BadBuffer(f"a scatter/gather list of more than {ELEMENTS_MAX} elements")


def _next_segment(memory: GuestMemory, segment: bytes, at: int) -> tuple[bytes, int]:
    """What a chain element leads to, and where in it the next one is."""
    word = _dword(segment, at)
    length = word & 0xFFFF
    return fetch(memory, _address(segment, at, word >> 24), length), 4 * (word >> 16 & 0xFF)


def _address(segment: bytes, at: int, flags: int) -> int:
    high = _dword(segment, at + 8) if flags & ADDRESS_64 else 0
    return high << 32 | _dword(segment, at + 4)


def _dword(segment: bytes, at: int) -> int:
    if at + 4 > len(segment):
        raise BadBuffer(f"a scatter/gather list runs over the {len(segment)} bytes of its segment")
    return int.from_bytes(segment[at : at + 4], "little")
