"""What a TAP and an interface of the host have in common as uplinks: batches, a link that is looked at, coming again.

The device's queue is the host's; what that does not take is lost. What has been deleted is tried again each second, by
its name. Source: Linux, netdevice(7).
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod

from ringfence.errors import HostRefused
from vmkernel.net.uplinks import host_interface
from vmkernel.net.uplinks.wiring import BATCH

FULL = frozenset((errno.EAGAIN, errno.ENOBUFS))


class HostDevice(ABC):
    """An UplinkDevice, but for what `WHAT` it is: `_open`, `_read`, `_write`, `_release` and `fileno`."""

    WHAT: str  # as people call it
    REFUSED: frozenset[int]  # errors of `_write` that concern the frame only
    GONE: frozenset[int]  # errors that say that it has been deleted

    def __init__(self, name: str) -> None:
        """Raises HostRefused."""
        self.name, self.trouble, self.link = name, "", False
        self._closed = self._waited = False
        self._open()

    @abstractmethod
    def _open(self) -> None:
        """Raises HostRefused."""

    @abstractmethod
    def _read(self) -> bytes | None:
        """One frame; None for one that does not count. Raises OSError, BlockingIOError when there is none."""

    @abstractmethod
    def _write(self, frame: bytes) -> None:
        """Raises OSError."""

    @abstractmethod
    def _release(self) -> None:
        """Give back what `_open` took; `fileno` is -1 afterwards. Idempotent."""

    @abstractmethod
    def fileno(self) -> int:
        """-1: there is no device now."""

    def receive(self) -> list[bytes]:
        frames: list[bytes] = []
        if self.fileno() < 0:
            return frames
        try:
            for _ in range(BATCH):
                if (frame := self._read()) is not None:
                    frames.append(frame)
        except BlockingIOError:
            pass
        except OSError as error:
            self._lost(error)
        return frames

    def send(self, frame: bytes) -> bool:
        if self.fileno() < 0:
            return False
        try:
            self._write(frame)
        except OSError as error:
            if error.errno not in FULL | self.REFUSED:
                self._lost(error)
            return False
        return True

    is_waiting = False

    def room(self) -> None:  # noqa: B027 - right for all
        """Nobody waits."""

    def tick(self) -> None:
        if self.fileno() >= 0:
            self.link = host_interface.is_running(self.name)
            self.trouble = "" if self.link else f"{self.WHAT} {self.name} is down"
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
        self._release()

    def _lost(self, error: OSError) -> None:
        self.trouble, self.link = f"{self.WHAT} {self.name}: {error.strerror}", False
        if error.errno in self.GONE:  # one of its name may come
            self._drop()
