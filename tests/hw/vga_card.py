"""A video adapter with a bus in front of it, and what a BIOS does with one: modes, fonts, colours.

The tables are IBM's: PS/2 Hardware Interface Technical Reference, "Video Subsystem", "BIOS mode register values".
"""

from __future__ import annotations

import numpy as np

from hw.bus import PortBus
from hw.mmio import MmioSpace
from hw.pci import PciBuses
from hw.vga import DirectWindow, Vga, VgaState
from hw.vga_memory import VideoMemory
from hw.vga_spec import PAGE_BYTES, VGA_BYTES, ModeTable

FRAMEBUFFER = 4 << 20
STATUS_1 = 0x3DA

MODES = {
    0x03: ModeTable(
        0x67, bytes.fromhex("03 00 03 00 02"),
        bytes.fromhex("5f 4f 50 82 55 81 bf 1f 00 4f 0d 0e 00 00 00 00 9c 8e 8f 28 1f 96 b9 a3 ff"),
        bytes.fromhex("00 00 00 00 00 10 0e 00 ff"),
        bytes.fromhex("00 01 02 03 04 05 14 07 38 39 3a 3b 3c 3d 3e 3f 0c 00 0f 08 00"),
    ),
    0x04: ModeTable(
        0x63, bytes.fromhex("03 09 03 00 02"),
        bytes.fromhex("2d 27 28 90 2b 80 bf 1f 00 c1 00 00 00 00 00 00 9c 8e 8f 14 00 96 b9 a2 ff"),
        bytes.fromhex("00 00 00 00 00 30 0f 00 ff"),
        bytes.fromhex("00 13 15 17 02 04 06 07 10 11 12 13 14 15 16 17 01 00 03 00 00"),
    ),
    0x06: ModeTable(
        0x63, bytes.fromhex("03 01 01 00 06"),
        bytes.fromhex("5f 4f 50 82 54 80 bf 1f 00 c1 00 00 00 00 00 00 9c 8e 8f 28 00 96 b9 c2 ff"),
        bytes.fromhex("00 00 00 00 00 00 0d 00 ff"),
        bytes.fromhex("00 17 17 17 17 17 17 17 17 17 17 17 17 17 17 17 01 00 01 00 00"),
    ),
    0x0D: ModeTable(
        0x63, bytes.fromhex("03 09 0f 00 06"),
        bytes.fromhex("2d 27 28 90 2b 80 bf 1f 00 c0 00 00 00 00 00 00 9c 8e 8f 14 00 96 b9 e3 ff"),
        bytes.fromhex("00 00 00 00 00 00 05 0f ff"),
        bytes.fromhex("00 01 02 03 04 05 06 07 10 11 12 13 14 15 16 17 01 00 0f 00 00"),
    ),
    0x12: ModeTable(
        0xE3, bytes.fromhex("03 01 0f 00 06"),
        bytes.fromhex("5f 4f 50 82 54 80 0b 3e 00 40 00 00 00 00 00 00 ea 8c df 28 00 e7 04 e3 ff"),
        bytes.fromhex("00 00 00 00 00 00 05 0f ff"),
        bytes.fromhex("00 01 02 03 04 05 14 07 38 39 3a 3b 3c 3d 3e 3f 01 00 0f 00 00"),
    ),
    0x13: ModeTable(
        0x63, bytes.fromhex("03 01 0f 00 0e"),
        bytes.fromhex("5f 4f 50 82 54 80 bf 1f 00 41 00 00 00 00 00 00 9c 8e 8f 28 40 96 b9 a3 ff"),
        bytes.fromhex("00 00 00 00 00 40 05 0f ff"),
        bytes.fromhex("00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f 41 00 0f 00 00"),
    ),
}  # fmt: skip


class Clock:
    """A clock that the test sets."""

    now_ns = 0


