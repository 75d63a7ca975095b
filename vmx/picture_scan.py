"""What the video adapter's registers say about the screen: kind of mode, size, where scan lines come from, colours.

Addresses are the CRT controller's: offsets in each of the four planes (hw/vga_memory.py says how these lie in memory).
Source: IBM PS/2 Hardware Interface Technical Reference, "Video Subsystem", "CRT Controller Registers", "Attribute
Controller Registers".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from hw.vga import Vga, VgaState
from hw.vga_dispi_spec import Index
from hw.vga_memory import HALF, Layout
from hw.vga_spec import PALETTE_ON, PLANE_BYTES, PLANES, Attr10, Crt7, Crt9, Crt17, Gr5, Gr6, Seq1

Pixels = npt.NDArray[np.uint8]
Addresses = npt.NDArray[np.int64]

NO_MODE_SIZE = (720, 400)  # shown black until a mode is set
ADDRESS_MASK = PLANE_BYTES - 1
ROW_SCAN = 0x1F
BYTE_PAN_SHIFT = 5
PAN = 0xF
PAN_NONE_OF_9 = 8


class Kind(Enum):
    """How bytes become dots."""

    NONE = "none"
    TEXT = "text"
    PLANAR = "planar"  # a bit per plane
    INTERLEAVED = "interleaved"  # two bits per byte of two planes, as on a CGA
    BYTES = "bytes"  # 256 colours
    LINEAR = "linear"  # a DISPI mode with a framebuffer
    LINEAR_PLANAR = "linear planar"  # a DISPI mode of 16 colours


@dataclass(frozen=True, slots=True)
class Scan:
    """The scan lines of a VGA mode, from the top.

    `address` is each line's first, `row` its row scan counter, `split` the first line of the lower screen (or the
    height). `rows` are the lines where a row of characters begins.
    """

    columns: int
    dots: int  # of a character, as shown
    address: Addresses
    row: Addresses
    split: int
    rows: Addresses

    @property
    def height(self) -> int:
        return len(self.address)

    @property
    def width(self) -> int:
        return self.columns * self.dots


def kind_of(vga: Vga) -> Kind:
    s = vga.state
    if vga.dispi.enabled:
        return Kind.LINEAR_PLANAR if vga.dispi.is_planar else Kind.LINEAR
    if not s.crt[1] or not display_end(s):
        return Kind.NONE
    if not s.graphics[6] & Gr6.GRAPHICS:
        return Kind.TEXT
    if s.graphics[5] & Gr5.SHIFT_256:
        return Kind.BYTES
    return Kind.INTERLEAVED if s.graphics[5] & Gr5.SHIFT_INTERLEAVE else Kind.PLANAR


def size_of(vga: Vga) -> tuple[int, int]:
    """Width and height in dots."""
    kind = kind_of(vga)
    if kind in {Kind.LINEAR, Kind.LINEAR_PLANAR}:
        register = vga.dispi.state.register
        return int(register[Index.XRES]), int(register[Index.YRES])
    if kind is Kind.NONE:
        return NO_MODE_SIZE
    return (vga.state.crt[1] + 1) * dots_of(vga.state, kind), display_end(vga.state) + 1


def is_blank(s: VgaState) -> bool:
    return not s.attribute_index & PALETTE_ON or bool(s.sequencer[1] & Seq1.SCREEN_OFF)


def display_end(s: VgaState) -> int:
    """The last scan line shown."""
    overflow = s.crt[7]
    return int(s.crt[0x12] | (overflow & Crt7.DISPLAY_END_8) << 7 | (overflow & Crt7.DISPLAY_END_9) << 3)


def line_compare(s: VgaState) -> int:
    return int(s.crt[0x18] | (s.crt[7] & Crt7.LINE_COMPARE_8) << 4 | (s.crt[9] & Crt9.LINE_COMPARE_9) << 3)


def dots_of(s: VgaState, kind: Kind) -> int:
    """Dots of a character on the screen: with half the dot clock each is two of the full clock's."""
    dots = 9 if kind is Kind.TEXT and not s.sequencer[1] & Seq1.DOTS_8 else 8
    return dots * 2 if is_doubled(s, kind) else dots


