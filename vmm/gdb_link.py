"""One connection of a GDB: packets in order, with ^C seen at once; and the socket that GDBs connect to."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from ringfence.errors import BadOption, HostRefused
from vmm.gdb_packets import PACKET_BYTES_MAX, PacketReader, Signal, frame

PACKETS_WAITING_MAX = 64


class Link:
    """One connection. A thread of its own reads, so that ^C is seen while the machine runs."""

    def __init__(self, connection: socket.socket, interrupt: Callable[[], None]) -> None:
        self._connection, self._interrupt = connection, interrupt
        self._packets: queue.Queue[tuple[int, bytes | None]] = queue.Queue(PACKETS_WAITING_MAX)
        self._reader = PacketReader()
        self._acknowledges = True
        self._last = b""
        self._sending = threading.Lock()
        self._count = 0
        self._interrupted_at = -1
        self._thread = threading.Thread(target=self._read, name="gdb", daemon=True)
        self._thread.start()

    def next(self, timeout_s: float) -> tuple[int, bytes | None]:
        """The next packet and its number; None instead when the connection is gone. Raises queue.Empty."""
        return self._packets.get(timeout=timeout_s)

    def interrupted_since(self, number: int) -> bool:
        """Did a ^C follow the packet of this number?"""
        return self._interrupted_at >= number

    def send(self, data: bytes) -> None:
        """A packet. A connection that is gone is noticed by `next`."""
        self._last = frame(data)
        self._write(self._last)

    def stop_acknowledging(self) -> None:
        self._acknowledges = False

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(queue.Empty):
            while True:  # a reader that waits for room would never see the end
                self._packets.get_nowait()
        self._thread.join(timeout=2)
        self._connection.close()

    def _write(self, data: bytes) -> None:
        with self._sending, contextlib.suppress(OSError):
            self._connection.sendall(data)

    def _read(self) -> None:
        while True:
            try:
                data = self._connection.recv(PACKET_BYTES_MAX)
            except OSError:
                data = b""
            if not data:
                self._packets.put((self._count + 1, None))
                self._interrupt()
                return
            for event in self._reader.feed(data):
                self._take(event)

    def _take(self, event: bytes | Signal) -> None:
        if isinstance(event, bytes):
            if self._acknowledges:
                self._write(b"+")
            self._count += 1
            self._packets.put((self._count, event))
        elif event is Signal.INTERRUPT:
            self._interrupted_at = self._count
            self._interrupt()
        elif event is Signal.RESEND:
            self._write(self._last)
        elif self._acknowledges:
            self._write(b"-")


def listen(where: str) -> tuple[socket.socket, str]:
    """A listener for `tcp:PORT` (loopback only; 0: any free one) or `unix:PATH`, and what to type into gdb."""
    kind, _, rest = where.partition(":")
    if kind == "tcp" and rest.isascii() and rest.isdecimal() and int(rest) < 1 << 16:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        address: tuple[str, int] | str = ("127.0.0.1", int(rest))
    elif kind == "unix" and rest:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        address = str(Path(rest).absolute())
    else:
        raise BadOption(f"--gdb {where}: expected tcp:PORT or unix:PATH")
    try:
        listener.bind(address)
        listener.listen(1)
    except OSError as error:
        listener.close()
        raise HostRefused(f"--gdb {where}: cannot listen: {error.strerror or error}") from error
    if kind == "tcp":
        return listener, f"target remote 127.0.0.1:{listener.getsockname()[1]}"
    return listener, f"target remote {address}"


def close_listener(listener: socket.socket) -> None:
    """Also removes a Unix socket's name."""
    path = listener.getsockname() if listener.family == socket.AF_UNIX else ""
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    if path:
        Path(path).unlink(missing_ok=True)
