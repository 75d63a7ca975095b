"""A link to another host's switch: datagrams of UDP or of a Unix socket, one frame each and nothing else.

Takes no rights. What does not come from the other's address is not received. QEMU's `-netdev dgram` (and the older
`socket,udp=`) speaks the same. The link is down while the other end refuses what is sent; meanwhile a frame that
concerns nobody asks every second or two. A UDP link to a host that is silent is up: only beacon probing finds that out.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from typing import Any

from ringfence.errors import HostRefused
from vmkernel.net.frames import rarp
from vmkernel.net.uplinks.outbox import Outbox
from vmkernel.net.uplinks.place import UdpLink, UnixLink
from vmkernel.net.uplinks.wiring import BATCH

FRAME_BYTES_MAX = 64 << 10
REFUSED = frozenset((
    errno.ECONNREFUSED, errno.ENOENT, errno.ENOTCONN, errno.EDESTADDRREQ, errno.ECONNRESET, errno.EPERM,
))  # fmt: skip
BUFFER_BYTES = 1 << 20


class DatagramDevice:
    """An UplinkDevice. `address` is the uplink's own, for the frames that ask."""

    def __init__(self, place: UdpLink | UnixLink, address: bytes) -> None:
        """Raises HostRefused."""
        self._place, self._probe = place, rarp(address)
        self.link, self.trouble = False, ""
        self._other: tuple[int, int] | None = None  # the Unix socket that we are connected to
        self._asked = False
        self._socket = open_socket(place)
        self._outbox = Outbox(self._socket.send)
        self._ours = identity(place.local) if isinstance(place, UnixLink) else None
        self.tick()
        self.tick()  # a refusal of this host's own is known at once

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self) -> list[bytes]:
        frames: list[bytes] = []
        try:
            for _ in range(BATCH):
                frame, sender = self._socket.recvfrom(FRAME_BYTES_MAX)
                if self._ours is None or sender == self._place.remote:
                    frames.append(frame)
        except BlockingIOError:
            pass
        except OSError as error:
            self._failed(error)
        if frames and not self.link and (not isinstance(self._place, UnixLink) or self._find(self._place)):
            self._up()
        return frames

    def send(self, frame: bytes) -> bool:
        try:
            return self._outbox.send(frame)
        except OSError as error:
            self._failed(error)
            return False

    @property
    def is_waiting(self) -> bool:
        return bool(self._outbox)

    def room(self) -> None:
        try:
            self._outbox.flush()
        except OSError as error:
            self._failed(error)

    def tick(self) -> None:
        """A refusal of a UDP datagram may come later: the link is up a tick after a question that nobody refused."""
        if self._socket.fileno() < 0:
            return
        if isinstance(self._place, UnixLink) and not self._find(self._place):
            return
        if self.link:
            return
        if self._asked and not self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._up()
        else:
            self._asked = self.send(self._probe)
            if self._asked and self._ours is not None:
                self._up()

    def _find(self, place: UnixLink) -> bool:
        """Connected to the socket that has the other's name now?"""
        now = identity(place.remote)
        if now is None or now == self._other:
            if now is None:
                self._failed(OSError(errno.ENOENT, ""))
            return now is not None
        try:
            self._socket.connect(place.remote)
        except OSError as error:
            self._failed(error)
            return False
        self._other = now
        return True

    def close(self) -> None:
        self.link = False
        if self._socket.fileno() < 0:
            return
        self._socket.close()
        if self._ours is not None and isinstance(self._place, UnixLink) and identity(self._place.local) == self._ours:
            with suppress(OSError):
                os.unlink(self._place.local)

    def _up(self) -> None:
        self.link, self.trouble = True, ""

    def _failed(self, error: OSError) -> None:
        if error.errno in REFUSED:
            self._asked, self._other = False, None
            self._outbox.clear()
            self.link, self.trouble = False, f"{self._place}: nobody is at the other end"


def identity(path: str) -> tuple[int, int] | None:
    """Of the file that has this name now."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def open_socket(place: UdpLink | UnixLink) -> socket.socket:
    """Bound, and for UDP connected, so that it takes nothing from others. Raises HostRefused."""
    try:
        if isinstance(place, UnixLink):
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                remove_dead(place.local)
                os.fchmod(made.fileno(), 0o600)  # the name gets this mode as it comes into being
                made.bind(place.local)
            except BaseException:
                made.close()
                raise
        else:
            family, kind, protocol, _, remote = look_up(place.remote, socket.AF_UNSPEC)
            local = look_up(place.local, family)[4]
            made = socket.socket(family, kind, protocol)
            try:
                made.bind(local)
                made.connect(remote)
            except BaseException:
                made.close()
                raise
    except (OSError, ValueError) as error:
        raise HostRefused(f"{place}: cannot be used: {getattr(error, 'strerror', None) or error}") from error
    made.setblocking(False)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        made.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
    return made


def look_up(place: tuple[str, int], family: int) -> Any:
    """The first answer of the resolver; an IPv6 address may be in brackets. Raises OSError."""
    host, port = place
    return socket.getaddrinfo(host.removeprefix("[").removesuffix("]"), port, family, socket.SOCK_DGRAM)[0]


def remove_dead(path: str) -> None:
    """A socket that nobody has open any more."""
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
                if probe.connect_ex(path) == errno.ECONNREFUSED:
                    os.unlink(path)
