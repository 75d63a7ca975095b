"""The far ends of a serial cable: the terminal, a file, a pseudo-terminal, a Unix socket.

Output goes straight to the host from the thread that runs the vCPU: a slow reader slows the guest down, as handshaking
would. Input arrives on a thread of its own, waits here, and is handed to the UART under the machine's lock, one
character whenever there is room.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pty
import select
import socket
import sys
import threading
import time
import tty
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ringfence.errors import BadOption, HostRefused
from vmx.terminal import EscapeKeys, RawTerminal

GONE = frozenset({errno.EPIPE, errno.EIO})  # a pipe's reader; a terminal that hung up
READ_BYTES = 4096
ROOM_POLL_MS = 50
ACCEPT_RETRY_S = 0.1
INPUT_BYTES_MAX = 1 << 16  # more than this is left with the host until the guest has read some


class Receiver(Protocol):
    """The UART's side."""

    def can_receive(self) -> bool: ...

    def received(self, byte: int) -> None: ...


class SerialHost(Protocol):
    """What a backend needs of the machine."""

    def post(self, action: Callable[[], None]) -> None:
        """Have `action` called soon, under the machine's lock. Any thread."""

    def leave(self) -> None:
        """The person at the terminal wants out."""

    def is_wanted_back(self) -> bool:
        """Whether the run is to end or pause now: nobody waits for a slow reader then."""


