"""The machine's screen as a picture: size, dots, text, and what has changed.

Everything here is called under the machine's lock. Stores that a guest makes directly to video memory set a byte per
page; one `DirtyLog` takes these bytes for all that look at the screen, so several can ask what changed since they asked
last. What is reported may have changed no dot; what is not reported has changed none, given that `changes` is called
before `render`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from hw.vga import Vga
from hw.vga_dispi_spec import Enable, Index
from hw.vga_memory import HALF, STRIDE, Layout
from hw.vga_spec import PAGE_BYTES, VGA_BYTES
from vmx.picture_graphics import draw_bytes, draw_interleaved, draw_linear, draw_linear_planar, draw_planar
from vmx.picture_scan import Addresses, Kind, Pixels, cell_addresses, is_blank, kind_of, scan_of, size_of
from vmx.picture_text import TextScreen, cursor_lines, draw_text, text_screen

Rectangle = tuple[int, int, int, int]  # x, y, width, height

DRAW: dict[Kind, Callable[[Vga], Pixels]] = {
    Kind.TEXT: draw_text, Kind.PLANAR: draw_planar, Kind.INTERLEAVED: draw_interleaved, Kind.BYTES: draw_bytes,
    Kind.LINEAR: draw_linear, Kind.LINEAR_PLANAR: draw_linear_planar,
}  # fmt: skip
CURSOR_REGISTERS = (0x0A, 0x0B, 0x0E, 0x0F)
FONT_PAGES = VGA_BYTES // PAGE_BYTES // 2  # planes 2 and 3, in PAIRS, begin with this page


class DirtyLog:
    """Which page of video memory was last stored to when. `dirty` is the guest's: a byte per page."""

    def __init__(self, dirty: npt.NDArray[np.uint8]) -> None:
        self.now = 0
        self._dirty, self._stored = dirty, np.zeros(len(dirty), np.uint64)

    def collect(self) -> None:
        """Take what the guest has marked. A store that comes in between is seen this time, and reported next time."""
        pages = np.flatnonzero(self._dirty)
        self._dirty[pages] = 0
        self.now += 1
        self._stored[pages] = self.now

    def since(self, when: int) -> npt.NDArray[np.bool_]:
        return self._stored > when


