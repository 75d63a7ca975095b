"""The threads on which the core moves a machine's frames, between rings and sockets, without the machine's lock.

What the core leaves to the adapters comes back here: it is handed to their cables, and to the machine's own threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Protocol

from ringfence.errors import HostRefused
from vmm.nic_hall import Heard, Work


class Hall(Protocol):
    """A vmm.nic_hall.NicHall."""

    def work(self) -> Work | None: ...

    def listen(self) -> Heard | None: ...

    def end(self) -> None: ...


class WalkedCable(Protocol):
    """A cable, by the number of its adapter. Any thread."""

    def scan_soon(self) -> None:
        """The adapter itself is to look at its transmit ring."""

    def is_full(self) -> None:
        """The port's socket takes no more for now."""

    def heard(self, message: memoryview | None) -> None:
        """What came from the port's socket and is for the adapter, during the call; None: it has no other end."""


class NetworkThreads:
    """Two of them, from `start` to `close`."""

    def __init__(self, hall: Hall, cables: Mapping[int, WalkedCable]) -> None:
        """Wire only."""
        self._hall, self._cables = hall, cables
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Raises HostRefused when the host gives no thread. Idempotent."""
        if self._threads:
            return
        loops: dict[str, Callable[[], None]] = {"nic-send": self._send, "nic-receive": self._receive}
        for name, loop in loops.items():
            thread = threading.Thread(target=loop, name=name, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                raise HostRefused(f"network: the host gives no thread: {error}") from error
            self._threads.append(thread)

    def close(self) -> None:
        """Idempotent; for good."""
        self._hall.end()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        while (work := self._hall.work()) is not None:
            for number in work.device:
                self._cables[number].scan_soon()
            for number in work.full:
                self._cables[number].is_full()

    def _receive(self) -> None:
        while (heard := self._hall.listen()) is not None:
            self._cables[heard.number].heard(heard.message)