def is_doubled(s: VgaState, kind: Kind) -> bool:
    return kind is not Kind.BYTES and bool(s.sequencer[1] & Seq1.HALF_DOT_CLOCK)


def scan_of(s: VgaState, kind: Kind) -> Scan:
    """Every shown line. Below the line that line compare names, memory is shown from address 0."""
    crt = s.crt
    height, row_lines = display_end(s) + 1, (crt[9] & Crt9.MAXIMUM) + 1
    halved, pitch = crt[9] >> 7, 2 * crt[0x13]
    start = (crt[0x0C] << 8 | crt[0x0D]) + (crt[8] >> BYTE_PAN_SHIFT & 3)
    split = min(line_compare(s) + 1, height)
    y = np.arange(height, dtype=np.int64)
    counted = np.where(y < split, (y >> halved) + (crt[8] & ROW_SCAN), y - split >> halved)
    address = np.where(y < split, start, 0) + counted // row_lines * pitch
    begins = np.flatnonzero(np.diff(counted // row_lines, prepend=-1) | (y == split))
    return Scan(crt[1] + 1, dots_of(s, kind), address, counted % row_lines, split, begins)


def cell_addresses(s: VgaState, scan: Scan, extra: int = 0) -> Addresses:
    """The address of each character of each line, and of `extra` ones to the right."""
    addresses = scan.address[:, None] + np.arange(scan.columns + extra)
    mode = s.crt[0x17]
    if not mode & Crt17.NOT_CGA_BANKS:
        bank = 13 if mode & Crt17.BYTE_MODE else 12  # a word address has lost its lowest bit
        addresses = addresses & ~(1 << bank) | (scan.row[:, None] & 1) << bank
    if not mode & Crt17.NOT_HERCULES_BANKS:
        bank = 14 if mode & Crt17.BYTE_MODE else 13
        addresses = addresses & ~(1 << bank) | (scan.row[:, None] >> 1 & 1) << bank
    return addresses & ADDRESS_MASK


def panned(s: VgaState, scan: Scan, dots: Pixels, scale: int = 1) -> Pixels:
    """Cut the lines to the screen's width where pel panning says; one character more than that is given.

    `scale`: how many dots of the screen one of these is.
    """
    of_9 = scan.dots // scale == 9
    pan = s.attribute[0x13] & PAN
    shift = (0 if pan >= PAN_NONE_OF_9 else pan + 1) if of_9 else pan & 7
    width = scan.columns * scan.dots // scale
    shown = dots[:, shift : shift + width]
    if scan.split < scan.height and s.attribute[0x10] & Attr10.PAN_TOP_ONLY:
        shown = np.concatenate((shown[: scan.split], dots[scan.split :, :width]))
    return shown


# memory


def memory_of(vga: Vga) -> Pixels:
    return np.frombuffer(vga.memory.bytes, dtype=np.uint8)


def planes_of(vga: Vga) -> list[Pixels]:
    """The four planes, wherever their bytes lie."""
    store = memory_of(vga)[vga.memory.framebuffer_bytes :]
    if vga.state.layout & 1 == Layout.QUADS:
        quads = store.reshape(PLANE_BYTES, PLANES)
        return [quads[:, plane] for plane in range(PLANES)]
    pairs = store.reshape(PLANES // 2, HALF // 2, 2)
    return [pairs[plane >> 1, :, plane & 1] for plane in range(PLANES)]


# colours


def dac_colours(vga: Vga) -> Pixels:
    """256 rows of red, green and blue, 8 bits each: what a byte that reaches the DAC looks like."""
    s = vga.state
    stored = np.frombuffer(s.palette, dtype=np.uint8).reshape(256, 3)[np.arange(256) & s.dac_mask]
    return stored if vga.dispi.dac_8bit else stored << 2 | stored >> 4 & 3


def attribute_colours(vga: Vga) -> Pixels:
    """16 rows of red, green and blue: what the attribute controller makes of four bits."""
    attribute = vga.state.attribute
    select, keeps = attribute[0x14], 0x3F
    page = (select & 0xC) << 4
    if attribute[0x10] & Attr10.COLOUR_SELECT:
        page, keeps = page | (select & 3) << 4, 0xF
    return dac_colours(vga)[[attribute[bits & attribute[0x12]] & keeps | page for bits in range(16)]]
