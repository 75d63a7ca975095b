"""The cable between a network adapter and a port of a switch: frames that come wait here for the machine.

The adapter calls from a vCPU's thread, under the machine's lock, and the port is called there, too; the port calls back
from any thread. A frame that finds no buffer waits until the driver has given some back; of more than QUEUE_MAX the
oldest is lost, in the adapter's eyes too, as frames on a wire would be. Where the adapter can use the port's socket
itself (`Nic.wire`), most frames do not come this way.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from hw.net.wiring import AddressFilter, Nic

QUEUE_MAX = 256
BURST = 64  # frames that one look at the queue delivers, so that the guest gets on


class CableHost(Protocol):
    """What the cable needs of the machine."""

    def post(self, action: Callable[[], None]) -> None:
        """Have `action` called soon, under the machine's lock. Any thread."""


class CableEnd(Protocol):
    """What a port calls, from any thread, between `connect` and `disconnect`."""

    def deliver(self, frame: bytes) -> None:
        """A frame, without its FCS, for the adapter."""

    def writable(self) -> None:
        """A port that refused a frame takes some again. The caller holds nothing that `SwitchPort.send` needs."""

    def switched(self, on: bool) -> None:
        """The port is on, or off: the guest sees it as its link."""

    def wire(self, fd: int | None) -> bool:
        """The socket that frames come from and go to, until it is another or None; the one before is not used any more.

        True: it is read at this end, and `SwitchPort.heard` gets what is no frame for the adapter's ring. The caller
        holds nothing that `SwitchPort.send` needs.
        """


class SwitchPort(Protocol):
    """One port of a virtual switch. All but `close` is called under the machine's lock, and none of it raises."""

    def connect(self, end: CableEnd) -> bool:
        """From here on frames may come. Whether the port is on; `switched` says when that changes."""

    def disconnect(self) -> None:
        """The end is not called any more. Idempotent."""

    def send(self, frame: list[memoryview]) -> bool:
        """The views end with the call. False: not now; `CableEnd.writable` follows when there is room."""

    def set_filter(self, wanted: AddressFilter) -> None:
        """What the adapter's driver wants; the adapter drops what it did not want."""

    def heard(self, message: memoryview | None) -> None:
        """A message of the socket given to `CableEnd.wire`; None: nobody is at its other end. Any thread."""

    def is_full(self) -> None:
        """That socket takes no more: `CableEnd.writable` follows. Any thread."""

    def close(self) -> None:
        """The machine is switched off: the port is free. Idempotent."""