class SerialBackend:
    """Base: no input, output nowhere. A subclass gives `fileno`s through `_open` and overrides what differs."""

    def __init__(self) -> None:
        self.input_fd: int | None = None
        self.output_fd: int | None = None
        self.lost: str | None = None  # why the host took no more output, when that was not a reader's wish
        self._host: SerialHost | None = None
        self._uart: Receiver | None = None
        self._waiting: deque[int] = deque()
        self._room = threading.Event()
        self._room.set()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def connect(self, uart: Receiver, host: SerialHost) -> None:
        """Plug in and start to read. The machine's lock is not held."""
        self._uart, self._host = uart, host
        self._thread = threading.Thread(target=self._read_loop, name="serial", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            raise HostRefused(f"serial port: the host gives no thread: {error}") from error

    def transmit(self, byte: int) -> None:
        """From the UART. Output that nobody can take any more is dropped."""
        if self.output_fd is not None:
            self._write(self.output_fd, bytes((byte,)))

    def ready(self) -> None:
        """From the UART: there is room for more."""
        self._feed()

    def close(self) -> None:
        """Stop reading and give everything back, whatever state it is in. Called once, on every way out."""
        self._closing = True
        os.write(self._wake_write, b"x")
        self._room.set()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(timeout=2)
        self._close_host_side()
        for fd in (self._wake_read, self._wake_write):
            os.close(fd)

    def _close_host_side(self) -> None:
        """Undo what the constructor opened."""

    def _filter(self, data: bytes) -> bytes:
        """Input before it is queued; a terminal takes its escape keys out here."""
        return data

    def _end_of_input(self) -> bool:
        """The host's side closed. True when it may come back."""
        return False

    def _wait_fds(self) -> list[int]:
        return [] if self.input_fd is None else [self.input_fd]

    def _read_loop(self) -> None:
        while not self._closing:
            self._room.wait()
            ready = wait_readable([*self._wait_fds(), self._wake_read])
            if self._wake_read in ready:
                return
            if not self._handle(ready):
                return

    def _handle(self, ready: list[int]) -> bool:
        """Take what came. False when no more can."""
        assert self.input_fd is not None and self._host is not None
        try:
            data = os.read(self.input_fd, READ_BYTES)
        except OSError:
            data = b""
        if not data:
            return self._end_of_input()
        self._queue(self._filter(data))
        return True

    def _queue(self, data: bytes) -> None:
        assert self._host is not None
        self._waiting.extend(data)
        if len(self._waiting) > INPUT_BYTES_MAX:
            self._room.clear()
        self._host.post(self._feed)

    def _feed(self) -> None:
        """Under the machine's lock: as much as fits. `received` may call `ready`, hence the test each time round."""
        uart = self._uart
        while uart is not None and self._waiting and uart.can_receive():
            uart.received(self._waiting.popleft())
        if len(self._waiting) <= INPUT_BYTES_MAX:
            self._room.set()

    def _write(self, fd: int, data: bytes) -> None:
        while data and self._wait_for_room(fd):
            try:
                data = data[os.write(fd, data) :]
            except BlockingIOError:
                continue
            except OSError as error:
                self.output_fd = None
                if error.errno not in GONE:
                    self.lost = error.strerror
                elif self._host is not None:
                    self._host.leave()
                return


    def _wait_for_room(self, fd: int) -> bool:
        """Until a write of some bytes does not block. False when the run is to end before that."""
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        while not poll.poll(ROOM_POLL_MS):
            if self._host is not None and self._host.is_wanted_back():
                return False
        return True


class StdioSerial(SerialBackend):
    """The terminal, raw while the machine runs; or whatever standard input and output are. Ctrl-A is the escape key."""

    def __init__(self) -> None:
        super().__init__()
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
    """Output into a new file; no input."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            # a FIFO that nobody reads is refused, not waited for
            self.output_fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
            os.set_blocking(self.output_fd, True)
        except OSError as error:
            raise HostRefused(f"--serial file:{path}: cannot write: {error.strerror}") from error
        self._fd = self.output_fd

    def _close_host_side(self) -> None:
        os.close(self._fd)


class PtySerial(SerialBackend):
    """A pseudo-terminal that any terminal program can open; its name is announced."""

    def __init__(self, announce: Callable[[str], None]) -> None:
        super().__init__()
        try:
            self._master, self._slave = pty.openpty()
        except OSError as error:
            raise HostRefused(f"--serial pty: the host has no pseudo-terminal left: {error.strerror}") from error
        tty.setraw(self._slave)  # and held open here, so that output before anyone listens does not fail
        os.set_blocking(self._master, False)
        self.input_fd = self._master
        self.output_fd = self._master
        announce(f"serial port on {os.ttyname(self._slave)}")

    def transmit(self, byte: int) -> None:
        """Nobody may be listening: what does not fit the pseudo-terminal's buffer is dropped."""
        with contextlib.suppress(OSError):
            os.write(self._master, bytes((byte,)))

    def _close_host_side(self) -> None:
        os.close(self._master)
        os.close(self._slave)


class UnixSerial(SerialBackend):
    """A Unix stream socket to which one client at a time may connect; output before that is dropped."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._client: socket.socket | None = None
        try:
            remove_dead_socket(path)
            self._listener.bind(str(path))
        except OSError as error:
            self._listener.close()
            raise HostRefused(f"--serial unix:{path}: cannot listen: {error.strerror or error}") from error
        self._listener.listen(1)

    def _wait_fds(self) -> list[int]:
        return [self._listener.fileno() if self._client is None else self._client.fileno()]

    def _handle(self, ready: list[int]) -> bool:
        if self._client is None:
            try:
                self._client, _ = self._listener.accept()
            except OSError:  # it went away again, or the host has no descriptor left for it now
                time.sleep(ACCEPT_RETRY_S)
                return True
            self.input_fd = self.output_fd = self._client.fileno()
            return True
        return super()._handle(ready)

    def _end_of_input(self) -> bool:
        assert self._client is not None
        self.input_fd = self.output_fd = None
        self._client.close()
        self._client = None
        return True

    def transmit(self, byte: int) -> None:
        """A client that went away is no reason to stop."""
        fd = self.output_fd
        if fd is not None and self._wait_for_room(fd):
            with contextlib.suppress(OSError):
                os.write(fd, bytes((byte,)))

    def _close_host_side(self) -> None:
        if self._client is not None:
            self._client.close()
        self._listener.close()
        with contextlib.suppress(OSError):
            self._path.unlink()


def remove_dead_socket(path: Path) -> None:
    """A socket that nobody listens on any more, as a killed process leaves it behind."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        if probe.connect_ex(str(path)) == errno.ECONNREFUSED:
            path.unlink()


def wait_readable(fds: list[int]) -> list[int]:
    """Those of `fds` that have something to read or were closed at the other end. poll(2): any number may be open."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return [fd for fd, _ in poll.poll()]


def open_serial(choice: str, announce: Callable[[str], None]) -> SerialBackend:
    """The backend for `--serial CHOICE`. Raises BadOption or HostRefused."""
    kind, _, path = choice.partition(":")
    if choice == "stdio":
        return StdioSerial()
    if choice == "none":
        return SerialBackend()
    if choice == "pty":
        return PtySerial(announce)
    if kind == "file" and path:
        return FileSerial(Path(path))
    if kind == "unix" and path:
        return UnixSerial(Path(path))
    raise BadOption(f"--serial {choice}: expected stdio, file:PATH, pty, unix:PATH or none")