class Picture:
    """One viewer's screen. Viewers of one machine share its `log`."""

    def __init__(self, vga: Vga, log: DirtyLog) -> None:
        self.vga, self.log = vga, log
        self._when = 0
        self._registers = b""
        self._text: TextScreen | None = None
        self._cursor_lines: tuple[int, int] | None = None

    def size(self) -> tuple[int, int]:
        """Width and height in dots."""
        return size_of(self.vga)

    def render(self) -> Pixels:
        """The screen now: (height, width, 3), red first."""
        kind = kind_of(self.vga)
        if kind is Kind.NONE or is_blank(self.vga.state):
            width, height = self.size()
            return np.zeros((height, width, 3), np.uint8)
        return DRAW[kind](self.vga)

    def text(self) -> TextScreen | None:
        """The characters, in a text mode."""
        return text_screen(self.vga) if kind_of(self.vga) is Kind.TEXT else None

    def text_lines(self) -> list[str] | None:
        """The rows of characters, to their full width; None in a graphics mode."""
        text = self.text()
        return text.lines() if text is not None else None

    def changes(self) -> list[Rectangle]:
        """What may look different since the last call; the whole screen at first, and when a register has changed."""
        self.log.collect()
        pages = self.log.since(self._when)
        self._when = self.log.now
        registers, before = registers_of(self.vga), self._registers
        self._registers = registers
        kind = kind_of(self.vga)
        text, lines = (self.text(), cursor_lines(self.vga.state)) if kind is Kind.TEXT else (None, None)
        old_text, self._text = self._text, text
        old_lines, self._cursor_lines = self._cursor_lines, lines
        width, height = self.size()
        if registers != before:
            return [(0, 0, width, height)]
        if kind is Kind.NONE or is_blank(self.vga.state):
            return []
        if text is None or old_text is None:
            return runs(self._stored_lines(kind, pages), width)
        fonts = pages[self.vga.memory.framebuffer_bytes // PAGE_BYTES :]
        if (fonts if self.vga.state.layout & 1 == Layout.QUADS else fonts[FONT_PAGES:]).any():
            return [(0, 0, width, height)]
        return self._changed_cells(text, old_text, lines != old_lines)

    def _changed_cells(self, text: TextScreen, before: TextScreen, cursor_looks_different: bool) -> list[Rectangle]:
        """A rectangle for each row of characters in which some are other ones, or the cursor has come or gone."""
        different = (text.codes != before.codes) | (text.attributes != before.attributes)
        if text.cursor != before.cursor or cursor_looks_different:
            for cursor in (text.cursor, before.cursor):
                if cursor is not None:
                    different[cursor[1], cursor[0]] = True
        if not different.any():
            return []
        scan = scan_of(self.vga.state, Kind.TEXT)
        ends = [*scan.rows[1:].tolist(), scan.height]
        panned = bool(self.vga.state.attribute[0x13] & 7)
        found: list[Rectangle] = []
        for row in np.flatnonzero(different.any(axis=1)).tolist():
            columns = np.flatnonzero(different[row])
            first, last = (0, scan.columns - 1) if panned else (int(columns[0]), int(columns[-1]))
            top = int(scan.rows[row])
            found.append((first * scan.dots, top, (last - first + 1) * scan.dots, ends[row] - top))
        return found

    def _stored_lines(self, kind: Kind, pages: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """For each line of a graphics mode, whether a page of it has been stored to."""
        counts = np.concatenate(([0], np.cumsum(pages)))
        s, dispi = self.vga.state, self.vga.dispi
        if kind in {Kind.LINEAR, Kind.LINEAR_PLANAR}:
            first = dispi.start + np.arange(self.size()[1], dtype=np.int64) * dispi.pitch
            return between(counts, first, first + dispi.pitch - 1)
        scan = scan_of(s, kind)
        addresses = cell_addresses(s, scan, extra=1)
        low, high = addresses.min(axis=1), addresses.max(axis=1)
        layout, base = Layout(s.layout & 1), self.vga.memory.framebuffer_bytes
        first, last = base + low * STRIDE[layout], base + (high + 1) * STRIDE[layout] - 1
        stored = between(counts, first, last)
        return stored | between(counts, first + HALF, last + HALF) if layout is Layout.PAIRS else stored


def registers_of(vga: Vga) -> bytes:
    """Every register that decides how memory looks, apart from the text cursor's."""
    s = vga.state
    crt, dispi = bytearray(s.crt), list(s.dispi.register)
    for index in CURSOR_REGISTERS:
        crt[index] = 0
    dispi[Index.BANK] = dispi[Index.ID] = 0
    dispi[Index.ENABLE] &= ~int(Enable.GETCAPS)
    parts = (
        bytes((s.sequencer[1], s.sequencer[3], s.graphics[5] & 0x60, s.graphics[6] & 1, s.dac_mask, s.layout)),
        bytes((s.attribute_index & 0x20,)), crt, bytes(s.attribute), bytes(s.palette), repr(dispi).encode(),
    )  # fmt: skip
    return b"".join(parts)


def between(counts: Addresses, first: Addresses, last: Addresses) -> npt.NDArray[np.bool_]:
    """Is some page between these bytes set? `counts[n]` is how many of the first n pages are."""
    return counts[last // PAGE_BYTES + 1] > counts[first // PAGE_BYTES]


def runs(lines: npt.NDArray[np.bool_], width: int) -> list[Rectangle]:
    """Rectangles of the screen's width over the lines that are set."""
    edges = np.flatnonzero(np.diff(lines.astype(np.int8), prepend=0, append=0))
    return [(0, int(top), width, int(end - top)) for top, end in zip(edges[::2], edges[1::2], strict=True)]
