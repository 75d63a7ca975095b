"""Far ends of a serial cable on this host: the terminal, a file, a serial port of the host, a pseudo-terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import stat
import sys
import termios
import tty
from collections.abc import Callable
from pathlib import Path

from ringfence.errors import HostRefused
from vmx.serial_backend import FLUSH_S, QueuedSerial, SerialBackend
from vmx.terminal import EscapeKeys, RawTerminal


class NoSerial(SerialBackend):
    """Nothing is plugged in: no carrier either."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = 0


class StdioSerial(SerialBackend):
    """The terminal, raw while the machine runs; or whatever standard input and output are. Ctrl-A is the escape key."""

    WATCHES = True

    def __init__(self) -> None:
        super().__init__("stdio")
        sys.stdout.flush()
        self.output_fd = 1
        self._terminal = RawTerminal(0)
        self._keys = EscapeKeys(on_exit=self._leave, say=self._say)
        if self._terminal.usable or not os.isatty(0):
            self.input_fd = 0
        self._terminal.enter()

    def _filter(self, data: bytes) -> bytes:
        return self._keys.filter(data) if self._terminal.usable else data

    def _leave(self) -> None:
        if self._host is not None:
            self._host.leave()

    def _say(self, text: str) -> None:
        self._write(2, text.replace("\n", "\r\n").encode())

    def _close_host_side(self) -> None:
        self._terminal.leave()


class FileSerial(SerialBackend):
    """Output into a file, emptied first unless it is to go on; no input."""

    def __init__(self, path: Path, *, append: bool = False, origin: str = "--serial") -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | (os.O_APPEND if append else os.O_TRUNC)
        try:
            # a FIFO that nobody reads is refused, not waited for
            fd = os.open(path, flags | os.O_NONBLOCK, 0o644)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise HostRefused(f"{origin} file:{path}: cannot write: {reason}") from error
        os.set_blocking(fd, True)
        super().__init__(f"file:{path}")
        self.output_fd = self._fd = fd

    def _close_host_side(self) -> None:
        os.close(self._fd)


class OnePeer:
    """A peer that is there from the start, and does not come back."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd

    def interest(self) -> list[tuple[int, int]]:
        return []

    def timeout_ms(self) -> int | None:
        return None

    def take(self, ready: dict[int, int]) -> int | None:
        fd, self._fd = self._fd, None
        return fd

    def left(self) -> None:
        """Nobody else comes."""

    def close(self) -> None:
        """The peer's descriptor was the caller's."""


class TtySerial(QueuedSerial):
    """A serial port of the host, or another terminal, raw; its speed stays as it was set."""

    def __init__(self, path: Path, origin: str = "--serial") -> None:
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise HostRefused(f"{origin} file:{path}: cannot open: {error.strerror}") from error
        try:
            self._saved = termios.tcgetattr(fd)
            tty.setraw(fd, termios.TCSANOW)
        except termios.error as error:
            os.close(fd)
            raise HostRefused(f"{origin} file:{path}: cannot set its modes: {error.args[-1]}") from error
        self._fd = fd
        super().__init__(f"file:{path}", OnePeer(fd))

    def _close_host_side(self) -> None:
        if self.has_peer:
            self.queue.flush(FLUSH_S)
            with contextlib.suppress(termios.error):  # it may have been unplugged
                termios.tcsetattr(self._fd, termios.TCSANOW, self._saved)
        super()._close_host_side()


class PtySerial(QueuedSerial):
    """A pseudo-terminal that any terminal program can open; its name is announced.

    Whether one has cannot be seen, so carrier is always on and what does not fit the queue is dropped.
    """

    def __init__(self, announce: Callable[[str], None], origin: str = "--serial") -> None:
        try:
            master, self._slave = pty.openpty()
        except OSError as error:
            raise HostRefused(f"{origin} pty: the host has no pseudo-terminal left: {error.strerror}") from error
        tty.setraw(self._slave)  # and held open here, so that output before anyone listens does not fail
        os.set_blocking(master, False)
        name = os.ttyname(self._slave)
        super().__init__(f"pty:{name}", OnePeer(master), patience_s=0)
        announce(f"serial port on {name}")

    def _close_host_side(self) -> None:
        super()._close_host_side()
        os.close(self._slave)


def is_terminal(path: Path) -> bool:
    """Whether a file is a terminal, as serial ports of the host are. Opening one may wait for its carrier: not here."""
    try:
        if not stat.S_ISCHR(path.stat().st_mode):
            return False
        fd = os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return False
    try:
        return os.isatty(fd)
    finally:
        os.close(fd)
