"""What ATA disks and packet devices share: the task file, the data register, data going by PIO or DMA.

Commands take no time: BSY is seen only while a DMA transfer waits for the bus master. Data for PIO passes through the
buffer, which is refilled with as many blocks as it holds; data for DMA goes between the backend and guest memory.
A transfer's progress is in the state, so a machine can be suspended between any two accesses.
Source: ATA/ATAPI-6 (T13 1410D), cited as [ata].
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import LittleEndianStructure, c_uint8, c_uint16, c_uint32, c_uint64, sizeof
from enum import IntEnum
from typing import Protocol

from hw.blocks import first_bytes
from hw.ide.ata_spec import (
    DIAGNOSTIC_PASSED,
    IDENTIFY_WORDS,
    MODE_MULTIWORD,
    MODE_PIO,
    MODE_PIO_DEFAULT,
    MODE_ULTRA,
    MULTIWORD_MODE_MAX,
    PIO_MODE_MAX,
    SECTOR_BYTES,
    ULTRA_MODE_MAX,
    Device,
    Error,
    Reg,
    Status,
)

BUFFER_BYTES = 32 << 10
BSY, DRQ, DRDY, DSC, ERR = int(Status.BSY), int(Status.DRQ), int(Status.DRDY), int(Status.DSC), int(Status.ERR)
READY = DRDY | DSC
DEVICE_ONES = int(Device.OBSOLETE)
ONES = (0, 0xFF, 0xFFFF, 0xFFFFFF, 0xFFFFFFFF)


class Phase(IntEnum):
    """What the drive does with data."""

    IDLE = 0
    PIO_IN = 1
    PIO_OUT = 2
    PACKET = 3
    DMA_IN = 4
    DMA_OUT = 5
    # What was written waits for room on the host, the drive being busy:
    HELD_PIO = 6
    HELD_DMA = 7
    HELD_FLUSH = 8


# Plain integers for what happens at every access.
IDLE, PIO_IN, PIO_OUT = int(Phase.IDLE), int(Phase.PIO_IN), int(Phase.PIO_OUT)
PACKET, DMA_IN, DMA_OUT = int(Phase.PACKET), int(Phase.DMA_IN), int(Phase.DMA_OUT)
HELD = frozenset({int(Phase.HELD_PIO), int(Phase.HELD_DMA), int(Phase.HELD_FLUSH)})


class DriveState(LittleEndianStructure):
    """All guest-visible state of one drive.

    Of a transfer, `remaining` blocks from `lba` on are still to be read into the buffer, or written from it. The
    buffer holds `filled` bytes; `position` is the next one, and the current DRQ block ends at `chunk_end`. A pair holds
    a register's current and previous content, as 48-bit addresses use them.
    """

    _fields_ = [
        ("lba", c_uint64),
        ("remaining", c_uint32),
        ("position", c_uint32),
        ("filled", c_uint32),
        ("chunk", c_uint32),
        ("chunk_end", c_uint32),
        ("phase", c_uint8),
        ("status", c_uint8),
        ("error", c_uint8),
        ("intrq", c_uint8),
        ("features", c_uint8 * 2),
        ("count", c_uint8 * 2),
        ("lba_low", c_uint8 * 2),
        ("lba_mid", c_uint8 * 2),
        ("lba_high", c_uint8 * 2),
        ("device", c_uint8),
        ("command", c_uint8),
        ("dma_mode", c_uint8),
        ("pio_mode", c_uint8),
        ("multiple", c_uint8),
        ("write_cache", c_uint8),
        ("heads", c_uint16),
        ("sectors_per_track", c_uint16),
        ("reserved", c_uint8 * 6),
        ("buffer", c_uint8 * BUFFER_BYTES),
    ]


assert sizeof(DriveState) == 64 + BUFFER_BYTES


class Cable(Protocol):
    """The channel, as its drives see it."""

    def interrupted(self) -> None:
        """INTRQ has gone up."""

    def went_on(self, drive: Drive) -> None:
        """Outside of an access of the guest's: INTRQ or DMARQ may have changed."""


