"""A disk's CDBs: where each form has its block address and its number of blocks, and what holds a command back.

Source: SBC-2 (T10 1417D), the commands' CDBs; SPC-3 (T10 1416D), unit attention; SCSI-2 (X3.131-1994), RESERVE.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from hw.scsi.disk_spec import BYTE_CHECK_MASK, BYTE_CHECK_SHIFT, COMPARE, RELATIVE_ADDRESS, DiskOp
from hw.scsi.scsi_spec import COUNT_6_FOR_0, LBA_6_MASK, Op
from hw.scsi.sense import invalid_field


class Place(NamedTuple):
    """Where a CDB has its block address and its number of blocks: byte and length of each."""

    lba: int
    lba_bytes: int
    blocks: int
    blocks_bytes: int


SIX, TEN, TWELVE, SIXTEEN = Place(1, 3, 4, 1), Place(2, 4, 7, 2), Place(2, 4, 6, 4), Place(2, 8, 10, 4)
PLACES: dict[int, Place] = {
    **dict.fromkeys((Op.READ_6, DiskOp.WRITE_6), SIX),
    **dict.fromkeys(
        (Op.READ_10, DiskOp.WRITE_10, DiskOp.WRITE_VERIFY_10, DiskOp.VERIFY_10, DiskOp.PREFETCH_10,
         DiskOp.SYNCHRONIZE_10, DiskOp.WRITE_SAME_10), TEN,
    ),
    **dict.fromkeys((Op.READ_12, DiskOp.WRITE_12, DiskOp.WRITE_VERIFY_12, DiskOp.VERIFY_12), TWELVE),
    **dict.fromkeys(
        (DiskOp.READ_16, DiskOp.WRITE_16, DiskOp.WRITE_VERIFY_16, DiskOp.VERIFY_16, DiskOp.SYNCHRONIZE_16,
         DiskOp.WRITE_SAME_16), SIXTEEN,
    ),
}  # fmt: skip

# READ(10) and WRITE(10) in one look: operation code, flags, block address, number of blocks, control.
RW_10 = Struct(">BBIxHB")
assert RW_10.size == 10

# Commands that a unit attention does not hold back, and those that a foreign reservation does not.
NOT_HELD_BACK = frozenset({Op.INQUIRY, Op.REQUEST_SENSE, Op.REPORT_LUNS})
NOT_RESERVED = NOT_HELD_BACK | {Op.RELEASE_6, Op.RELEASE_10}


def number(data: bytes, at: int, length: int) -> int:
    """A big-endian field."""
    return int.from_bytes(data[at : at + length], "big")


def block_range(cdb: bytes) -> tuple[int, int]:
    """First block and number of blocks. Raises Refused for a relative address."""
    place = PLACES[cdb[0]]
    first, count = number(cdb, place.lba, place.lba_bytes), number(cdb, place.blocks, place.blocks_bytes)
    if place is SIX:
        return first & LBA_6_MASK, count or COUNT_6_FOR_0
    if cdb[1] & RELATIVE_ADDRESS:
        raise invalid_field(1, 0)
    return first, count


def byte_check(cdb: bytes) -> bool:
    """BYTCHK: compare with what the initiator sends? Raises Refused."""
    check = cdb[1] >> BYTE_CHECK_SHIFT & BYTE_CHECK_MASK
    if check > COMPARE:
        raise invalid_field(1, 2)
    return check == COMPARE
