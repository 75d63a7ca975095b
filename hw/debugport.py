"""Two ports that no PC has: the firmware's debug port 402h and the exit port F4h.

402h: a byte written appears in a log; reading gives E9h, by which firmware knows that someone listens.
F4h: a byte written ends the run with that status. Both are ignored where they are absent.
Source: SeaBIOS, "Debugging", CONFIG_DEBUG_IO; isa-debug-exit as used by test guests.
"""

from __future__ import annotations

from hw.wiring import ByteSink, PowerSwitch

DEBUG_PORT = 0x402
DEBUG_PRESENT = 0xE9
EXIT_PORT = 0xF4


class DebugPort:
    """Port 402h. Stateless."""

    def __init__(self, sink: ByteSink) -> None:
        self.sink = sink

    def port_read(self, offset: int, width: int) -> int:
        return DEBUG_PRESENT

    def port_write(self, offset: int, width: int, value: int) -> None:
        self.sink(value)


class ExitPort:
    """Port F4h. Stateless; reads as an absent port."""

    def __init__(self, power: PowerSwitch) -> None:
        self.power = power

    def port_read(self, offset: int, width: int) -> int:
        return 0xFF

    def port_write(self, offset: int, width: int, value: int) -> None:
        self.power.exit_with(value)
