"""An ATA channel: the command and control blocks, two drives, INTRQ and DMARQ.

Both drives see every register write; the selected one answers reads and executes commands. Drive 0 answers for an
absent drive 1, with status 00h; a channel without drives floats and reads all ones. INTRQ is edge-triggered on a PC, so
a command lowers it before anything can raise it again.
Source: ATA/ATAPI-6 (T13 1410D), registers and protocols, cited as [ata].
"""

from __future__ import annotations

from ctypes import LittleEndianStructure, c_uint8, sizeof
from typing import Protocol

from hw.ide.ata_spec import Command, Control, Device, Reg
from hw.ide.drive import BSY, DMA_IN, Drive, DriveState
from hw.wiring import IrqLine

DEV, N_IEN, SRST, HOB = int(Device.DEV), int(Control.N_IEN), int(Control.SRST), int(Control.HOB)
DATA, DEVICE, STATUS_COMMAND = int(Reg.DATA), int(Reg.DEVICE), int(Reg.STATUS_COMMAND)
ONES = (0, 0xFF, 0xFFFF, 0xFFFFFF, 0xFFFFFFFF)


class BusMaster(Protocol):
    """What moves the channel's data by DMA."""

    def requested(self) -> None:
        """DMARQ: a drive wants to move data."""

    def interrupted(self) -> None:
        """INTRQ has gone up."""


class ChannelState(LittleEndianStructure):
    """All guest-visible state of a channel and its drives. An absent drive's part is unused."""

    _fields_ = [
        ("control", c_uint8),
        ("selected", c_uint8),
        ("line", c_uint8),
        ("reserved", c_uint8 * 5),
        ("drives", DriveState * 2),
    ]


assert sizeof(ChannelState) == 8 + 2 * sizeof(DriveState)


