"""The PC's ways to reset, and to close address line 20: ports 92h and CF9h, and who else may.

Port 92h: bit 0 going to 1 resets the processor; bit 1 opens address line 20. Port CF9h: bit 2 going to 1 resets what
bit 1 then says, 1 the machine, 0 the processor. Both read back. Address line 20 is open while either port 92h or the
keyboard controller opens it. (The keyboard controller's own reset, 64h with FEh, is its device's.)
Not modelled: power cycling by CF9h.
Source: Intel 82371AB (PIIX4) data sheet, "Port 92h" and "RC, reset control register", cited as [ds].
"""

from __future__ import annotations

from ctypes import LittleEndianStructure, c_uint8, sizeof
from enum import IntFlag

from hw.wiring import AddressLine20, ResetSwitch

PORT_92 = 0x92


class Port92(IntFlag):
    """Fast A20 and INIT."""

    FAST_INIT = 1 << 0
    FAST_A20 = 1 << 1


class ResetControl(IntFlag):
    """CF9h."""

    SRST = 1 << 1
    RCPU = 1 << 2


PORT_92_STORED = int(Port92.FAST_INIT | Port92.FAST_A20)
RESET_CONTROL_STORED = int(ResetControl.SRST | ResetControl.RCPU)


class A20Gate:
    """Address line 20 as the processor sees it. `control()` makes one more who can open it; at first all are shut."""

    def __init__(self, processor: AddressLine20) -> None:
        self.processor = processor
        self._open = 0
        self._controls = 0

    def control(self) -> A20Control:
        self._controls += 1
        return A20Control(self, 1 << self._controls)

    def drive(self, source: int, on: bool) -> None:
        self._open = self._open | source if on else self._open & ~source
        self.processor.set_a20(self._open != 0)


class A20Control:
    """One input of the gate."""

    def __init__(self, gate: A20Gate, source: int) -> None:
        self.gate, self._source = gate, source

    def set_a20(self, on: bool) -> None:
        self.gate.drive(self._source, on)


class ResetState(LittleEndianStructure):
    """All guest-visible state."""

    _fields_ = [("port_92", c_uint8), ("reset_control", c_uint8)]


assert sizeof(ResetState) == 2


class FastReset:
    """Port 92h. It shares its state with CF9h, which `control` answers."""

    State = ResetState

    def __init__(self, state: ResetState, a20: AddressLine20, switch: ResetSwitch) -> None:
        self.state, self.a20, self.switch = state, a20, switch
        self.control = HardReset(state, switch)

    def reset(self) -> None:
        self.state.port_92 = self.state.reset_control = 0
        self.sync()

    def port_read(self, offset: int, width: int) -> int:
        return int(self.state.port_92)

    def port_write(self, offset: int, width: int, value: int) -> None:
        rising = value & ~self.state.port_92
        self.state.port_92 = value & PORT_92_STORED
        self.sync()
        if rising & Port92.FAST_INIT:
            self.switch.reset_processor()

    def sync(self) -> None:
        self.a20.set_a20(bool(self.state.port_92 & Port92.FAST_A20))


class HardReset:
    """Port CF9h, as a byte; it lies inside the PCI host's dword, which passes it on."""

    def __init__(self, state: ResetState, switch: ResetSwitch) -> None:
        self.state, self.switch = state, switch

    def port_read(self, offset: int, width: int) -> int:
        return int(self.state.reset_control)

    def port_write(self, offset: int, width: int, value: int) -> None:
        """SRST counts as it is when RCPU goes to 1, in the same write or before. [ds: RC]"""
        rising = value & ~self.state.reset_control
        self.state.reset_control = value & RESET_CONTROL_STORED
        if rising & ResetControl.RCPU:
            if value & ResetControl.SRST:
                self.switch.reset_machine()
            else:
                self.switch.reset_processor()