class Drive:
    """The common half of a drive. A subclass has SIGNATURE, IDLE_STATUS, `commands`, and the methods at the end."""

    SIGNATURE = (0, 0)
    RESET_STATUS = READY

    def __init__(self, state: DriveState, cable: Cable) -> None:
        """Wire only."""
        self.state, self.cable = state, cable
        self.buffer = memoryview(state.buffer).cast("B")
        self.commands: dict[int, Callable[[], None]] = {}
        self.stats: dict[int, int] = {}
        self._pairs = {
            Reg.ERROR_FEATURES: state.features, Reg.COUNT: state.count, Reg.LBA_LOW: state.lba_low,
            Reg.LBA_MID: state.lba_mid, Reg.LBA_HIGH: state.lba_high,
        }  # fmt: skip

    def reset(self) -> None:
        """Power-on or RESET#."""
        s = self.state
        s.dma_mode = MODE_ULTRA | ULTRA_MODE_MAX
        s.pio_mode = MODE_PIO | PIO_MODE_MAX
        s.multiple = 0
        s.write_cache = 1
        self.soft_reset()

    def soft_reset(self) -> None:
        """SRST, or the diagnosis: transfers end, the signature shows. [ata: software reset]"""
        self._drop()
        s = self.state
        s.intrq = 0
        s.device = 0
        s.error = DIAGNOSTIC_PASSED
        s.status = self.RESET_STATUS
        self.sign()

    def sign(self) -> None:
        """The signature, by which a driver knows what the drive is. [ata: signature and persistence]"""
        s = self.state
        mid, high = self.SIGNATURE
        for pair, value in ((s.count, 1), (s.lba_low, 1), (s.lba_mid, mid), (s.lba_high, high)):
            pair[0], pair[1] = value, 0

    # from the guest

    def read_register(self, reg: int, previous: int) -> int:
        """Any register but data; `previous` is 1 when HOB selects the older content."""
        s = self.state
        if reg == Reg.DEVICE:
            return s.device | DEVICE_ONES
        if reg == Reg.ERROR_FEATURES:
            return int(s.error)
        if reg == Reg.STATUS_COMMAND:
            return int(s.status)
        return int(self._pairs[Reg(reg)][previous])

    def write_register(self, reg: int, value: int) -> None:
        """Any register but data and command."""
        if reg == Reg.DEVICE:
            self.state.device = value
            return
        pair = self._pairs[Reg(reg)]
        pair[1] = pair[0]
        pair[0] = value

    def execute(self, command: int) -> None:
        """The command register was written. Ends INTRQ and whatever went on by PIO."""
        s = self.state
        self.stats[command] = self.stats.get(command, 0) + 1
        self._drop()
        s.intrq = s.error = 0
        s.command = command
        self.commands.get(command, self.abort)()

    def read_data(self, width: int) -> int:
        s = self.state
        if s.phase != PIO_IN:
            return ONES[width]
        at = s.position
        end = at + width
        s.position = end
        value = int.from_bytes(self.buffer[at:end], "little")
        if end >= s.chunk_end:
            self._next_in()
        return value

    def read_units(self, length: int) -> memoryview | None:
        """The next `length` bytes of a DRQ block that has more than these; None: they must be read one by one."""
        s = self.state
        at = s.position
        if s.phase != PIO_IN or at + length >= min(s.chunk_end, BUFFER_BYTES):
            return None
        s.position = at + length
        return self.buffer[at : at + length]

    def write_units(self, units: bytes) -> bool:
        """Into a DRQ block that wants more than these."""
        s = self.state
        end = s.position + len(units)
        if s.phase != PIO_OUT or end >= min(s.chunk_end, BUFFER_BYTES):
            return False
        self.buffer[s.position : end] = units
        s.position = end
        return True

    def write_data(self, width: int, value: int) -> None:
        s = self.state
        if s.phase not in (PIO_OUT, PACKET):
            return
        at = s.position
        end = min(at + width, s.chunk_end, BUFFER_BYTES)
        if at < end:
            self.buffer[at:end] = value.to_bytes(width, "little")[: end - at]
        s.position = end
        if end >= s.chunk_end or end == BUFFER_BYTES:
            self._received()

    # from the bus master

    def dma_wanted(self) -> int:
        """Bytes the drive has to move by DMA; 0: it does not want to."""
        s = self.state
        if s.phase == DMA_IN:
            return max(0, s.filled - s.position) + s.remaining * self.block_bytes()
        return s.remaining * self.block_bytes() if s.phase == DMA_OUT else 0

    def dma(self, views: list[memoryview], length: int) -> None:
        """Move `length` bytes (at most what is wanted; part of a block is lost) and complete if that was all."""
        s = self.state
        if s.phase == DMA_IN and s.position < min(s.filled, BUFFER_BYTES):
            s.position += copy_out(self.buffer[s.position : s.filled], views)
        else:
            blocks, size = length // self.block_bytes(), self.block_bytes()
            moved = self.move_blocks(blocks, first_bytes(views, blocks * size)) if blocks else 0
            if 0 < moved < blocks:
                self.move_blocks(1, [self.buffer[:size]])  # the bad block once more, to report it
        if s.phase in (DMA_IN, DMA_OUT) and not self.dma_wanted():
            self.complete()

    @property
    def is_held(self) -> bool:
        """Does it wait for the host's storage to take what was written?"""
        return self.state.phase in HELD

    def dma_failed(self) -> None:
        """The bus master met an address without memory: the drive ends the command, as after a CRC error."""
        self.fail(Error.ICRC | Error.ABRT)

    # ends of commands

    def complete(self, status: int = READY, error: int = 0, *, interrupt: bool = True) -> None:
        s = self.state
        self._drop()
        s.status, s.error = status, error
        if interrupt:
            self.interrupt()

    def fail(self, error: int) -> None:
        self.complete(READY | ERR, int(error))

    def abort(self) -> None:
        """A command, or a parameter of it, that this drive lacks."""
        self.fail(Error.ABRT)

    def interrupt(self) -> None:
        self.state.intrq = 1
        self.cable.interrupted()

    # data

    def send(self, length: int, chunk: int) -> None:
        """By PIO, `chunk` bytes a DRQ: the first `length` bytes of the buffer, then `remaining` blocks."""
        s = self.state
        s.position, s.filled, s.chunk = 0, length, chunk
        self._next_in()

    def send_words(self, words: list[int]) -> None:
        assert len(words) == IDENTIFY_WORDS
        self.buffer[:SECTOR_BYTES] = b"".join(word.to_bytes(2, "little") for word in words)
        self.state.remaining = 0
        self.send(SECTOR_BYTES, SECTOR_BYTES)

    def begin_dma(self, phase: Phase) -> None:
        """Wait for the bus master."""
        self.state.phase = phase
        self.state.status = BSY | READY

    def _next_in(self) -> None:
        s = self.state
        if s.position >= s.filled:
            if not s.remaining:
                self.sent()
                return
            if not self._refill():
                return
        s.chunk_end = min(s.position + s.chunk, s.filled)
        s.phase, s.status = PIO_IN, READY | DRQ
        self.chunk_ready(s.chunk_end - s.position)
        self.interrupt()

    def _refill(self) -> bool:
        """As many blocks as the buffer holds, or those before a bad one; False: the command has failed."""
        s, size = self.state, self.block_bytes()
        blocks = min(s.remaining, BUFFER_BYTES // size)
        moved = self.move_blocks(blocks, [self.buffer[: blocks * size]])
        s.position, s.filled = 0, moved * size
        return moved > 0

    def _drop(self) -> None:
        """No transfer."""
        s = self.state
        s.phase = IDLE
        s.remaining = s.position = s.filled = s.chunk_end = 0

    def set_transfer_mode(self) -> None:
        """SET FEATURES 03h: the mode is in the count register. [ata: SET FEATURES, set transfer mode]"""
        s = self.state
        mode = int(s.count[0])
        kind, number = mode & 0xF8, mode & 7
        dma = {MODE_MULTIWORD: MULTIWORD_MODE_MAX, MODE_ULTRA: ULTRA_MODE_MAX}
        if number <= dma.get(kind, -1):
            s.dma_mode = mode
        elif kind == MODE_PIO and number <= PIO_MODE_MAX:
            s.pio_mode = mode
        elif kind != MODE_PIO_DEFAULT or number > 1:
            self.abort()
            return
        self.complete()

    def multiword_word(self) -> int:
        """Word 63: modes 0 to 2, and the selected one."""
        return mode_bits(self.state.dma_mode, MODE_MULTIWORD)

    def ultra_word(self) -> int:
        """Word 88: modes 0 to 2, and the selected one."""
        return mode_bits(self.state.dma_mode, MODE_ULTRA)

    # the subclass's

    def block_bytes(self) -> int:
        raise NotImplementedError

    def move_blocks(self, blocks: int, views: list[memoryview]) -> int:
        """Move the next blocks between backend and views, and `lba` and `remaining` on; how many.

        Fewer are read when a later one is bad. 0: the command has failed.
        """
        raise NotImplementedError

    def chunk_ready(self, length: int) -> None:
        """A DRQ block of `length` bytes is in the buffer."""

    def sent(self) -> None:
        """The guest has read everything."""
        self.complete(interrupt=False)

    def _received(self) -> None:
        """The guest has written a DRQ block."""
        raise NotImplementedError


def mode_bits(mode: int, kind: int) -> int:
    return 0x07 | (1 << (mode & 7) + 8 if mode & 0xF8 == kind else 0)


def copy_out(source: memoryview, views: list[memoryview]) -> int:
    """Copy what fits; the number of bytes."""
    at = 0
    for view in views:
        part = source[at : at + len(view)]
        view[: len(part)] = part
        at += len(part)
    return at


def identify_text(text: str, characters: int) -> list[int]:
    """A string in IDENTIFY words: each pair's first character is the high byte. [ata: IDENTIFY DEVICE]"""
    padded = text.encode("ascii").ljust(characters)[:characters]
    return [padded[at] << 8 | padded[at + 1] for at in range(0, characters, 2)]
