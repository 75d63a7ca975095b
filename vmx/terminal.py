"""The terminal while a machine owns it: raw mode that is undone on every way out, and the escape keys."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import termios
import tty
from collections.abc import Callable
from types import FrameType
from typing import Any

ESCAPE = 0x01  # Ctrl-A
HELP = """
Ctrl-A X  leave: the machine is switched off
Ctrl-A A  send Ctrl-A to the guest
Ctrl-A H  this help
"""


class RawTerminal:
    """Raw mode on `fd`. Restored by `leave`, at interpreter exit, and when a signal ends the process.

    SIGTERM and SIGHUP of a command that unwinds at them reach its own handlers; then `leave` is called as ever.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.usable = os.isatty(fd) and _in_foreground(fd)
        self._saved: list[Any] | None = None
        self._handlers: dict[int, Any] = {}

    def enter(self) -> None:
        if not self.usable or self._saved is not None:
            return
        self._saved = termios.tcgetattr(self.fd)
        atexit.register(self.leave)
        for number in self.SIGNALS:
            if signal.getsignal(number) is signal.SIG_DFL:
                self._handlers[number] = signal.signal(number, self._die)
        tty.setraw(self.fd, termios.TCSANOW)
        settings = termios.tcgetattr(self.fd)
        settings[1] |= termios.OPOST | termios.ONLCR  # our own messages still end their lines
        termios.tcsetattr(self.fd, termios.TCSANOW, settings)

    def leave(self) -> None:
        """Idempotent."""
        if self._saved is None:
            return
        saved, self._saved = self._saved, None
        with contextlib.suppress(termios.error):  # a terminal that was closed has no modes
            termios.tcsetattr(self.fd, termios.TCSADRAIN, saved)
        atexit.unregister(self.leave)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def _die(self, number: int, frame: FrameType | None) -> None:
        """Restore, then die of the same signal as anyone expects of us."""
        self.leave()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


class EscapeKeys:
    """Takes Ctrl-A and the key after it out of what is typed."""

    def __init__(self, on_exit: Callable[[], object], say: Callable[[str], None]) -> None:
        self._on_exit, self._say = on_exit, say
        self._escaped = False

    def filter(self, data: bytes) -> bytes:
        """What the guest gets of `data`."""
        kept = bytearray()
        for byte in data:
            if not self._escaped:
                if byte == ESCAPE:
                    self._escaped = True
                else:
                    kept.append(byte)
                continue
            self._escaped = False
            key = chr(byte).lower()
            if key == "x":
                self._on_exit()
            elif byte == ESCAPE or key == "a":
                kept.append(ESCAPE)
            else:
                self._say(HELP)
        return bytes(kept)


def _in_foreground(fd: int) -> bool:
    """A background job that touches the terminal's modes would be stopped for it."""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False
