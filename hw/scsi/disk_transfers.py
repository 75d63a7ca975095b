"""A disk's data: the medium's part of READ, WRITE, VERIFY, WRITE SAME and SYNCHRONIZE CACHE, as work for a thread.

Data moves between the guest's memory and the backing; only a block that the buffer's end cuts, and what VERIFY reads,
passes through memory of this file. Work on many blocks is done in pieces, and stops between two when it is aborted.
Each failure of the backing is given its sense here. An initiator that aborts sees no result, so neither is there one.
Source: SBC-2 (T10 1417D); SPC-3, additional sense codes.
"""

from __future__ import annotations

from hw.blocks import first_bytes
from hw.scsi.backing import Backing, CorruptDisk, Gone, OutOfSpace, ReadOnlyExtent
from hw.scsi.buffers import in_pieces, put_at_end, whole_blocks
from hw.scsi.disk_spec import BLOCK_BYTES
from hw.scsi.scsi_spec import (
    BECOMING_READY,
    INTERNAL_FAILURE,
    MISCOMPARE,
    READ_ERROR,
    RECORD_NOT_FOUND,
    WRITE_ERROR,
    WRITE_PROTECTED,
    Direction,
)
from hw.scsi.wiring import CheckCondition, Command, Moved, Work
from ringfence.errors import MediaError, RingfenceError

READ_AT_ONCE_BYTES, WRITE_AT_ONCE_BYTES = 64 << 10, 16 << 10  # that may be moved on the vCPU's thread
PIECE_BLOCKS = 512  # of what passes through memory here


def read(backing: Backing, command: Command, first: int, count: int) -> Work:
    """READ: as many of the blocks as the buffer holds."""
    views = first_bytes(command.room(Direction.IN), count * BLOCK_BYTES)
    length = sum(map(len, views))

    def at_once() -> Moved | None:
        return Moved(length) if backing.read_at_once(first * BLOCK_BYTES, views) else None

    def run() -> Moved:
        try:
            return Moved(read_into(backing, first, views))
        except MediaError as error:
            return up_to(error)
        except RingfenceError as error:
            return Moved(0, check_of(error, first))

    def up_to(bad: MediaError) -> Moved:
        """The blocks before the bad one are the initiator's, too."""
        good = min(max(bad.block - first, 0), count - 1)
        try:
            moved = read_into(backing, first, first_bytes(views, good * BLOCK_BYTES))
        except RingfenceError as error:
            return Moved(0, check_of(error, first))
        return Moved(moved, CheckCondition(READ_ERROR, first + good))

    small = 0 < length <= READ_AT_ONCE_BYTES and not length % BLOCK_BYTES and not command.tried
    return Work(run, first, count, wanted=count * BLOCK_BYTES, at_once=at_once if small else None)


def write(backing: Backing, command: Command, first: int, count: int, *, flush: bool, verify: bool = False,
          compare: bool = False) -> Work:  # fmt: skip
    """WRITE and WRITE AND VERIFY: the whole blocks that the buffer has."""
    views = whole_blocks(first_bytes(command.room(Direction.OUT), count * BLOCK_BYTES), BLOCK_BYTES)
    length = sum(map(len, views))

    def at_once() -> Moved | None:
        return Moved(length) if backing.write_at_once(first * BLOCK_BYTES, views) else None

    def run() -> Moved:
        try:
            if length:
                backing.write(first * BLOCK_BYTES, views)
            if flush or verify:
                backing.flush()
        except RingfenceError as error:
            return Moved(0, check_of(error, first, writing=True))
        if verify:
            blocks = length // BLOCK_BYTES
            check = compared(backing, command, views, first) if compare else readable(backing, command, first, blocks)
            return Moved(length, check)
        return Moved(length)

    small = 0 < length <= WRITE_AT_ONCE_BYTES and not flush and not verify and not command.tried
    return Work(run, first, count, True, count * BLOCK_BYTES, at_once if small else None)


def read_at_once(backing: Backing, first: int, views: list[memoryview], length: int) -> bool | None:
    """READ of `length` bytes as far as the vCPU's thread does it; None: that is too much for it."""
    return backing.read_at_once(first * BLOCK_BYTES, views) if 0 < length <= READ_AT_ONCE_BYTES else None


def write_at_once(backing: Backing, first: int, views: list[memoryview], length: int) -> bool | None:
    """WRITE, likewise."""
    return backing.write_at_once(first * BLOCK_BYTES, views) if 0 < length <= WRITE_AT_ONCE_BYTES else None


