"""The text screen at B8000: 80 x 25 cells of character and attribute, as rich text.

The machine of this version has no video card: what is shown is what lies in that memory, and the cursor is unknown.
"""

from __future__ import annotations

from typing import Protocol

from rich.color import Color
from rich.style import Style
from rich.text import Text

TEXT_BASE = 0xB8000
COLUMNS, ROWS = 80, 25
CELL_BYTES = 2
BLINK = 0x80

# The sixteen colours of the CGA palette.
CGA_COLOURS = (
    "000000 0000aa 00aa00 00aaaa aa0000 aa00aa aa5500 aaaaaa 555555 5555ff 55ff55 55ffff ff5555 ff55ff ffff55 ffffff"
)
PALETTE = [Color.parse(f"#{rgb}") for rgb in CGA_COLOURS.split()]

# Code page 437 below 20h shows symbols where ASCII has controls.
LOW_GLYPHS = " ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼"


class Memory(Protocol):
    """Guest physical memory."""

    def read(self, gpa: int, length: int) -> bytes: ...


def glyph(code: int) -> str:
    if code < len(LOW_GLYPHS):
        return LOW_GLYPHS[code]
    return "⌂" if code == 0x7F else bytes((code,)).decode("cp437")


def read_screen(memory: Memory) -> Text:
    """The screen now."""
    cells = memory.read(TEXT_BASE, COLUMNS * ROWS * CELL_BYTES)
    text = Text(no_wrap=True)
    for row in range(ROWS):
        for column in range(COLUMNS):
            code, attribute = cells[(row * COLUMNS + column) * CELL_BYTES :][:CELL_BYTES]
            style = Style(
                color=PALETTE[attribute & 0xF],
                bgcolor=PALETTE[attribute >> 4 & 7],
                blink=bool(attribute & BLINK) or None,
            )
            text.append(glyph(code), style)
        if row < ROWS - 1:
            text.append("\n")
    return text


def plain_screen(memory: Memory) -> str:
    """The characters alone, without trailing blanks."""
    return "\n".join(line.rstrip() for line in read_screen(memory).plain.split("\n")).rstrip()
