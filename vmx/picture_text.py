"""The screen in a text mode: as dots, with the font that the guest has loaded, and as characters.

Nothing blinks: what would is shown.
Not modelled: cursor skew, the cell height's effect on fonts of 64 lines.
Source: IBM PS/2 Hardware Interface Technical Reference, "Video Subsystem", "Alphanumeric Modes" and "Character Map
Select".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hw.vga import Vga, VgaState
from hw.vga_spec import FONT_CELL, PLANE_BYTES, Attr10, CrtCursor
from vmx.picture_scan import (
    ADDRESS_MASK,
    Kind,
    Pixels,
    Scan,
    attribute_colours,
    cell_addresses,
    is_blank,
    is_doubled,
    panned,
    planes_of,
    scan_of,
)

# Code page 437 below 20h shows symbols where ASCII has controls.
LOW_GLYPHS = " ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼"
CP437 = LOW_GLYPHS + bytes(range(0x20, 0x7F)).decode("cp437") + "⌂" + bytes(range(0x80, 0x100)).decode("cp437")

FONT_SELECT = 0x08  # in an attribute: the character is in map A
BLINK = 0x80
LINE_GRAPHICS_FIRST, LINE_GRAPHICS_LAST = 0xC0, 0xDF
UNDERLINED, UNDERLINE_MASK = 0x01, 0x77


@dataclass(frozen=True, slots=True)
class TextScreen:
    """Characters by row and column. An attribute is foreground, then background, in indices of `colours`.

    With `blinks` the highest bit of an attribute means a blinking character and not a bright background.
    """

    codes: Pixels
    attributes: Pixels
    colours: list[tuple[int, int, int]]
    blinks: bool
    cursor: tuple[int, int] | None  # column and row

    def lines(self) -> list[str]:
        """The rows as text, to their full width."""
        return ["".join(CP437[code] for code in row) for row in self.codes.tolist()]


def text_screen(vga: Vga) -> TextScreen:
    """The screen of a text mode. One that is off is empty."""
    s = vga.state
    scan = scan_of(s, Kind.TEXT)
    addresses = cell_addresses(s, scan)[scan.rows]
    planes = planes_of(vga)
    codes, attributes = planes[0][addresses], planes[1][addresses]
    if is_blank(s):
        codes, attributes = np.full_like(codes, 0x20), np.zeros_like(attributes)
    place = np.argwhere(addresses == cursor_address(s))
    shown = len(place) and cursor_lines(s) is not None and not is_blank(s)
    red_green_blue = [(int(red), int(green), int(blue)) for red, green, blue in attribute_colours(vga)]
    return TextScreen(
        codes, attributes, red_green_blue, bool(s.attribute[0x10] & Attr10.BLINK),
        (int(place[0][1]), int(place[0][0])) if shown else None,
    )  # fmt: skip


def draw_text(vga: Vga) -> Pixels:
    """The picture of a text mode."""
    s = vga.state
    scan = scan_of(s, Kind.TEXT)
    addresses = cell_addresses(s, scan, extra=1)
    planes = planes_of(vga)
    codes, attributes = planes[0][addresses], planes[1][addresses]
    upper, lower = font_maps(s.sequencer[3])
    fonts = np.where(attributes & FONT_SELECT, upper, lower)
    glyphs = planes[2][(fonts + codes.astype(np.int64) * FONT_CELL + scan.row[:, None]) % PLANE_BYTES]
    bits = np.unpackbits(glyphs[:, :, None], axis=2)
    if scan.dots % 9 == 0:
        bits = np.concatenate((bits, ninth_dot(s, codes, bits)), axis=2)
    bits |= (underlined(s, attributes, scan) | under_cursor(s, addresses, scan))[:, :, None]
    front, back = attributes & 0xF, attributes >> 4
    if s.attribute[0x10] & Attr10.BLINK:
        back = back & 7
    index = np.where(bits, front[:, :, None], back[:, :, None]).reshape(scan.height, -1)
    doubled = is_doubled(s, Kind.TEXT)
    index = panned(s, scan, index, 2 if doubled else 1)
    return attribute_colours(vga)[np.repeat(index, 2, axis=1) if doubled else index]


def font_maps(select: int) -> tuple[int, int]:
    """Where in plane 2 maps A and B begin: 16 KiB apart for two bits, and 8 KiB in between for the third."""
    upper, lower = select >> 2 & 3 | select >> 3 & 4, select & 3 | select >> 2 & 4
    return tuple((index & 3) << 14 | (index >> 2) << 13 for index in (upper, lower))  # type: ignore[return-value]


def ninth_dot(s: VgaState, codes: Pixels, bits: Pixels) -> Pixels:
    """Blank, but for the characters that draw lines: these repeat their eighth."""
    if not s.attribute[0x10] & Attr10.LINE_GRAPHICS:
        return np.zeros_like(bits[:, :, :1])
    joins = (codes >= LINE_GRAPHICS_FIRST) & (codes <= LINE_GRAPHICS_LAST)
    return bits[:, :, 7:] & joins[:, :, None]


def underlined(s: VgaState, attributes: Pixels, scan: Scan) -> Pixels:
    """Monochrome attributes have one for an underline."""
    if not s.attribute[0x10] & Attr10.MONO:
        return np.zeros_like(attributes)
    lines = scan.row == s.crt[0x14] & CrtCursor.LINE
    return ((attributes & UNDERLINE_MASK == UNDERLINED) & lines[:, None]).astype(np.uint8)


def cursor_address(s: VgaState) -> int:
    return (s.crt[0x0E] << 8 | s.crt[0x0F]) & ADDRESS_MASK


def cursor_lines(s: VgaState) -> tuple[int, int] | None:
    """The cursor's first and last line in its cell; None: it is off."""
    first, last = s.crt[0x0A] & CrtCursor.LINE, s.crt[0x0B] & CrtCursor.LINE
    return None if s.crt[0x0A] & CrtCursor.OFF or first > last else (first, last)


def under_cursor(s: VgaState, addresses: np.ndarray, scan: Scan) -> Pixels:
    lines = cursor_lines(s)
    if lines is None:
        return np.zeros(addresses.shape, np.uint8)
    inside = (scan.row >= lines[0]) & (scan.row <= lines[1])
    return ((addresses == cursor_address(s)) & inside[:, None]).astype(np.uint8)
