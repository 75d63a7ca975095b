"""A text-mode screen in the terminal: live and in colour, or as plain lines.

Where a machine has no display adapter, the screen is what lies at B8000, 80 x 25 cells of character and attribute.
Only lines that have changed are drawn again. A terminal that is smaller shows the upper left part. Not shown: the
guest's own font, the cursor's shape.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import groupby
from typing import Protocol, TextIO

import numpy as np
from rich.color import Color, ColorSystem
from rich.console import Console
from rich.style import Style
from rich.text import Text

from vmx.picture_text import BLINK, CP437, TextScreen
from vmx.screen_terminal import AlternateScreen

TEXT_BASE = 0xB8000
COLUMNS, ROWS = 80, 25
CELL_BYTES = 2
INTERVAL_S = 0.1
LOCK_WAIT_S = 0.5

Rgb = tuple[int, int, int]

# The sixteen colours of the CGA palette.
CGA_COLOURS: list[Rgb] = [
    (0x00, 0x00, 0x00), (0x00, 0x00, 0xAA), (0x00, 0xAA, 0x00), (0x00, 0xAA, 0xAA),
    (0xAA, 0x00, 0x00), (0xAA, 0x00, 0xAA), (0xAA, 0x55, 0x00), (0xAA, 0xAA, 0xAA),
    (0x55, 0x55, 0x55), (0x55, 0x55, 0xFF), (0x55, 0xFF, 0x55), (0x55, 0xFF, 0xFF),
    (0xFF, 0x55, 0x55), (0xFF, 0x55, 0xFF), (0xFF, 0xFF, 0x55), (0xFF, 0xFF, 0xFF),
]  # fmt: skip
COLOUR_SYSTEMS = {
    "standard": ColorSystem.STANDARD, "256": ColorSystem.EIGHT_BIT, "truecolor": ColorSystem.TRUECOLOR,
}  # fmt: skip
NO_TEXT = "The screen is in no text mode, so a terminal cannot show it: take a screenshot or use a VNC client."


class Memory(Protocol):
    """Guest physical memory."""

    def read(self, gpa: int, length: int) -> bytes: ...


class TextSource(Protocol):
    """What is looked at, under the machine's lock."""

    def text(self) -> TextScreen | None:
        """None in a graphics mode."""


class MemoryText:
    """The text at B8000 of a machine without a display adapter."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def text(self) -> TextScreen:
        cells = np.frombuffer(self._memory.read(TEXT_BASE, COLUMNS * ROWS * CELL_BYTES), np.uint8)
        cells = cells.reshape(ROWS, COLUMNS, CELL_BYTES)
        return TextScreen(cells[:, :, 0], cells[:, :, 1], CGA_COLOURS, blinks=True, cursor=None)


def glyph(code: int) -> str:
    return CP437[code]


def plain_text(screen: TextScreen) -> str:
    """The characters alone, without trailing blanks."""
    return "\n".join(line.rstrip() for line in screen.lines()).rstrip()


def styled_runs(screen: TextScreen, row: int) -> Iterator[tuple[str, Style]]:
    """A row from left to right, in runs of one style; the cursor is a cell in reverse."""
    attributes = screen.attributes[row].tolist()
    cursor_column = screen.cursor[0] if screen.cursor is not None and screen.cursor[1] == row else -1
    cells = zip(attributes, range(len(attributes)), screen.codes[row].tolist(), strict=True)
    for (attribute, is_cursor), run in groupby(cells, key=lambda cell: (cell[0], cell[1] == cursor_column)):
        blinks = screen.blinks and bool(attribute & BLINK)
        background = attribute >> 4 & (7 if screen.blinks else 0xF)
        style = style_of(screen.colours[attribute & 0xF], screen.colours[background], blinks, is_cursor)
        yield "".join(CP437[code] for _, _, code in run), style


@lru_cache(maxsize=1024)
def style_of(foreground: Rgb, background: Rgb, blinks: bool, is_cursor: bool) -> Style:
    return Style(
        color=Color.from_rgb(*foreground),
        bgcolor=Color.from_rgb(*background),
        blink=blinks or None,
        reverse=is_cursor or None,
    )


def read_screen(memory: Memory) -> Text:
    """The screen at B8000 as rich text."""
    screen = MemoryText(memory).text()
    text = Text(no_wrap=True)
    for row in range(ROWS):
        for characters, style in styled_runs(screen, row):
            text.append(characters, style)
        if row < ROWS - 1:
            text.append("\n")
    return text


def plain_screen(memory: Memory) -> str:
    """The characters at B8000 alone, without trailing blanks."""
    return plain_text(MemoryText(memory).text())


def last_screen(source: TextSource) -> str:
    """The characters on the screen when a run has ended, without trailing blanks."""
    screen = source.text()
    return NO_TEXT if screen is None else plain_text(screen)


@contextmanager
def live_screen(source: TextSource, lock: threading.Lock, stream: TextIO) -> Iterator[None]:
    """The screen on a terminal; nothing where `stream` is none."""
    live = LiveScreen(source, lock, stream) if stream.isatty() else None
    if live is not None:
        live.start()
    try:
        yield
    finally:
        if live is not None:
            live.close()


class LiveScreen:
    """The screen on a terminal until `close`, which leaves the terminal as it was. A thread of its own draws."""

    def __init__(self, source: TextSource, lock: threading.Lock, stream: TextIO) -> None:
        self._source, self._lock, self._stream = source, lock, stream
        console = Console(file=stream)
        self._colours = None if console.no_color else COLOUR_SYSTEMS.get(console.color_system or "")
        self._terminal = AlternateScreen(stream, on_entered=self._forget)
        self._shown: list[str] = []
        self._size, self._fresh = (0, 0), True
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="screen", daemon=True)

    def start(self) -> None:
        """From the main thread."""
        self._terminal.enter()
        self._thread.start()

    def close(self) -> None:
        """Idempotent. The machine's lock is not held."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        self._terminal.leave()

    def _run(self) -> None:
        while not self._closing.wait(INTERVAL_S):
            try:
                self.update()
            except (OSError, ValueError):  # the terminal has hung up or was closed
                return

    def update(self) -> None:
        """Draw what has changed."""
        if not self._lock.acquire(timeout=LOCK_WAIT_S):
            return
        try:
            screen = self._source.text()
        finally:
            self._lock.release()
        columns, rows = os.get_terminal_size(self._stream.fileno())
        size = columns or COLUMNS, rows or ROWS
        if size != self._size:
            self._size, self._fresh = size, True
        lines = [NO_TEXT[:columns]] if screen is None else self._lines(screen, *size)
        self._terminal.write("".join(self._changed(lines)))

    def _forget(self) -> None:
        """The terminal is blank: all is drawn the next time."""
        self._fresh = True

    def _lines(self, screen: TextScreen, columns: int, rows: int) -> list[str]:
        """Rows with their colours, cut to the terminal."""
        lines = []
        for row in range(min(len(screen.codes), rows)):
            parts, room = [], columns
            for characters, style in styled_runs(screen, row):
                parts.append(style.render(characters[:room], color_system=self._colours))
                room = max(0, room - len(characters))
            lines.append("".join(parts))
        return lines

    def _changed(self, lines: list[str]) -> Iterator[str]:
        if self._fresh or len(lines) != len(self._shown):
            self._shown, self._fresh = [], False
            yield "\x1b[0m\x1b[2J"
        for row, line in enumerate(lines):
            if row >= len(self._shown) or self._shown[row] != line:
                yield f"\x1b[{row + 1};1H\x1b[K{line}"
        self._shown = lines
