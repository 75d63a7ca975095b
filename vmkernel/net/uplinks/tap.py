"""A TAP of the host: what a machine sends, the host's own network stack receives, and the other way round.

One that is there and is the user's needs no rights; making one, or bringing it up, takes CAP_NET_ADMIN.
Source: Linux, Documentation/networking/tuntap.rst.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from ringfence.errors import HostRefused
from vmkernel.net.uplinks import host_interface
from vmkernel.net.uplinks.wiring import BATCH

DEVICE = "/dev/net/tun"
TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
FRAME_BYTES_MAX = 64 << 10


class TapDevice:
    """An UplinkDevice. A TAP that was made here goes when it is closed."""

    def __init__(self, name: str) -> None:
        """Raises HostRefused."""
        self.name, self.trouble, self._fd = name, "", -1
        self._closed = self._waited = False
        self._open()

    def _open(self) -> None:
        name = self.name
        try:
            self._fd = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            fcntl.ioctl(self._fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
            host_interface.bring_up(name)
        except OSError as error:
            self._drop()
            refused = error.errno in {errno.EPERM, errno.EACCES}
            hint = "; a TAP of your own (ip tuntap add ... user) that is up needs no rights" if refused else ""
            raise HostRefused(f"TAP {name}: cannot be used: {error.strerror}{hint}") from error
        self.link = host_interface.is_running(name)

    def fileno(self) -> int:
        return self._fd

    def receive(self) -> list[bytes]:
        frames: list[bytes] = []
        try:
            while len(frames) < BATCH:
                frames.append(os.read(self._fd, FRAME_BYTES_MAX))
        except BlockingIOError:
            pass
        except OSError as error:
            self._lost(error)
        return frames

    def send(self, frame: bytes) -> bool:
        try:
            os.write(self._fd, frame)
        except OSError as error:
            if error.errno not in {errno.EAGAIN, errno.ENOBUFS, errno.EINVAL}:
                self._lost(error)
            return False
        return True

    is_waiting = False  # it has a queue of its own; what that does not take is lost

    def room(self) -> None:
        """Nobody waits."""

    def tick(self) -> None:
        if self._fd >= 0:
            self.link = host_interface.is_running(self.name)
            self.trouble = "" if self.link else f"TAP {self.name} is down"
        elif self._waited and not self._closed:
            try:
                self._open()
            except HostRefused as error:
                self.trouble = str(error)
        self._waited = True

    def close(self) -> None:
        self._closed = True
        self._drop()

    def _drop(self) -> None:
        self.link = self._waited = False  # whoever watches the old descriptor has a look before there is another
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _lost(self, error: OSError) -> None:
        """It is down (EIO), or has been deleted (EBADFD), which closes it for good."""
        self.trouble = f"TAP {self.name}: {error.strerror}"
        self.link = False
        if error.errno == errno.EBADFD:
            self._drop()