def verify(backing: Backing, command: Command, first: int, count: int, *, compare: bool) -> Work:
    """VERIFY: the blocks can be read, or are what the initiator sends."""
    if not compare:
        return Work(lambda: Moved(0, readable(backing, command, first, count)), first, count)
    views = whole_blocks(first_bytes(command.room(Direction.OUT), count * BLOCK_BYTES), BLOCK_BYTES)
    length = sum(map(len, views))

    def run() -> Moved:
        return Moved(length, compared(backing, command, views, first))

    return Work(run, first, count, wanted=count * BLOCK_BYTES)


def write_same(backing: Backing, command: Command, first: int, count: int, *, flush: bool) -> Work:
    """WRITE SAME: the one block of the buffer, all over the range; without a whole block, nothing is written."""
    views = whole_blocks(first_bytes(command.room(Direction.OUT), BLOCK_BYTES), BLOCK_BYTES)

    def run() -> Moved:
        if not views:
            return Moved(0)
        piece = memoryview(b"".join(views) * min(count, PIECE_BLOCKS))
        try:
            for at in range(first, first + count, PIECE_BLOCKS):
                if command.aborted:
                    break
                backing.write(at * BLOCK_BYTES, [piece[: (first + count - at) * BLOCK_BYTES]])
            if flush:
                backing.flush()
        except RingfenceError as error:
            return Moved(BLOCK_BYTES, check_of(error, first, writing=True))
        return Moved(BLOCK_BYTES)

    return Work(run, first, count, writes=True, wanted=BLOCK_BYTES)


def synchronize(backing: Backing, first: int = 0, taken: int = 0) -> Work:
    """SYNCHRONIZE CACHE: all that was written before, wherever it is. `taken` bytes of the buffer are used already."""

    def run() -> Moved:
        try:
            backing.flush()
        except RingfenceError as error:
            return Moved(taken, check_of(error, first, writing=True))
        return Moved(taken)

    return Work(run, first)


def read_into(backing: Backing, first: int, views: list[memoryview]) -> int:
    """Fill the views from `first` on, the last block perhaps in part; how many bytes."""
    length = sum(map(len, views))
    rest = length % BLOCK_BYTES
    if length - rest:
        backing.read(first * BLOCK_BYTES, first_bytes(views, length - rest))
    if rest:
        block = bytearray(BLOCK_BYTES)
        backing.read(first * BLOCK_BYTES + length - rest, [memoryview(block)])
        put_at_end(views, bytes(block[:rest]))
    return length


def readable(backing: Backing, command: Command, first: int, count: int) -> CheckCondition | None:
    """Read all of it; the first bad block, if there is one."""
    block = memoryview(bytearray(min(count, PIECE_BLOCKS) * BLOCK_BYTES))
    for at in range(first, first + count, PIECE_BLOCKS):
        if command.aborted:
            return None
        try:
            backing.read(at * BLOCK_BYTES, [block[: (first + count - at) * BLOCK_BYTES]])
        except RingfenceError as error:
            return check_of(error, at)
    return None


def compared(backing: Backing, command: Command, views: list[memoryview], first: int) -> CheckCondition | None:
    """Is the medium what the views hold? Information is the first differing byte's number. [sbc: VERIFY, BYTCHK]"""
    place = 0
    for piece in in_pieces(views, PIECE_BLOCKS * BLOCK_BYTES):
        if command.aborted:
            break
        sent = b"".join(piece)  # once: the guest may write to it meanwhile
        stored = bytearray(len(sent))
        at = first + place // BLOCK_BYTES
        try:
            backing.read(at * BLOCK_BYTES, [memoryview(stored)])
        except RingfenceError as error:
            return check_of(error, at)
        if stored != sent:
            wrong = next(index for index, byte in enumerate(stored) if byte != sent[index])
            return CheckCondition(MISCOMPARE, place + wrong)
        place += len(sent)
    return None


def check_of(error: RingfenceError, first: int, *, writing: bool = False) -> CheckCondition:
    """A failure of the backing in the guest's terms. Lack of space is not one: it is raised again."""
    if isinstance(error, OutOfSpace):
        raise error
    if isinstance(error, MediaError):
        return CheckCondition(WRITE_ERROR if writing else READ_ERROR, max(error.block, first))
    if isinstance(error, CorruptDisk):
        return CheckCondition(INTERNAL_FAILURE) if writing else CheckCondition(RECORD_NOT_FOUND, error.block)
    if isinstance(error, ReadOnlyExtent):
        return CheckCondition(WRITE_PROTECTED)
    if isinstance(error, Gone):
        return CheckCondition(BECOMING_READY)
    return CheckCondition(INTERNAL_FAILURE)
