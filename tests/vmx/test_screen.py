"""The text screen in a terminal: what an emulator of one then shows, and that the terminal comes back in the end."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pyte
import pytest

from tests.vmx.rfb_peer import WAIT_S
from vmx.picture_text import TextScreen
from vmx.screen import CGA_COLOURS, NO_TEXT, LiveScreen, plain_text
from vmx.screen_terminal import ENTER, LEAVE


class Source:
    """A machine in text mode, or in none."""

    def __init__(self, columns: int = 80, rows: int = 25) -> None:
        self.codes = np.full((rows, columns), 0x20, np.uint8)
        self.attributes = np.full((rows, columns), 0x07, np.uint8)
        self.cursor: tuple[int, int] | None = None
        self.blinks = True
        self.graphics = False
        self.lock = threading.Lock()

    def put(self, row: int, column: int, text: bytes, attribute: int = 0x07) -> None:
        self.codes[row, column : column + len(text)] = np.frombuffer(text, np.uint8)
        self.attributes[row, column : column + len(text)] = attribute

    def text(self) -> TextScreen | None:
        assert self.lock.locked()
        if self.graphics:
            return None
        return TextScreen(self.codes.copy(), self.attributes.copy(), CGA_COLOURS, self.blinks, self.cursor)


class Terminal:
    """A pseudo-terminal whose other end is an emulator."""

    def __init__(self, columns: int, rows: int) -> None:
        self.master, self.slave = pty.openpty()
        self.written = b""
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.resize(columns, rows)

    def resize(self, columns: int, rows: int) -> None:
        termios.tcsetwinsize(self.slave, (rows, columns))
        self.screen.resize(rows, columns)

    def read(self) -> bool:
        """What has been written by now. False when nothing comes."""
        ready, _, _ = select.select([self.master], [], [], WAIT_S)
        if not ready:
            return False
        data = os.read(self.master, 65536)
        self.written += data
        self._stream.feed(data)
        return True

    def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            assert self.read(), "\n".join(self.screen.display)

    def close(self) -> None:
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture(autouse=True)
def colourful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal(80, 25)
    yield made
    made.close()


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def live(source: Source, terminal: Terminal) -> Iterator[LiveScreen]:
    with open(os.dup(terminal.slave), "w", encoding="utf-8") as stream:
        made = LiveScreen(source, source.lock, stream)
        made.start()
        yield made
        made.close()


def test_the_terminal_shows_characters_and_colours(source: Source, terminal: Terminal, live: LiveScreen) -> None:
    source.put(0, 0, b"Caf\x82 \x01")
    source.put(24, 70, b"the corner", 0x1E)
    terminal.until(lambda: terminal.screen.display[24].endswith("the corner"))
    assert terminal.screen.display[0].rstrip() == "Café ☺"
    cell = terminal.screen.buffer[24][70]
    assert (cell.fg, cell.bg) == ("ffff55", "0000aa")
    assert terminal.screen.buffer[0][0].fg == "aaaaaa"


def test_only_changed_lines_are_drawn_again(source: Source, terminal: Terminal, live: LiveScreen) -> None:
    source.put(3, 0, b"first")
    terminal.until(lambda: "first" in terminal.screen.display[3])
    before = len(terminal.written)
    source.put(9, 5, b"second")
    terminal.until(lambda: "second" in terminal.screen.display[9])
    assert len(terminal.written) - before < 300
    assert "first" in terminal.screen.display[3]


def test_the_cursor_is_a_cell_in_reverse(source: Source, terminal: Terminal, live: LiveScreen) -> None:
    source.put(2, 0, b"C:\\>")
    source.cursor = (4, 2)
    terminal.until(lambda: terminal.screen.buffer[2][4].reverse)
    assert not terminal.screen.buffer[2][3].reverse


def test_the_highest_bit_blinks_or_brightens(source: Source, terminal: Terminal, live: LiveScreen) -> None:
    source.put(0, 0, b"x", 0x97)
    terminal.until(lambda: terminal.screen.buffer[0][0].blink)
    assert terminal.screen.buffer[0][0].bg == "0000aa"
    source.blinks = False
    terminal.until(lambda: terminal.screen.buffer[0][0].bg == "5555ff")
    assert not terminal.screen.buffer[0][0].blink


def test_a_small_terminal_shows_the_upper_left(source: Source, terminal: Terminal, live: LiveScreen) -> None:
    terminal.resize(30, 10)
    source.put(0, 0, b"0123456789" * 8)
    source.put(9, 0, b"tenth")
    source.put(10, 0, b"eleventh")
    terminal.until(lambda: "tenth" in terminal.screen.display[9])
    assert terminal.screen.display[0] == "0123456789" * 3
    assert not any("eleventh" in line for line in terminal.screen.display)
    terminal.resize(80, 25)
    terminal.until(lambda: "eleventh" in terminal.screen.display[10])
    assert terminal.screen.display[0] == "0123456789" * 8


def test_a_graphics_mode_is_said_and_text_comes_back(source: Source, terminal: Terminal, live: LiveScreen) -> None:
    source.put(5, 0, b"text")
    terminal.until(lambda: "text" in terminal.screen.display[5])
    source.graphics = True
    terminal.until(lambda: NO_TEXT[:60] in terminal.screen.display[0])
    assert not terminal.screen.display[5].strip()
    source.graphics = False
    terminal.until(lambda: "text" in terminal.screen.display[5])


def test_a_busy_machine_is_waited_for_and_not_hung_upon(source: Source, terminal: Terminal, live: LiveScreen) -> None:
    with source.lock:
        source.put(0, 0, b"later")
    terminal.until(lambda: "later" in terminal.screen.display[0])


def test_plain_text_has_no_trailing_blanks(source: Source) -> None:
    source.put(0, 2, b"one")
    source.put(2, 0, b"three")
    with source.lock:
        screen = source.text()
    assert screen is not None
    assert plain_text(screen) == "  one\n\nthree"


PROGRAM = """
import sys, threading, time
from vmx.ending import ending_signals
from vmx.screen import LiveScreen, MemoryText
class Memory:
    def read(self, gpa, length):
        return b"A\\x07" * (length // 2)
def work():
    live = LiveScreen(MemoryText(Memory()), threading.Lock(), sys.stdout)
    live.start()
    WAY
WAYS
"""
WAYS_OUT = {
    "close": ("live.close()", "work()"),
    "exception": ("raise ValueError", "work()"),
    "SIGTERM": ("time.sleep(30)", "work()"),
    "SIGQUIT": ("time.sleep(30)", "work()"),
    "SIGTERM that unwinds": (
        "try:\n        time.sleep(30)\n    finally:\n        live.close()", "with ending_signals():\n    work()"
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS_OUT)
def test_the_terminal_comes_back_on_every_way_out(way: str, terminal: Terminal) -> None:
    inside, outside = WAYS_OUT[way]
    program = PROGRAM.replace("WAYS", outside).replace("WAY", inside)
    child = start(program, terminal)
    terminal.until(lambda: ENTER.encode() in terminal.written)
    if way.startswith("SIG"):
        terminal.until(lambda: "AAAA" in terminal.screen.display[0])
        child.send_signal(getattr(signal, way.split(maxsplit=1)[0]))
    child.wait(WAIT_S)
    terminal.until(lambda: terminal.written.endswith(LEAVE.encode()))


def test_a_stopped_process_gives_the_terminal_back_and_draws_again(terminal: Terminal) -> None:
    program = PROGRAM.replace("WAYS", "work()").replace("WAY", "time.sleep(30)")
    child = start(program, terminal)
    terminal.until(lambda: "AAAA" in terminal.screen.display[24])
    child.send_signal(signal.SIGTSTP)
    terminal.until(lambda: terminal.written.endswith(LEAVE.encode()))
    _, status = os.waitpid(child.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    terminal.screen.reset()
    child.send_signal(signal.SIGCONT)
    terminal.until(lambda: "AAAA" in terminal.screen.display[24])
    child.terminate()
    child.wait(WAIT_S)


def start(program: str, terminal: Terminal) -> subprocess.Popen[bytes]:
    """Without a controlling terminal, whose own signals would get in the way."""
    return subprocess.Popen(
        [sys.executable, "-c", program], stdout=terminal.slave, stderr=subprocess.DEVNULL, process_group=0,
        restore_signals=True, preexec_fn=default_signals,  # noqa: PLW1509
    )  # fmt: skip


def default_signals() -> None:
    """The tests may run under nohup."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP):
        signal.signal(number, signal.SIG_DFL)