class Channel:
    """One channel. `attach` its drives before power-on; a bus master sets itself as `master`."""

    State = ChannelState

    def __init__(self, state: ChannelState, irq: IrqLine) -> None:
        self.state, self.irq = state, irq
        self.drives: list[Drive | None] = [None, None]
        self.control_block = ControlBlock(self)
        self.master: BusMaster | None = None

    def attach(self, number: int, drive: Drive) -> None:
        """Plug a drive in, made over `state.drives[number]` with this channel as its cable."""
        assert self.drives[number] is None, f"two drives {number} on one channel"
        self.drives[number] = drive

    def reset(self) -> None:
        """RESET#."""
        s = self.state
        s.control = s.selected = s.line = 0
        for drive in self.drives:
            if drive is not None:
                drive.reset()
        self.sync()

    # from the guest: command block

    def port_read(self, offset: int, width: int) -> int:
        drive = self._answering()
        if drive is None:
            return ONES[width]
        if offset != DATA:
            return self._bytes(offset, width)
        if self._absent():
            return ONES[width]
        value = drive.read_data(width)
        self._moved(drive)
        return value

    def port_write(self, offset: int, width: int, value: int) -> None:
        if offset != DATA:
            for index in range(width):
                self._write(offset + index, value >> 8 * index & 0xFF)
            return
        drive = self._selected()
        if drive is not None:
            drive.write_data(width, value)
            self._moved(drive)

    def read_units(self, offset: int, width: int, count: int) -> bytes | None:
        """All but the last unit at once: that one may end the DRQ block, with all that follows from it."""
        drive = self._selected()
        if offset != DATA or drive is None or (units := drive.read_units((count - 1) * width)) is None:
            return None
        return units.tobytes() + self.port_read(DATA, width).to_bytes(width, "little")

    def write_units(self, offset: int, width: int, units: bytes) -> bool:
        drive = self._selected()
        if offset != DATA or drive is None or not drive.write_units(units[:-width]):
            return False
        self.port_write(DATA, width, int.from_bytes(units[-width:], "little"))
        return True

    # from the guest: control block

    def alternate_status(self) -> int:
        """Status without ending INTRQ."""
        if self._answering() is None:
            return 0xFF
        return 0 if (drive := self._selected()) is None else int(drive.state.status)

    def control_written(self, value: int) -> None:
        """SRST holds both drives busy; when it falls they are as after a reset. [ata: software reset]"""
        s = self.state
        was, s.control = s.control, value
        for drive in self.drives:
            if drive is not None and value & SRST:
                drive.soft_reset()
                drive.state.status = BSY
            elif drive is not None and was & SRST:
                drive.soft_reset()
        if (was | value) & SRST:
            s.selected = 0
        self.sync()

    # from the drives and the bus master

    def interrupted(self) -> None:
        """A drive raised INTRQ; `sync` shows it at the end of the access."""

    def went_on(self, drive: Drive) -> None:
        """A drive that was held has gone on, or given up."""
        if drive is self._selected():
            self._moved(drive)

    def dma_wanted(self) -> int:
        """Bytes that the selected drive has to move by DMA."""
        drive = self._selected()
        return 0 if drive is None else drive.dma_wanted()

    def dma_to_memory(self) -> bool:
        drive = self._selected()
        return drive is not None and drive.state.phase == DMA_IN

    def dma(self, views: list[memoryview], length: int) -> None:
        """Move `length` bytes, at most what is wanted."""
        if (drive := self._selected()) is not None:
            drive.dma(views, length)

    def is_held(self) -> bool:
        """Does the selected drive keep the bus master waiting for storage?"""
        return (drive := self._selected()) is not None and drive.is_held

    def dma_failed(self) -> None:
        if (drive := self._selected()) is not None:
            drive.dma_failed()

    # inside

    def _selected(self) -> Drive | None:
        return self.drives[self.state.selected & 1]

    def _absent(self) -> bool:
        return self.drives[self.state.selected & 1] is None

    def _answering(self) -> Drive | None:
        drive = self.drives[self.state.selected & 1]
        return drive if drive is not None else self.drives[0]

    def _bytes(self, offset: int, width: int) -> int:
        value = 0
        for index in range(width):
            value |= self._read(offset + index) << 8 * index
        return value

    def _read(self, offset: int) -> int:
        s = self.state
        drive = self._answering()
        if drive is None:
            return 0xFF
        if offset == DATA:
            return drive.read_data(1)
        if offset == STATUS_COMMAND:
            if self._absent():
                return 0
            drive.state.intrq = 0
            if s.line:
                self.sync()
        value = drive.read_register(offset, 1 if s.control & HOB else 0)
        return value & ~DEV | (s.selected & 1) << 4 if offset == DEVICE else value

    def _write(self, offset: int, value: int) -> None:
        """Writing the command block clears HOB. [ata: Device Control register]"""
        s = self.state
        s.control &= ~HOB & 0xFF
        if offset == STATUS_COMMAND:
            self._command(value)
            return
        if offset == DEVICE:
            s.selected = 1 if value & DEV else 0
        for drive in self.drives:
            if drive is not None and not drive.state.status & BSY:
                drive.write_register(offset, value)
        if offset == DEVICE:
            self.sync()
            if (drive := self._selected()) is not None and drive.state.status & BSY:
                self._moved(drive)  # it may have gone on while the other one was selected

    def _command(self, command: int) -> None:
        """A busy drive takes no command but DEVICE RESET; the diagnosis is for both drives."""
        if command == Command.DIAGNOSE:
            self._diagnose()
            return
        drive = self._selected()
        if drive is None or self.state.control & SRST:
            return
        if drive.state.status & BSY and command != Command.DEVICE_RESET:
            return
        drive.state.intrq = 0
        self.sync()
        drive.execute(command)
        self._moved(drive)

    def _diagnose(self) -> None:
        """Drive 0 reports for both and interrupts."""
        self.state.selected = 0
        for drive in self.drives:
            if drive is not None:
                drive.soft_reset()
        self.sync()
        if (first := self.drives[0]) is not None:
            first.interrupt()
            self.sync()

    def _moved(self, drive: Drive) -> None:
        """After what may have raised INTRQ or DMARQ."""
        if drive.state.intrq and not self.state.line:
            self.sync()
        if drive.state.status & BSY and self.master is not None:
            self.master.requested()
            self.sync()

    def sync(self) -> None:
        """INTRQ is the selected drive's, while nIEN allows it."""
        s = self.state
        drive = self._selected()
        level = drive is not None and bool(drive.state.intrq) and not s.control & N_IEN
        rising = level and not s.line
        s.line = level
        self.irq.set_level(level)
        if rising and self.master is not None:
            self.master.interrupted()


class ControlBlock:
    """The channel's port 3F6h or 376h."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    def port_read(self, offset: int, width: int) -> int:
        return self.channel.alternate_status()

    def port_write(self, offset: int, width: int, value: int) -> None:
        self.channel.control_written(value)
