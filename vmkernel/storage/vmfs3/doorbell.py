"""Tells the host that holds a lock that another waits for it: between hosts that share the image file or device.

On the disk nothing says that somebody waits, so hosts of a SAN find out by trying. Hosts of one machine ring: who waits
for the lock at byte P of the volume keeps an open-file-description lock on byte RING + P of the head's file, far past
its end. Who holds the lock looks there, and gives way. Where the file system has no such locks nobody rings, and a lock
is found free only by luck or when its holder has nothing to do.
"""

from __future__ import annotations

import contextlib
import fcntl
import struct
from collections.abc import Iterator
from contextlib import contextmanager

FLOCK = struct.Struct("hhqqi4x")  # struct flock of 64-bit hosts
RING = 1 << 61
WHOLE = 1 << 60


class Doorbell:
    """Of one opening of the head device's file."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @contextmanager
    def ringing(self, position: int) -> Iterator[None]:
        with contextlib.suppress(OSError):
            self._lock(fcntl.F_RDLCK, position)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                self._lock(fcntl.F_UNLCK, position)

    def rings(self, position: int | None = None) -> bool:
        """Does another host wait for this lock? Without a position: for any."""
        at, length = (RING, WHOLE) if position is None else (RING + position, 1)
        try:
            answer = fcntl.fcntl(self.fd, fcntl.F_OFD_GETLK, FLOCK.pack(fcntl.F_WRLCK, 0, at, length, 0))
        except OSError:
            return False
        return bool(FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)

    def _lock(self, how: int, position: int) -> None:
        fcntl.fcntl(self.fd, fcntl.F_OFD_SETLK, FLOCK.pack(how, 0, RING + position, 1, 0))
