"""Interrupt inputs that several outputs drive: wired-OR, as on the board."""

from __future__ import annotations

from hw.wiring import IrqLine


class SharedLine:
    """One input of the interrupt controllers. Each `input()` is a level of its own; the line is high while any is."""

    def __init__(self, line: IrqLine) -> None:
        self.line = line
        self._high = 0
        self._inputs = 0

    def input(self) -> IrqLine:
        """One more output to connect; low at first."""
        self._inputs += 1
        return SharedInput(self, 1 << self._inputs)

    def drive(self, source: int, level: bool) -> None:
        self._high = self._high | source if level else self._high & ~source
        self.line.set_level(self._high != 0)


class SharedInput:
    """One output's connection to a shared line."""

    def __init__(self, line: SharedLine, source: int) -> None:
        self.line, self._source = line, source

    def set_level(self, level: bool) -> None:
        self.line.drive(self._source, level)
