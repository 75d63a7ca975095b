"""The terminal's alternate screen: what was on the terminal comes back on every way out.

SIGINT, and SIGTERM and SIGHUP of a command that unwinds at them, reach its own handlers, and then `leave` is called as
ever. A process that is stopped from the keyboard gives the terminal back for that time.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TextIO

ENTER = "\x1b[?1049h\x1b[?25l\x1b[2J"  # alternate screen, no cursor, blank
LEAVE = "\x1b[0m\x1b[?25h\x1b[?1049l"


class AlternateScreen:
    """`write` goes to it only while it is entered."""

    ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

    def __init__(self, stream: TextIO, on_entered: Callable[[], None]) -> None:
        self._stream, self._on_entered = stream, on_entered
        self._entered = False
        self._turn = threading.RLock()  # a signal may come while its own thread writes
        self._handlers: dict[int, Any] = {}

    def enter(self) -> None:
        """From the main thread, if signals are to be seen to."""
        atexit.register(self.leave)
        if threading.current_thread() is threading.main_thread():
            for number, handler in [*((number, self._die) for number in self.ENDING), (signal.SIGTSTP, self._stop)]:
                if signal.getsignal(number) is signal.SIG_DFL:
                    self._handlers[number] = signal.signal(number, handler)
        self._switch(True)

    def leave(self) -> None:
        """Idempotent."""
        self._switch(False)
        atexit.unregister(self.leave)
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            self._handlers.clear()

    def write(self, text: str) -> None:
        """Raises OSError or ValueError when the terminal has gone."""
        with self._turn:
            if self._entered:
                self._put(text)

    def _switch(self, entered: bool) -> None:
        with self._turn:
            if entered == self._entered:
                return
            self._entered = entered
            with contextlib.suppress(OSError, ValueError):
                self._put(ENTER if entered else LEAVE)
        if entered:
            self._on_entered()

    def _put(self, text: str) -> None:
        """Past the stream's buffer, which a signal's handler must not enter while it is in use."""
        data = text.encode(self._stream.encoding or "ascii", "replace")
        while data:
            data = data[os.write(self._stream.fileno(), data) :]

    def _die(self, number: int, frame: FrameType | None) -> None:
        """Restore, then die of the same signal as anyone expects of us."""
        self.leave()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """Restore, stop, and come back."""
        self._switch(False)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, self._stop)
        self._switch(True)
