"""What a parallel port prints to: a file, a printer of the host, or a pipe.

    file:PATH    a file, emptied first; a device such as /dev/lp0
    pipe:PATH    a FIFO, or a Unix socket on which somebody listens

A pipe's reader may come later, go, and come again; until then what is printed waits, and once much does the printer is
busy. A reader that never comes costs a guest that does not heed BUSY the excess.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ringfence.errors import BadOption, HostRefused
from vmx.output_queue import QUEUE_BYTES
from vmx.serial_backend import PeerSource, QueuedSerial, SerialHost
from vmx.serial_local import OnePeer
from vmx.serial_sockets import Dialler, unix_address

BUSY_BYTES = QUEUE_BYTES * 3 // 4
FIFO_RETRY_S = 0.2
Announce = Callable[[str], None]


class Printer(Protocol):
    """A hw.wiring.ByteSink that the machine starts and closes."""

    where: str

    @property
    def lost(self) -> str | None:
        """Why the host took no more, when it was not for a reader to come."""

    def __call__(self, byte: int) -> None: ...

    def is_busy(self) -> bool:
        """Whether a guest should wait before it prints on."""

    def start(self, host: SerialHost) -> None:
        """The machine runs."""

    def close(self) -> None: ...


class FilePrinter:
    """Straight into a file."""

    def __init__(self, fd: int, where: str) -> None:
        self._fd, self.where = fd, where
        self.lost: str | None = None

    def __call__(self, byte: int) -> None:
        try:
            os.write(self._fd, bytes((byte,)))
        except OSError as error:
            self.lost = error.strerror

    def is_busy(self) -> bool:
        return False

    def start(self, host: SerialHost) -> None:
        """Nothing has to be waited for."""

    def close(self) -> None:
        os.close(self._fd)


class BackChannel:
    """Whatever a reader says is not heard: the port only sends."""

    def can_receive(self) -> bool:
        return True

    def received(self, byte: int) -> None:
        """Dropped."""

    def set_inputs(self, inputs: int) -> None:
        """BUSY is asked for when status is read."""


class QueuedPrinter:
    """Through a queue, to a reader that may be slow or not there."""

    def __init__(self, where: str, peers: PeerSource, *, reads: bool = False) -> None:
        self.where = where
        self._port = QueuedSerial(where, peers, keeps=True, reads=reads)
        self._queue = self._port.queue

    @property
    def lost(self) -> str | None:
        return self._queue.trouble or None

    def __call__(self, byte: int) -> None:
        self._port.transmit(byte)

    def is_busy(self) -> bool:
        return self._queue.waiting >= BUSY_BYTES

    def start(self, host: SerialHost) -> None:
        self._port.connect(BackChannel(), host)

    def close(self) -> None:
        self._port.close()


class FifoReaders:
    """A FIFO's reading end: whether anybody has opened it is found out by trying."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._retry_at = 0.0

    def interest(self) -> list[tuple[int, int]]:
        return []

    def timeout_ms(self) -> int | None:
        return max(0, int((self._retry_at - time.monotonic()) * 1000) + 1)

    def take(self, ready: dict[int, int]) -> int | None:
        if time.monotonic() < self._retry_at:
            return None
        self._retry_at = time.monotonic() + FIFO_RETRY_S
        try:
            return os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None

    def left(self) -> None:
        """Another one may come."""

    def close(self) -> None:
        """Nothing is open between two readers."""


def open_parallel(choice: str, announce: Announce, *, origin: str = "--parallel", append: bool = False) -> Printer:
    """The printer that `choice` names. `append`: a file is not emptied. Raises BadOption or HostRefused."""
    kind, _, where = choice.partition(":")
    said = f"{origin} {choice}"
    if kind not in {"file", "pipe"} or not where or "\0" in where:
        raise BadOption(f"{said}: expected file:PATH or pipe:PATH")
    path = Path(where)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    except OSError as error:
        raise HostRefused(f"{said}: {error.strerror}") from error
    if stat.S_ISFIFO(mode):
        if not os.access(path, os.W_OK):
            raise HostRefused(f"{said}: cannot write: Permission denied")
        return QueuedPrinter(choice, FifoReaders(path))
    if stat.S_ISSOCK(mode):
        return QueuedPrinter(choice, Dialler(unix_address(where), said, announce), reads=True)
    if kind == "pipe":
        raise HostRefused(f"{said}: expected a FIFO or a socket")
    return open_file(path, said, choice, append=append)


def open_file(path: Path, said: str, choice: str, *, append: bool) -> Printer:
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | (os.O_APPEND if append else os.O_TRUNC)
    try:
        fd = os.open(path, flags | os.O_NONBLOCK, 0o644)
    except OSError as error:
        raise HostRefused(f"{said}: cannot write: {error.strerror}") from error
    if not stat.S_ISCHR(os.fstat(fd).st_mode):
        return FilePrinter(fd, choice)
    return QueuedPrinter(choice, OnePeer(fd))