class Cable:
    """A hw.net.wiring.Port for the adapter, and a CableEnd for the port. `plugged`: it is in the port."""

    def __init__(self, host: CableHost, port: SwitchPort | None, *, plugged: bool) -> None:
        """Wire only. Without a port the link is down for good."""
        self._host, self.port, self.plugged = host, port, plugged
        self.nic: Nic | None = None
        self.look_soon: Callable[[], None] = lambda: None  # have `ready` called within a few milliseconds; any thread
        self.dropped = 0  # a counter, as the adapter's are; never saved
        self._started = self._on = False
        self._wanted: AddressFilter | None = None
        self._frames: deque[bytes] = deque()
        self._lock = threading.Lock()  # guards what follows
        self._posted = self._blocked = False

    # from the machine, under its lock

    def start(self) -> None:
        """The machine runs. Idempotent."""
        if not self._started:
            self._started = True
            self._adapter.set_waits(False)
            self._plug()
            self._adapter.port_ready()

    def set_plugged(self, plugged: bool) -> None:
        """While the machine runs, or before."""
        if plugged == self.plugged:
            return
        self._unplug()
        self.plugged = plugged
        self._plug()
        self._adapter.port_ready()  # what waited for a port that has gone is lost now

    def stop(self) -> None:
        """No frame comes any more, and those that wait are lost. Idempotent."""
        self._unplug()
        self._started = False

    def close(self) -> None:
        """The machine is switched off. Idempotent."""
        self.stop()
        if self.port is not None:
            self.port.close()

    @property
    def _adapter(self) -> Nic:
        assert self.nic is not None, "a cable without an adapter"
        return self.nic

    @property
    def is_waiting(self) -> bool:
        """Do frames wait for buffers? Any thread."""
        return bool(self._frames)

    @property
    def _live(self) -> SwitchPort | None:
        """The port, while frames can pass."""
        return self.port if self.plugged and self._started else None

    def _plug(self) -> None:
        if (port := self._live) is not None:
            self._on = port.connect(self)
            if self._wanted is not None:
                port.set_filter(self._wanted)
        self._adapter.set_link(self._on)

    def _unplug(self) -> None:
        if (port := self._live) is not None:
            port.disconnect()
            self._adapter.wire(None)
        self._on = self._blocked = False
        self._frames.clear()
        self._say_whether_frames_wait()

    def _switch(self, on: bool) -> None:
        self._on = on and self._live is not None
        self._adapter.set_link(self._on)

    # from the adapter, under the machine's lock

    def transmit(self, frame: list[memoryview]) -> bool:
        """What is sent into a cable that leads nowhere is lost."""
        self.look_soon()
        port = self._live
        return port is None or port.send(frame)

    def ready(self) -> None:
        if self._frames:
            self._hand_over()
        else:
            self._say_whether_frames_wait()

    def set_filter(self, wanted: AddressFilter) -> None:
        self._wanted = wanted
        if (port := self._live) is not None:
            port.set_filter(wanted)

    def _hand_over(self) -> None:
        """What has come, as far as the driver has buffers; after a burst the guest gets on first."""
        nic, frames = self._adapter, self._frames
        with self._lock:
            self._posted = self._blocked = False
        self._offer_some(nic, frames)
        self._say_whether_frames_wait()

    def _say_whether_frames_wait(self) -> None:
        """What comes after the queue was looked at says so itself."""
        self._adapter.set_waits(False)
        if self._frames:
            self._adapter.set_waits(True)

    def _offer_some(self, nic: Nic, frames: deque[bytes]) -> None:
        for _ in range(BURST):
            if not frames:
                return
            views = [memoryview(frames[0])]
            if not nic.offer(views):
                if len(frames) <= QUEUE_MAX:
                    self._blocked = True
                    return
                nic.receive(views)  # which the adapter counts as missed
                self.dropped += 1
            frames.popleft()
        self._post()

    def _post(self) -> None:
        with self._lock:
            if self._posted:
                return
            self._posted = True
        self._host.post(self._hand_over)

    # from the port, any thread

    def deliver(self, frame: bytes) -> None:
        """A machine that does not look, because it stands still, loses what is more than the queue holds twice.

        One whose driver is at work is not disturbed: it asks itself when it is done.
        """
        waiting = len(self._frames)
        if waiting >= 2 * QUEUE_MAX:
            self.dropped += 1
            return
        self._frames.append(frame)
        self._adapter.set_waits(True)  # before it is asked whether the driver is at work: nic.c, write_rdp
        if waiting >= QUEUE_MAX or not (self._blocked or self._adapter.attended):
            self._post()
        elif not waiting:
            self.look_soon()

    def writable(self) -> None:
        if not self._adapter.has_room():
            self.scan_soon()

    def wire(self, fd: int | None) -> bool:
        return self._adapter.wire(fd)

    # from the machine's network threads

    def scan_soon(self) -> None:
        """The adapter is to look at its transmit ring."""
        self._host.post(self._adapter.port_ready)

    def is_full(self) -> None:
        if (port := self.port) is not None:
            port.is_full()

    def heard(self, message: memoryview | None) -> None:
        if (port := self.port) is not None:
            port.heard(message)

    # from the port, any thread

    def switched(self, on: bool) -> None:
        self._host.post(lambda: self._switch(on))
