"""A BusLogic command control block, read once and made the same for both formats; and how its outcome is written back.

Source: BusLogic MultiMaster technical reference manual, "Command Control Block"; AHA-1540B user's manual.
"""

from __future__ import annotations

from collections.abc import Iterator
from ctypes import sizeof
from dataclasses import dataclass
from typing import Literal

from hw.scsi.buslogic_spec import (
    CCB_CDB,
    CCB_DATA_LENGTH,
    CCB_STATUS,
    CDB_MAX,
    EXTENDED_LUN,
    LEGACY_LUN,
    SENSE_DEFAULT,
    SENSE_DEFAULT_BYTES,
    SENSE_NONE,
    SG_24_BYTES,
    SG_32_BYTES,
    SG_LIMIT,
    TAG_ENABLE,
    Ccb24,
    Ccb32,
    Direction,
    HostStatus,
    Opcode,
)
from hw.scsi.parallel_bus import BadBuffer, Buffer, cdb_length, direction_of, fetch, gather, store
from hw.scsi.scsi_spec import Direction as Way
from hw.scsi.scsi_spec import Status, Tag
from hw.wiring import GuestMemory

LISTS = (Opcode.LIST, Opcode.LIST_RESIDUAL)
RESIDUALS = (Opcode.PLAIN_RESIDUAL, Opcode.LIST_RESIDUAL)
COMMANDS = (Opcode.PLAIN, *LISTS, Opcode.PLAIN_RESIDUAL)
TAGS = (Tag.SIMPLE, Tag.HEAD, Tag.ORDERED, Tag.UNTAGGED)


@dataclass(frozen=True, slots=True)
class Ccb:
    """One block. `wide`: of 32-bit addresses."""

    gpa: int
    wide: bool
    opcode: int
    direction: int
    target: int
    lun: int
    tag: Tag
    cdb_said: int
    cdb_bytes: bytes
    sense_said: int
    sense_at: int
    data_length: int
    data: int

    @property
    def fits(self) -> bool:
        """Is the CDB in the block?"""
        return 0 < self.cdb_said <= CDB_MAX

    @property
    def cdb(self) -> bytes:
        """As long as its operation code says; what the block has no room for is 0."""
        length = cdb_length(self.cdb_bytes[0], self.cdb_said)
        return self.cdb_bytes[:length].ljust(length, b"\0")

    @property
    def sense_room(self) -> int:
        """Bytes; two lengths have a meaning of their own."""
        return {SENSE_DEFAULT: SENSE_DEFAULT_BYTES, SENSE_NONE: 0}.get(self.sense_said, self.sense_said)

    @property
    def way(self) -> Way:
        if self.direction in (Direction.IN, Direction.OUT):
            return Way.IN if self.direction == Direction.IN else Way.OUT
        return direction_of(self.cdb_bytes)


def read_ccb(memory: GuestMemory, gpa: int, *, wide: bool, extended_lun: bool) -> Ccb:
    """Raises RingfenceError where no block can be."""
    return _read_32(memory, gpa, extended_lun) if wide else _read_24(memory, gpa)


def _read_32(memory: GuestMemory, gpa: int, extended_lun: bool) -> Ccb:
    """In the older format the LUN's byte has the tag's bits."""
    raw = Ccb32.from_buffer_copy(fetch(memory, gpa, sizeof(Ccb32)))
    tagged = raw.control if extended_lun else raw.lun
    tag = TAGS[tagged >> 6] if tagged & TAG_ENABLE else Tag.UNTAGGED
    lun = raw.lun & (EXTENDED_LUN if extended_lun else LEGACY_LUN)
    return Ccb(
        gpa, True, raw.opcode, raw.control >> 3 & 3, raw.target, lun, tag, raw.cdb_length, bytes(raw.cdb),
        raw.sense_length, raw.sense, raw.data_length, raw.data,
    )  # fmt: skip


def _read_24(memory: GuestMemory, gpa: int) -> Ccb:
    raw = Ccb24.from_buffer_copy(fetch(memory, gpa, sizeof(Ccb24)))
    return Ccb(
        gpa, False, raw.opcode, raw.control >> 3 & 3, raw.control >> 5, raw.control & 7, Tag.UNTAGGED, raw.cdb_length,
        bytes(raw.cdb), raw.sense_length, gpa + CCB_CDB + raw.cdb_length, big(raw.data_length), big(raw.data),
    )  # fmt: skip


def big(field: object) -> int:
    """A 24-bit field."""
    return int.from_bytes(bytes(field), "big")  # type: ignore[call-overload]


def buffer_of(memory: GuestMemory, ccb: Ccb) -> tuple[Buffer, int]:
    """The data buffer, pinned, and how many bytes the block says it has. Raises RingfenceError."""
    if ccb.direction == Direction.NONE or not ccb.data_length:
        return Buffer(), 0
    if ccb.opcode not in LISTS:
        return gather(memory, [(ccb.data, ccb.data_length)], ccb.data_length, ccb.way), ccb.data_length
    segments = list(_segments(memory, ccb))
    total = sum(length for _, length in segments)
    return gather(memory, segments, total, ccb.way), total


def _segments(memory: GuestMemory, ccb: Ccb) -> Iterator[tuple[int, int]]:
    """The data segment list's entries (address, bytes); what is left over at its end is none."""
    size = SG_32_BYTES if ccb.wide else SG_24_BYTES
    if ccb.data_length > SG_LIMIT * size:
        raise BadBuffer(f"a data segment list of {ccb.data_length} bytes: expected {SG_LIMIT} entries at most")
    table = fetch(memory, ccb.data, ccb.data_length)
    order: Literal["little", "big"] = "little" if ccb.wide else "big"
    for at in range(0, len(table) - size + 1, size):
        length, gpa = table[at : at + size // 2], table[at + size // 2 : at + size]
        yield int.from_bytes(gpa, order), int.from_bytes(length, order)


def write_sense(memory: GuestMemory, ccb: Ccb, sense: bytes) -> None:
    """Raises RingfenceError."""
    store(memory, ccb.sense_at, sense[: ccb.sense_room])


def write_outcome(memory: GuestMemory, ccb: Ccb, host: HostStatus, device: Status, residual: int) -> None:
    """Both statuses, and where the block asks for it the bytes that were not moved. Raises RingfenceError."""
    if ccb.opcode in RESIDUALS:
        length = residual.to_bytes(4, "little") if ccb.wide else (residual & 0xFFFFFF).to_bytes(3, "big")
        store(memory, ccb.gpa + CCB_DATA_LENGTH, length)
    store(memory, ccb.gpa + CCB_STATUS, bytes([host, device]))
