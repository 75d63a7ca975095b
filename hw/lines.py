"""Interrupt inputs that several outputs drive: wired-OR, as on the board."""

from __future__ import annotations

from hw.wiring import IrqLine


class SharedLine:
    """One input of the interrupt controllers. Each `input()` is a level of its own; the line is high while any is."""

    def __init__(self, line: IrqLine) -> None:
        self.line = line
        self._high = 0
        self._inputs = 0
        self._connected = True

    def input(self) -> IrqLine:
        """One more output to connect; low at first."""
        self._inputs += 1
        return SharedInput(self, 1 << self._inputs)

    def drive(self, source: int, level: bool) -> None:
        high = self._high | source if level else self._high & ~source
        if high == self._high:
            return
        self._high = high
        if self._connected:
            self.line.set_level(high != 0)

    def disconnect(self) -> None:
        """Until `connect` the controllers keep the level they know: outputs are set anew one by one."""
        self._connected = False

    def connect(self) -> None:
        self._connected = True
        self.line.set_level(self._high != 0)


class SharedInput:
    """One output's connection to a shared line."""

    def __init__(self, line: SharedLine, source: int) -> None:
        self.line, self._source = line, source

    def set_level(self, level: bool) -> None:
        self.line.drive(self._source, level)
