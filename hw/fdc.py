"""Intel 82077AA floppy disk controller of a PC/AT, with up to four drives.

A command takes no time, so RQM never has to be waited for and seeks are over when they begin. Data moves by DMA
channel 2 as far as the channel lets it; without DMA a sector at a time waits in the data register.
A drive without a diskette gives MISSING ADDRESS MARK, where the chip would wait for an index pulse for ever.
Not modelled: SCAN commands (invalid), deleted data (WRITE DELETED DATA writes ordinary sectors, READ DELETED DATA finds
none), other sector sizes than 512, precompensation, power-down, status registers A and B (undriven in AT mode).
Source: Intel 82077AA data sheet, cited as [ds].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hw.fdc_data import COMMAND, EXECUTION, IDLE, RESULT, WRITES, DataPath, DmaChannels, FdcState
from hw.fdc_spec import (
    COMMANDS,
    DIR_UNDRIVEN,
    DRIVES,
    DSKCHG,
    FIFO_BYTES,
    FORMS,
    LOCK_BIT,
    NON_DMA,
    PERPENDICULAR_DRIVES,
    PERPENDICULAR_MODE,
    PERPENDICULAR_OW,
    RATE_RESET,
    STEP_IN,
    STEPS_MAX,
    TDR_TAPE,
    UNDRIVEN,
    VERSION_ENHANCED,
    Configure,
    Dor,
    Dsr,
    Msr,
    Offset,
    Op,
    St0,
    St3,
)
from hw.floppy_drive import Diskette, FloppyDrive
from hw.wiring import IrqLine


class Fdc:
    """The controller. `self` goes on the bus at 3F0h, `rate_port` at 3F7h; `insert` and `remove` are the host's."""

    State = FdcState

    def __init__(
        self, state: FdcState, irq: IrqLine, dma: DmaChannels, channel: int, drives: Sequence[Diskette | None] = (None,)
    ) -> None:
        """Wire only. `drives`: one entry for each drive that there is, with its diskette or None."""
        self.state, self.irq, self.dma, self.channel = state, irq, dma, channel
        self.drives = [FloppyDrive(state.drives[unit], diskette) for unit, diskette in enumerate(drives)]
        self.data = DataPath(state, irq, dma, channel, self.drives)
        self.rate_port = RatePort(self)
        self._handlers: dict[Op, Callable[[], None]] = {
            Op.READ_TRACK: self.data.read_track,
            Op.SPECIFY: self.specify,
            Op.SENSE_DRIVE: self.sense_drive,
            Op.WRITE: self.data.transfer,
            Op.READ: self.data.transfer,
            Op.RECALIBRATE: self.recalibrate,
            Op.SENSE_INTERRUPT: self.sense_interrupt,
            Op.WRITE_DELETED: self.data.transfer,
            Op.READ_ID: self.data.read_id,
            Op.READ_DELETED: self.data.read_deleted,
            Op.FORMAT: self.data.format_track,
            Op.DUMPREG: self.dumpreg,
            Op.SEEK: self.seek,
            Op.VERSION: lambda: self.data.answer(VERSION_ENHANCED),
            Op.PERPENDICULAR: self.perpendicular,
            Op.CONFIGURE: self.configure,
            Op.LOCK: self.lock,
            Op.VERIFY: self.data.verify,
            Op.RELATIVE_SEEK: self.relative_seek,
        }
        assert self._handlers.keys() == FORMS.keys()

    def reset(self) -> None:
        """RESET#. The controller is then held in reset by DOR. [ds: reset pin]"""
        s = self.state
        s.dor = s.tdr = s.srt_hut = s.hlt_nd = s.locked = s.perpendicular = s.eot = 0
        s.rate = int(RATE_RESET)
        self._soft_reset()
        for drive in self.drives:
            drive.reset()
        self.sync()

    # from the guest

    def port_read(self, offset: int, width: int) -> int:
        s = self.state
        if offset == Offset.FIFO:
            return self.read_fifo()
        if offset == Offset.MSR_DSR:
            return self.read_msr()
        if offset == Offset.DOR:
            return int(s.dor)
        return s.tdr | UNDRIVEN & ~TDR_TAPE if offset == Offset.TDR else UNDRIVEN

    def port_write(self, offset: int, width: int, value: int) -> None:
        if offset == Offset.FIFO:
            self.write_fifo(value)
        elif offset == Offset.MSR_DSR:
            self.write_dsr(value)
        elif offset == Offset.DOR:
            self.write_dor(value)
        elif offset == Offset.TDR:
            self.state.tdr = value & TDR_TAPE
        self.sync()

    def read_dir(self) -> int:
        """The selected drive's change line; the other bits are not driven in AT mode. [ds: DIR]"""
        unit = self.state.dor & Dor.SELECT
        changed = unit < len(self.drives) and self.drives[unit].state.changed
        return DIR_UNDRIVEN | (DSKCHG if changed else 0)

    # from the host and from the DMA controller

    def insert(self, unit: int, diskette: Diskette) -> None:
        self.drives[unit].insert(diskette)

    def remove(self, unit: int) -> None:
        self.drives[unit].remove()

    def channel_opened(self) -> None:
        """The DMA channel has begun to serve a request that waited."""
        self.data.run()
        self.sync()

    # register handlers

    def read_msr(self) -> int:
        """Nothing is ready while the chip is held in reset."""
        s = self.state
        if not s.dor & Dor.NOT_RESET:
            return 0
        if s.phase == EXECUTION:
            if not s.hlt_nd & NON_DMA:
                return int(Msr.BUSY)
            return Msr.RQM | Msr.NON_DMA | Msr.BUSY | (0 if self.data.op() in WRITES else Msr.DIO)
        if s.phase == RESULT:
            return Msr.RQM | Msr.DIO | Msr.BUSY
        return Msr.RQM | (Msr.BUSY if s.phase == COMMAND else 0)

    def write_dor(self, value: int) -> None:
        """Leaving reset, the chip polls its drives and finds each newly ready. [ds: drive polling]"""
        s = self.state
        was, s.dor = s.dor, value
        if not value & Dor.NOT_RESET:
            self._soft_reset()
        elif not was & Dor.NOT_RESET:
            self._poll()
        else:
            self.data.run()  # the gate may have been opened

    def write_dsr(self, value: int) -> None:
        s = self.state
        s.rate = value & Dsr.RATE
        if value & Dsr.RESET:
            self._soft_reset()
            if s.dor & Dor.NOT_RESET:
                self._poll()

    def write_ccr(self, value: int) -> None:
        self.state.rate = value & Dsr.RATE

    def read_fifo(self) -> int:
        """A byte of the result, or of a sector that is read without DMA."""
        s = self.state
        if s.phase == EXECUTION and s.hlt_nd & NON_DMA and self.data.op() not in WRITES:
            value = self.data.take_byte()
            self.sync()
            return value
        if s.phase != RESULT:
            return UNDRIVEN
        value = int(s.fifo[s.taken % FIFO_BYTES])
        s.interrupt = 0  # reading the first byte lowers INT
        s.taken += 1
        if s.taken >= s.length:
            s.phase = IDLE
            s.interrupt = bool(s.seeks)
        self.sync()
        return value

    def write_fifo(self, value: int) -> None:
        """A byte of a command, or of a sector that is written without DMA."""
        s = self.state
        if not s.dor & Dor.NOT_RESET:
            return
        if s.phase == EXECUTION and s.hlt_nd & NON_DMA and self.data.op() in WRITES:
            self.data.give_byte(value)
        elif s.phase in {IDLE, COMMAND}:
            self._command_byte(value)

    def _command_byte(self, value: int) -> None:
        s = self.state
        if s.phase == IDLE:
            if value not in COMMANDS:
                self.data.answer(int(St0.INVALID))
                return
            s.phase, s.taken, s.length = COMMAND, 0, FORMS[COMMANDS[value]].length
        s.fifo[s.taken % FIFO_BYTES] = value
        s.taken += 1
        if s.taken >= s.length:
            s.phase = IDLE
            self._handlers[self.data.op()]()

    # commands without a result, or with one at once

    def specify(self) -> None:
        self.state.srt_hut, self.state.hlt_nd = self.state.fifo[1], self.state.fifo[2]

    def configure(self) -> None:
        self.state.config, self.state.pretrk = self.state.fifo[2] & 0x7F, self.state.fifo[3]

    def perpendicular(self) -> None:
        """The drives' bits change only with OW. [ds: perpendicular mode]"""
        s, value = self.state, self.state.fifo[1]
        drives = value if value & PERPENDICULAR_OW else s.perpendicular
        s.perpendicular = drives & PERPENDICULAR_DRIVES | value & PERPENDICULAR_MODE

    def lock(self) -> None:
        self.state.locked = bool(self.state.fifo[0] & LOCK_BIT)
        self.data.answer(self.state.locked << 4)

    def dumpreg(self) -> None:
        s = self.state
        self.data.answer(*(drive.pcn for drive in s.drives), s.srt_hut, s.hlt_nd, s.eot,
                     s.locked << 7 | s.perpendicular, s.config, s.pretrk)  # fmt: skip

    def sense_drive(self) -> None:
        s, drive = self.state, self.data.drive()
        status = s.fifo[1] & 7 | St3.READY | St3.TWO_SIDED
        if drive is not None:
            status |= (St3.WRITE_PROTECTED if drive.write_protected else 0) | (0 if drive.state.track else St3.TRACK_0)
        self.data.answer(status)

    def sense_interrupt(self) -> None:
        """Why INT is up, and PCN; invalid when it is not. [ds: sense interrupt status]"""
        s = self.state
        s.interrupt = 0
        self.sync()  # INT falls before another drive's seek raises it again
        if s.polls:
            unit = DRIVES - min(s.polls, DRIVES)
            s.polls -= 1
            self.data.answer(St0.POLLING | unit, s.drives[unit].pcn)
        elif s.seeks & 0xF:
            unit = next(unit for unit in range(DRIVES) if s.seeks >> unit & 1)
            s.seeks &= ~(1 << unit)
            self.data.answer(s.drives[unit].seek_st0, s.drives[unit].pcn)
        else:
            self.data.answer(int(St0.INVALID))

    # seeks

    def recalibrate(self) -> None:
        """Out until track 0 is sensed; 79 steps that do not reach it are an equipment check. [ds: recalibrate]"""
        drive = self.data.drive()
        found = False
        if drive is not None:
            found = drive.state.track <= STEPS_MAX
            drive.step(-min(drive.state.track, STEPS_MAX))
        self._seek_ended(0, 0 if found else int(St0.ABNORMAL | St0.EQUIPMENT_CHECK))

    def seek(self) -> None:
        """As many steps as the new cylinder number is away from PCN, whether or not a drive is there."""
        target = self.state.fifo[2]
        self.data.step(target - self.data.kept().pcn)
        self._seek_ended(target)

    def relative_seek(self) -> None:
        count = self.state.fifo[2]
        steps = count if self.state.fifo[0] & STEP_IN else -count
        self.data.step(steps)
        self._seek_ended(self.data.kept().pcn + steps & 0xFF)

    def _seek_ended(self, pcn: int, failure: int = 0) -> None:
        s, unit, kept = self.state, self.data.unit(), self.data.kept()
        kept.pcn, kept.seek_st0 = pcn, St0.SEEK_END | failure | unit
        s.seeks |= 1 << unit
        s.polls = 0
        s.interrupt = 1

    # inside

    def _soft_reset(self) -> None:
        """By DOR or DSR. LOCK keeps FIFO, threshold and precompensation track. [ds: lock]"""
        s = self.state
        s.phase = IDLE
        s.taken = s.length = s.interrupt = s.polls = s.seeks = s.position = s.sectors = 0
        s.perpendicular &= PERPENDICULAR_DRIVES
        s.config = s.config & (Configure.FIFO_OFF | Configure.THRESHOLD) if s.locked else int(Configure.FIFO_OFF)
        if not s.locked:
            s.pretrk = 0
        for drive in s.drives:
            drive.pcn = 0

    def _poll(self) -> None:
        s = self.state
        if not s.config & Configure.POLL_OFF:
            s.polls, s.interrupt = DRIVES, 1

    def sync(self) -> None:
        """INT and DRQ reach the bus through the gate that DOR opens."""
        s = self.state
        gate = s.dor & Dor.DMA_GATE and s.dor & Dor.NOT_RESET
        moving = s.phase == EXECUTION
        by_hand = moving and s.hlt_nd & NON_DMA
        self.irq.set_level(bool(gate and (s.interrupt or by_hand)))
        self.dma.request(self.channel, bool(gate and moving and not by_hand))


class RatePort:
    """Port 3F7h: DIR and CCR."""

    def __init__(self, fdc: Fdc) -> None:
        self.fdc = fdc

    def port_read(self, offset: int, width: int) -> int:
        return self.fdc.read_dir()

    def port_write(self, offset: int, width: int, value: int) -> None:
        self.fdc.write_ccr(value)
