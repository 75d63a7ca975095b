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
from vmkernel.net.uplinks.host_device import HostDevice

DEVICE = "/dev/net/tun"
TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
FRAME_BYTES_MAX = 64 << 10


class TapDevice(HostDevice):
    """An UplinkDevice. A TAP that was made here goes when it is closed."""

    WHAT = "TAP"
    REFUSED = frozenset((errno.EINVAL,))
    GONE = frozenset((errno.EBADFD,))  # it has been deleted; EIO says that it is down
    _fd = -1

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

    def _read(self) -> bytes:
        return os.read(self._fd, FRAME_BYTES_MAX)

    def _write(self, frame: bytes) -> None:
        os.write(self._fd, frame)

    def _release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