class Card:
    """The adapter; `windows`, `framebuffers` and `roms` are what it told whoever maps memory."""

    def __init__(
        self, state: VgaState | None = None, store: bytes | None = None, framebuffer: int = FRAMEBUFFER
    ) -> None:
        size = framebuffer + VGA_BYTES
        self.store = bytearray(store) if store is not None else bytearray(size)
        self.dirty = np.zeros(size // PAGE_BYTES, np.uint8)
        self.ports, self.space, self.clock = PortBus(), MmioSpace(), Clock()
        self.windows: list[DirectWindow | None] = []
        self.framebuffers: list[int | None] = []
        self.roms: list[int | None] = []
        memory = VideoMemory(memoryview(self.store), self.dirty)
        self.vga = Vga(state or VgaState(), PciBuses(self.ports, self.space), memory, self.clock, self)
        if state is None:
            self.vga.reset()
        else:
            self.vga.sync()

    # VideoMap

    def set_window(self, window: DirectWindow | None) -> None:
        self.windows.append(window)

    def set_framebuffer(self, base: int | None) -> None:
        self.framebuffers.append(base)

    def set_rom(self, base: int | None) -> None:
        self.roms.append(base)

    # the processor

    def out(self, port: int, value: int, width: int = 1) -> None:
        self.ports.write(port, width, value)

    def inp(self, port: int, width: int = 1) -> int:
        return self.ports.read(port, width)

    def load(self, gpa: int, count: int = 1) -> bytes:
        """Bytes as the processor reads them: directly where that is mapped."""
        return bytes(self._direct(at) if self._is_direct(at) else self.space.read(at, 1) for at in span(gpa, count))

    def store_at(self, gpa: int, data: bytes) -> None:
        for at, byte in zip(span(gpa, len(data)), data, strict=True):
            if self._is_direct(at):
                place = self._place(at)
                self.store[place] = byte
                self.dirty[place // PAGE_BYTES] = 1
            else:
                self.space.write(at, 1, byte)

    def _is_direct(self, gpa: int) -> bool:
        window = self.windows[-1]
        return window is not None and window.first <= gpa < window.first + window.size

    def _place(self, gpa: int) -> int:
        window = self.windows[-1]
        assert window is not None
        return window.offset + gpa - window.first

    def _direct(self, gpa: int) -> int:
        return self.store[self._place(gpa)]

    # a BIOS

    def indexed(self, port: int, index: int, value: int) -> None:
        self.out(port, value << 8 | index, 2)

    def sequencer(self, index: int, value: int) -> None:
        self.indexed(0x3C4, index, value)

    def graphics(self, index: int, value: int) -> None:
        self.indexed(0x3CE, index, value)

    def crt(self, index: int, value: int) -> None:
        self.indexed(0x3D4, index, value)

    def attribute(self, index: int, value: int) -> None:
        self.inp(STATUS_1)
        self.out(0x3C0, index)
        self.out(0x3C0, value)
        self.inp(STATUS_1)
        self.out(0x3C0, 0x20)

    def dispi(self, index: int, value: int) -> None:
        self.out(0x1CE, index, 2)
        self.out(0x1CF, value, 2)

    def dispi_read(self, index: int) -> int:
        self.out(0x1CE, index, 2)
        return self.inp(0x1CF, 2)

    def set_mode(self, table: ModeTable) -> None:
        self.out(0x3C2, table.misc)
        for index, value in enumerate(table.sequencer):
            self.sequencer(index, value)
        self.crt(0x11, 0)
        for index, value in enumerate(table.crt):
            self.crt(index, value)
        for index, value in enumerate(table.graphics):
            self.graphics(index, value)
        for index, value in enumerate(table.attribute):
            self.attribute(index, value)
        self.out(0x3C6, 0xFF)

    def set_linear(self, width: int, height: int, bpp: int, flags: int = 0x41) -> None:
        for index, value in ((4, 0), (1, width), (2, height), (3, bpp), (4, flags)):
            self.dispi(index, value)
        self.inp(STATUS_1)
        self.out(0x3C0, 0x20)

    def colours(self, first: int, values: bytes) -> None:
        self.out(0x3C8, first)
        for value in values:
            self.out(0x3C9, value)

    def begin_font(self) -> None:
        """As a BIOS opens plane 2 to put a font there."""
        for index, value in ((0, 1), (2, 4), (4, 7), (0, 3)):
            self.sequencer(index, value)
        for index, value in ((4, 2), (5, 0), (6, 4)):
            self.graphics(index, value)

    def end_font(self) -> None:
        for index, value in ((0, 1), (2, 3), (4, 3), (0, 3)):
            self.sequencer(index, value)
        for index, value in ((4, 0), (5, 0x10), (6, 0x0E)):
            self.graphics(index, value)

    def load_font(self, glyphs: bytes, lines: int = 16, at: int = 0) -> None:
        self.begin_font()
        for glyph in range(len(glyphs) // lines):
            self.store_at(0xA0000 + at + 32 * glyph, glyphs[lines * glyph : lines * (glyph + 1)])
        self.end_font()


def span(gpa: int, count: int) -> range:
    return range(gpa, gpa + count)
