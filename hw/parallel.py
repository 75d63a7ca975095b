"""A PC parallel port with a printer, or with nothing connected.

A byte leaves at the rising edge of STROBE and is acknowledged at once; that interrupt stays until status is read. BUSY
says that the printer would have a guest wait.
Not modelled: EPP and ECP, a device that sends (with INPUT set, data reads all ones).
Source: IBM PS/2 Hardware Interface Technical Reference, "Parallel port controller".
"""

from __future__ import annotations

from ctypes import LittleEndianStructure, c_uint8, sizeof

from hw.parallel_spec import CONTROL_ONES, CONTROL_STORED, NOTHING_CONNECTED, READY, Control, Offset, Status
from hw.wiring import IrqLine, Printer


class ParallelState(LittleEndianStructure):
    """All guest-visible state."""

    _fields_ = [("data", c_uint8), ("control", c_uint8), ("acknowledged", c_uint8), ("reserved", c_uint8)]


assert sizeof(ParallelState) == 4


class Parallel:
    """One port. `printer` takes the bytes; None: nothing is connected. It may change at any time."""

    State = ParallelState

    def __init__(self, state: ParallelState, irq: IrqLine, printer: Printer | None = None) -> None:
        self.state, self.irq, self.printer = state, irq, printer

    def reset(self) -> None:
        s = self.state
        s.data = s.acknowledged = 0
        s.control = 0
        self.sync()

    def port_read(self, offset: int, width: int) -> int:
        s = self.state
        if offset == Offset.DATA:
            return 0xFF if s.control & Control.INPUT else int(s.data)
        if offset == Offset.CONTROL:
            return s.control | CONTROL_ONES
        status = int(READY if self.printer is not None else NOTHING_CONNECTED)
        if self.printer is not None and self.printer.is_busy():
            status &= ~int(Status.NOT_BUSY)
        if not s.acknowledged:
            return status | Status.NOT_IRQ
        s.acknowledged = 0
        self.sync()
        return status

    def port_write(self, offset: int, width: int, value: int) -> None:
        s = self.state
        if offset == Offset.DATA:
            s.data = value
        elif offset == Offset.CONTROL:
            was, s.control = s.control, value & CONTROL_STORED
            if value & ~was & Control.STROBE:
                self._strobe()
            self.sync()

    def _strobe(self) -> None:
        """The interrupt falls first, so that every byte makes an edge of its own."""
        s = self.state
        if self.printer is None:
            return
        s.acknowledged = 0
        self.sync()
        self.printer(int(s.data))
        s.acknowledged = 1

    def sync(self) -> None:
        s = self.state
        self.irq.set_level(bool(s.acknowledged and s.control & Control.IRQ_ENABLE))
