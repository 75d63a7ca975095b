"""Far ends of a serial cable in another process: Unix and TCP sockets, where we listen or connect.

A listener takes one client at a time; the next one waits until it has gone. Who connects tries again, later and later,
until the other side is there, and again when it has left. TCP peers that vanish without a word are found out in a
minute, or when output to them is not acknowledged.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path

from ringfence.errors import BadOption, HostRefused
from vmx.dead_socket import remove_dead_socket

ACCEPT_RETRY_S = 0.1
RETRY_S, RETRY_S_MAX = 0.2, 5.0
KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_PROBES = 30, 10, 3
UNACKNOWLEDGED_MS = 30_000
SEND_BYTES = 1 << 15  # the host would keep megabytes for a reader that has stalled
PORT_MAX = 65535
TRY_AGAIN = frozenset({
    errno.ENOENT, errno.ECONNREFUSED, errno.EAGAIN, errno.ETIMEDOUT, errno.ECONNRESET, errno.EHOSTUNREACH,
    errno.ENETUNREACH,
})  # fmt: skip

Address = tuple[socket.AddressFamily, str | tuple[object, ...]]


class Listener:
    """Clients that connect to us."""

    def __init__(self, address: Address, said: str) -> None:
        """Raises HostRefused with what was `said`."""
        family, where = address
        self._path = Path(str(where)) if family == socket.AF_UNIX else None
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            if self._path is not None:
                remove_dead_socket(self._path)
            else:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind(where)
            self.socket.listen(1)
            self.socket.setblocking(False)
        except (OSError, ValueError) as error:
            self.socket.close()
            reason = getattr(error, "strerror", None) or error
            raise HostRefused(f"{said}: cannot listen: {reason}") from error

    def interest(self) -> list[tuple[int, int]]:
        return [(self.socket.fileno(), select.POLLIN)]

    def timeout_ms(self) -> int | None:
        return None

    def take(self, ready: dict[int, int]) -> int | None:
        if not ready:
            return None
        try:
            client, _ = self.socket.accept()
        except OSError:  # it went away again, or the host has no descriptor left for it now
            time.sleep(ACCEPT_RETRY_S)
            return None
        return prepare(client)

    def left(self) -> None:
        """The next one may come."""

    def close(self) -> None:
        self.socket.close()
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()


class Dialler:
    """The other side listens: connect to it, as often as it takes."""

    def __init__(self, address: Address, said: str, announce: Callable[[str], None]) -> None:
        """Raises HostRefused for what no waiting will help."""
        self._address, self._said, self._announce = address, said, announce
        self._socket: socket.socket | None = None
        self._retry_at = 0.0
        self._delay_s = RETRY_S
        self._announced = False
        problem = self._dial()
        if problem and problem not in TRY_AGAIN:
            raise HostRefused(f"{said}: cannot connect: {os.strerror(problem)}")

    def interest(self) -> list[tuple[int, int]]:
        return [] if self._socket is None else [(self._socket.fileno(), select.POLLOUT)]

    def timeout_ms(self) -> int | None:
        return None if self._socket is not None else max(0, int((self._retry_at - time.monotonic()) * 1000) + 1)

    def take(self, ready: dict[int, int]) -> int | None:
        if self._socket is None:
            if time.monotonic() < self._retry_at or self._dial():
                return None
            assert self._socket is not None
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        if not poll.poll(0):
            return None
        made, self._socket = self._socket, None
        problem = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if problem or is_ourselves(made):
            made.close()
            self._wait(problem or errno.ECONNREFUSED)
            return None
        self._delay_s, self._announced = RETRY_S, False
        return prepare(made)

    def left(self) -> None:
        self._retry_at = time.monotonic() + self._delay_s

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def _dial(self) -> int:
        """Begin to connect; errno, 0 when it is done or under way."""
        family, where = self._address
        try:
            made = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:  # no descriptor left for it now
            problem = error.errno or errno.EMFILE
            self._wait(problem)
            return problem
        made.setblocking(False)
        try:
            problem = made.connect_ex(where)
        except (OSError, ValueError) as error:
            made.close()
            raise HostRefused(f"{self._said}: cannot connect: {error}") from error
        if problem and problem != errno.EINPROGRESS:
            made.close()
            self._wait(problem)
            return problem
        self._socket = made
        return 0

    def _wait(self, problem: int) -> None:
        if not self._announced and problem in TRY_AGAIN:
            self._announced = True
            self._announce(f"{self._said}: not there yet ({os.strerror(problem)}): trying again")
        self._retry_at = time.monotonic() + self._delay_s
        self._delay_s = min(self._delay_s * 2, RETRY_S_MAX)


def prepare(peer: socket.socket) -> int:
    """A connected socket's descriptor, set up to send single characters and to notice that the other side is gone."""
    peer.setblocking(False)
    if peer.family != socket.AF_UNIX:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
    return peer.detach()


def is_ourselves(peer: socket.socket) -> bool:
    """A TCP connection to a free local port can meet itself."""
    try:
        return peer.family != socket.AF_UNIX and peer.getsockname() == peer.getpeername()
    except OSError:
        return False


def unix_address(path: str) -> Address:
    return socket.AF_UNIX, path


def tcp_address(text: str, said: str) -> Address:
    """Of HOST:PORT, an IPv6 host in brackets. Raises BadOption, or HostRefused for a name that nobody knows."""
    host, colon, port = text.rpartition(":")
    if not host or not colon or not (port.isascii() and port.isdigit()) or int(port[:6]) > PORT_MAX:
        raise BadOption(f"{said}: expected HOST:PORT")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise HostRefused(f"{said}: no address for {host}: {getattr(error, 'strerror', None) or error}") from error
    return found[0][0], found[0][4]
