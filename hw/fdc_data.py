"""The data path of the floppy disk controller: its state, and the commands that move sectors.

A command takes the address from `fifo`, goes from sector to sector, by DMA or byte by byte through the data register,
and leaves its result in `fifo`.
Source: Intel 82077AA data sheet, cited as [ds].
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import LittleEndianStructure, c_uint8, c_uint16, sizeof
from enum import IntEnum
from typing import Protocol

from hw.fdc_spec import (
    COMMANDS,
    DRIVES,
    FIFO_BYTES,
    MFM,
    MT,
    NON_DMA,
    SECTOR_BYTES,
    SECTOR_CODE,
    SK,
    VERIFY_COUNT,
    Configure,
    Dor,
    Op,
    St0,
    St1,
    St2,
)
from hw.floppy_drive import Diskette, FloppyDrive, FloppyDriveState
from hw.wiring import IrqLine
from ringfence.errors import MediaError

ID_BYTES = 4  # C, H, R, N
WRITES = frozenset({Op.WRITE, Op.WRITE_DELETED, Op.FORMAT})


class Phase(IntEnum):
    """Where a command stands."""

    IDLE = 0
    COMMAND = 1
    EXECUTION = 2
    RESULT = 3


IDLE, COMMAND, EXECUTION, RESULT = int(Phase.IDLE), int(Phase.COMMAND), int(Phase.EXECUTION), int(Phase.RESULT)


class DmaChannels(Protocol):
    """The DMA controllers, as a device sees them."""

    def request(self, channel: int, level: bool) -> None:
        """Drive DREQ."""

    def granted(self, channel: int) -> bool: ...

    def write_memory(self, channel: int, data: memoryview) -> tuple[int, bool]:
        """Bytes moved, and whether the terminal count was reached."""

    def read_memory(self, channel: int, data: memoryview) -> tuple[int, bool]: ...


class FdcState(LittleEndianStructure):
    """All guest-visible state. `fifo` holds the command while it comes and runs, then the result.

    `polls` counts drives whose change to ready a SENSE INTERRUPT must still fetch, `seeks` has a bit for each drive
    whose seek has ended. `position` is the next byte of `buffer`, `sectors` what VERIFY or FORMAT has left.
    """

    _fields_ = [
        ("dor", c_uint8),
        ("tdr", c_uint8),
        ("rate", c_uint8),
        ("srt_hut", c_uint8),
        ("hlt_nd", c_uint8),
        ("config", c_uint8),
        ("pretrk", c_uint8),
        ("locked", c_uint8),
        ("perpendicular", c_uint8),
        ("eot", c_uint8),
        ("phase", c_uint8),
        ("length", c_uint8),
        ("taken", c_uint8),
        ("interrupt", c_uint8),
        ("polls", c_uint8),
        ("seeks", c_uint8),
        ("cylinder", c_uint8),
        ("head", c_uint8),
        ("record", c_uint8),
        ("side", c_uint8),
        ("position", c_uint16),
        ("sectors", c_uint16),
        ("fifo", c_uint8 * FIFO_BYTES),
        ("drives", FloppyDriveState * DRIVES),
        ("buffer", c_uint8 * SECTOR_BYTES),
    ]


assert sizeof(FdcState) == 24 + FIFO_BYTES + 8 * DRIVES + SECTOR_BYTES


class DataPath:
    """Works on the controller's state; the controller drives INT and DRQ from it afterwards."""

    def __init__(
        self, state: FdcState, irq: IrqLine, dma: DmaChannels, channel: int, drives: list[FloppyDrive]
    ) -> None:
        self.state, self.irq, self.dma, self.channel, self.drives = state, irq, dma, channel, drives
        self.buffer = memoryview(state.buffer).cast("B")

    def take_byte(self) -> int:
        """Of a sector that is read without DMA."""
        value = int(self.buffer[self.state.position % SECTOR_BYTES])
        self.moved(1, ended=False)
        return value

    def give_byte(self, value: int) -> None:
        """Of a sector or an ID that is written without DMA."""
        self.buffer[self.state.position % SECTOR_BYTES] = value
        self.moved(1, ended=False)

    def step(self, steps: int) -> None:
        drive = self.drive()
        if drive is not None:
            drive.step(steps)

    # commands

    def read_id(self) -> None:
        s, drive = self.state, self.drive()
        s.side = s.fifo[1] >> 2 & 1
        geometry = None if drive is None else drive.formatted(s.rate, bool(s.fifo[0] & MFM))
        if drive is None or geometry is None:
            self.finish(int(St1.MISSING_ADDRESS))
            return
        s.cylinder, s.head, s.record = drive.state.track, s.side, drive.next_id(geometry.sectors)
        s.fifo[5] = SECTOR_CODE
        self.finish()

    def transfer(self) -> None:
        """READ DATA and WRITE DATA: from the sector named on, until terminal count or the end of the track."""
        s = self.state
        self._take_address()
        if self._found():
            s.phase, s.position = EXECUTION, 0
            if self.op() in WRITES or self._load():
                self.run()

    def read_track(self) -> None:
        """All sectors from the first on, wherever the address points. [ds: read track]"""
        self.state.fifo[4] = 1
        self.transfer()

    def read_deleted(self) -> None:
        """Every sector has an ordinary mark: with SK all are passed over, without it one is read. [ds: read deleted]"""
        s = self.state
        if not s.fifo[0] & SK:
            s.fifo[6] = s.fifo[4]
            self.transfer()
            return
        self._take_address()
        if self._found():
            self.finish(int(St1.NO_DATA), int(St2.CONTROL_MARK))

    def verify(self) -> None:
        """To the end of the track, or with EC as many sectors as DTL says. [ds: verify]"""
        s = self.state
        self._take_address()
        counted = bool(s.fifo[1] & VERIFY_COUNT)
        s.sectors = s.fifo[8]
        while self._found() and self._load():
            more = self._next_sector()
            s.sectors = max(s.sectors - 1, 0)
            if not more or (counted and not s.sectors):
                self.finish()
                return

    def format_track(self) -> None:
        """An ID of four bytes comes for each sector; here: N, SC, GPL, D. [ds: format a track]"""
        s, drive = self.state, self.drive()
        s.side, s.eot = s.fifo[1] >> 2 & 1, s.fifo[3]
        s.sectors, s.position = s.fifo[3], 0
        geometry = None if drive is None else drive.geometry
        s.cylinder, s.head, s.record = 0 if drive is None else drive.state.track, s.side, 1
        if drive is None or geometry is None or geometry.rate != s.rate or drive.state.track >= geometry.cylinders:
            self.finish(int(St1.MISSING_ADDRESS))
        elif drive.write_protected:
            self.finish(int(St1.NOT_WRITABLE))
        elif not s.sectors:
            self.finish()
        else:
            s.phase = EXECUTION
            self.run()

    # the transfer, sector by sector

    def run(self) -> None:
        """As far as DMA channel and gate let it."""
        s = self.state
        while s.phase == EXECUTION and not s.hlt_nd & NON_DMA and s.dor & Dor.DMA_GATE and self._granted():
            move = self.dma.read_memory if self.op() in WRITES else self.dma.write_memory
            count, ended = move(self.channel, self.buffer[s.position % SECTOR_BYTES : self._unit_bytes()])
            if not count:
                return
            self.moved(count, ended)

    def _granted(self) -> bool:
        self.dma.request(self.channel, True)
        return self.dma.granted(self.channel)

    def _unit_bytes(self) -> int:
        """What moves at a time: a sector, or the ID of one."""
        at = self.state.position % SECTOR_BYTES
        return SECTOR_BYTES if self.op() is not Op.FORMAT else max(ID_BYTES, at + 1)

    def moved(self, count: int, ended: bool) -> None:
        """Bytes have gone to or from the buffer; `ended`: with the last one came terminal count."""
        s = self.state
        end = self._unit_bytes()
        s.position = s.position % SECTOR_BYTES + count
        if s.position < end and not ended:
            return
        if self.op() in WRITES:
            self.buffer[s.position : end] = bytes(max(end - s.position, 0))  # [ds: "padded with zeros"]
            if not (self._format_sector() if self.op() is Op.FORMAT else self._store()):
                return
        s.position = 0
        self._between_sectors(ended)

    def _between_sectors(self, ended: bool) -> None:
        s = self.state
        self.irq.set_level(False)  # without DMA every sector makes an edge of its own
        if self.op() is Op.FORMAT:
            s.sectors = max(s.sectors - 1, 0)
            if ended or not s.sectors:
                self.finish()
            return
        more = self._next_sector()
        if self.op() is Op.READ_DELETED:
            self.finish(0, int(St2.CONTROL_MARK))
        elif ended:
            self.finish()
        elif not more:
            self.finish(int(St1.END_OF_CYLINDER))
        elif self._found() and self.op() not in WRITES:
            self._load()

    def _take_address(self) -> None:
        """C, H, R from the command; with EIS the head goes there first. [ds: implied seek]"""
        s = self.state
        s.cylinder, s.head, s.record, s.eot = s.fifo[2], s.fifo[3], s.fifo[4], s.fifo[6]
        s.side = s.fifo[1] >> 2 & 1
        if s.config & Configure.IMPLIED_SEEK:
            self.step(s.cylinder - self.kept().pcn)
            self.kept().pcn = s.cylinder

    def _found(self) -> bool:
        """Whether the sector is there, and writable if it must be; otherwise the command has ended."""
        s, drive = self.state, self.drive()
        if drive is None:
            self.finish(int(St1.MISSING_ADDRESS))
            return False
        address = (s.cylinder, s.head, s.record, s.fifo[5])
        st1, st2 = drive.find(s.rate, bool(s.fifo[0] & MFM), s.side & 1, address)
        if not st1 and self.op() in WRITES and drive.write_protected:
            st1 = int(St1.NOT_WRITABLE)
        if st1:
            self.finish(st1, st2)
        return not st1

    def _load(self) -> bool:
        """Read the sector into the buffer; otherwise the command has ended."""
        return self._access(lambda diskette, block: diskette.read(block, [self.buffer]))

    def _store(self) -> bool:
        return self._found() and self._access(lambda diskette, block: diskette.write(block, [self.buffer]))

    def _format_sector(self) -> bool:
        """Fill the sector that the ID names, if the diskette has it."""
        s, drive = self.state, self.drive()
        s.cylinder, s.head, s.record, n = self.buffer[:ID_BYTES]
        if drive is None or drive.geometry is None or drive.write_protected:
            self.finish(int(St1.NOT_WRITABLE))
            return False
        address = (s.cylinder, s.head, s.record, n)
        if drive.find(s.rate, mfm=True, head=s.side & 1, wanted=address) != (0, 0):
            return True
        self.buffer[:] = bytes([s.fifo[5]]) * SECTOR_BYTES
        return self._access(lambda diskette, block: diskette.write(block, [self.buffer]))

    def _access(self, move: Callable[[Diskette, int], None]) -> bool:
        s, drive = self.state, self.drive()
        assert drive is not None and drive.diskette is not None
        try:
            move(drive.diskette, drive.block(s.side & 1, s.record))
        except MediaError:
            self.finish(int(St1.DATA_ERROR), int(St2.DATA_ERROR))
            return False
        return True

    def _next_sector(self) -> bool:
        """Move the address on. False at the end of the cylinder. [ds: result phase table]"""
        s = self.state
        if s.record != s.fifo[6]:
            s.record = s.record + 1 & 0xFF
            return True
        s.record = 1
        if s.fifo[0] & MT:
            s.head, s.side = s.head ^ 1, ~s.side & 1
            if s.side:
                return True
        s.cylinder = s.cylinder + 1 & 0xFF
        return False

    # what every command needs

    def op(self) -> Op:
        return COMMANDS.get(self.state.fifo[0], Op.READ)

    def unit(self) -> int:
        return int(self.state.fifo[1]) & 3

    def drive(self) -> FloppyDrive | None:
        unit = self.unit()
        return self.drives[unit] if unit < len(self.drives) else None

    def kept(self) -> FloppyDriveState:
        """What the controller keeps of the drive, if there is one or not."""
        state: FloppyDriveState = self.state.drives[self.unit()]
        return state

    def answer(self, *result: int) -> None:
        """A result phase that does not interrupt."""
        s = self.state
        s.fifo[: len(result)] = result
        s.phase, s.taken, s.length = RESULT, 0, len(result)

    def finish(self, st1: int = 0, st2: int = 0) -> None:
        """The seven bytes of a data command's result, and INT."""
        s = self.state
        n = s.fifo[5] if self.op() is not Op.FORMAT else s.fifo[2]
        st0 = self.unit() | (s.side & 1) << 2 | (St0.ABNORMAL if st1 else 0)
        self.answer(st0, st1, st2, s.cylinder, s.head, s.record, n)
        s.interrupt = 1
