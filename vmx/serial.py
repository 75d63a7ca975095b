"""A serial port's cable: which far end it has, as one word of text, and its change while the machine runs.

    stdio               the terminal, or standard input and output
    file:PATH           output into a file, emptied first; a terminal or serial port of the host goes both ways
    pty                 a pseudo-terminal
    unix:PATH           a Unix socket, on which we listen; unix-client:PATH: to which we connect
    tcp:HOST:PORT       likewise; tcp-client:HOST:PORT
    none                nothing
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from ringfence.errors import BadOption
from vmx.serial_backend import QueuedSerial, Receiver, SerialBackend, SerialHost
from vmx.serial_local import FileSerial, NoSerial, PtySerial, StdioSerial, TtySerial, is_terminal
from vmx.serial_sockets import Dialler, Listener, tcp_address, unix_address

__all__ = ["SerialBackend", "SerialCable", "open_serial"]

Announce = Callable[[str], None]
EXPECTED = (
    "expected stdio, file:PATH, pty, unix:PATH, unix-client:PATH, tcp:HOST:PORT, tcp-client:HOST:PORT or none"
)


def open_serial(
    choice: str, announce: Announce, *, origin: str = "--serial", append: bool = False
) -> SerialBackend:
    """The backend that `choice` names. `append`: a file is not emptied. Raises BadOption or HostRefused."""
    kind, _, where = choice.partition(":")
    said = f"{origin} {choice}"
    if choice == "stdio":
        return StdioSerial()
    if choice == "none":
        return NoSerial()
    if choice == "pty":
        return PtySerial(announce, origin)
    if not where or "\0" in where:
        raise BadOption(f"{said}: {EXPECTED}")
    if kind == "file":
        path = Path(where)
        return TtySerial(path, origin) if is_terminal(path) else FileSerial(path, append=append, origin=origin)
    if kind == "unix":
        return QueuedSerial(choice, Listener(unix_address(where), said))
    if kind == "unix-client":
        return QueuedSerial(choice, Dialler(unix_address(where), said, announce))
    if kind == "tcp":
        return listen_tcp(where, said, announce)
    if kind == "tcp-client":
        return QueuedSerial(choice, Dialler(tcp_address(where, said), said, announce))
    raise BadOption(f"{said}: {EXPECTED}")


def listen_tcp(where: str, said: str, announce: Announce) -> QueuedSerial:
    """Port 0 is any free one; the one taken is announced."""
    listener = Listener(tcp_address(where, said), said)
    host, port = listener.socket.getsockname()[:2]
    shown = f"[{host}]" if listener.socket.family == socket.AF_INET6 else host
    announce(f"serial port on tcp:{shown}:{port}")
    return QueuedSerial(f"tcp:{shown}:{port}", listener)


class SerialCable:
    """What a UART has for its far end when that can be unplugged: a SerialBackend to the machine and to the UART.

    `plug` and `unplug` are called under the machine's lock.
    """

    def __init__(
        self,
        choice: str,
        announce: Announce,
        *,
        origin: str = "--serial",
        connected: bool = True,
        append: bool = False,
    ) -> None:
        """`append`: a file goes on where it was. Raises BadOption or HostRefused, as `open_serial`."""
        self.choice, self._announce, self._origin = choice, announce, origin
        self._opened = {choice} if append else set()
        self._lost: str | None = None
        self._uart: Receiver | None = None
        self._host: SerialHost | None = None
        self.backend = self._open(choice) if connected else NoSerial()

    @property
    def where(self) -> str:
        """What a person can connect to, in the form of `open_serial`; `pty:PATH` for a pseudo-terminal."""
        return self.backend.where

    @property
    def lost(self) -> str | None:
        return self.backend.lost or self._lost

    @property
    def connected(self) -> bool:
        return not isinstance(self.backend, NoSerial)

    def connect(self, uart: Receiver, host: SerialHost) -> None:
        self._uart, self._host = uart, host
        self.backend.connect(uart, host)

    def plug(self, choice: str | None = None) -> None:
        """Connect to another far end, or to the same again. The old one has gone even if this raises."""
        self.unplug()
        self._exchange(self._open(choice or self.choice))
        self.choice = choice or self.choice

    def unplug(self) -> None:
        if self.connected:
            self._exchange(NoSerial())

    def drive_lines(self) -> None:
        self.backend.drive_lines()

    def transmit(self, byte: int) -> None:
        self.backend.transmit(byte)

    def ready(self) -> None:
        self.backend.ready()

    def close(self) -> None:
        self.backend.close()

    def _open(self, choice: str) -> SerialBackend:
        """A file that this machine has written to goes on where it was."""
        backend = open_serial(choice, self._announce, origin=self._origin, append=choice in self._opened)
        self._opened.add(choice)
        return backend

    def _exchange(self, backend: SerialBackend) -> None:
        old, self.backend = self.backend, backend
        self._lost = old.lost or self._lost
        old.close()
        if self._uart is not None and self._host is not None:
            backend.connect(self._uart, self._host)
            backend.drive_lines()
