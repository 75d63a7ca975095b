"""Who is connected to the VMkernel's process: what waits for each, and what each has plugged in. None is waited for."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable

from vmkernel.host.fairness import Allowance
from vmkernel.host.messages import captured_message, frames_message, interface_message, link_message
from vmkernel.host.messages_layout import Link
from vmkernel.net.port import Port
from vmkernel.net.team import Uplink

FRAMES_MAX = 1024  # that wait for one machine
CAPTURED_MAX = 4096  # that wait for one capture
UNSENT_MAX = 64  # other messages


class Client:
    """One connection. `dirty` is told when something is to be sent."""

    def __init__(self, connection: socket.socket, pid: int, since: float, dirty: Callable[[Client], None]) -> None:
        self.socket, self.pid, self.since, self._dirty = connection, pid, since, dirty
        self.unsent: deque[bytes] = deque()
        self.ending = False  # gone as soon as everything is sent
        self.asked = False
        self.watched = 0  # the events that its socket is watched for
        self.budget = 1  # messages that are read at once: as many as came together lately

    def say(self, message: bytes) -> None:
        self.unsent.append(message)
        self._dirty(self)

    def flush(self) -> bool:
        """Send what can be sent now; whether something is left. Raises OSError when nobody is there any more."""
        try:
            while self.unsent:
                self.socket.send(self.unsent[0])
                self.unsent.popleft()
        except BlockingIOError:
            return True
        return False

    @property
    def is_waiting(self) -> bool:
        """For room to send something."""
        return bool(self.unsent)

    @property
    def is_late(self) -> bool:
        """It lets more pile up than anybody should."""
        return len(self.unsent) > UNSENT_MAX


class PortClient(Client):
    """A machine's adapter: an Endpoint.

    `message` is what it said last, of which all before `at` has been done. `wait_ns`: not listened to until then, or 0.
    """

    port: Port  # plugged in at once

    def __init__(self, client: Client, now_ns: int) -> None:
        """What a client becomes when it asks for a port."""
        super().__init__(client.socket, client.pid, client.since, client._dirty)
        self.asked, self.watched = True, client.watched
        self.frames: list[bytes] = []
        self.message, self.at = b"", 0
        self.credit_ns, self.wait_ns, self.allowance = 0, 0, Allowance(now_ns)

    def deliver(self, frame: bytes) -> bool:
        frames = self.frames
        if not frames:
            self._dirty(self)
        elif len(frames) >= FRAMES_MAX:
            return False
        frames.append(frame)
        return True

    def switched(self, on: bool) -> None:
        self.say(link_message(Link.ON if on else Link.OFF))

    def flush(self) -> bool:
        if self.unsent and super().flush():
            return True
        frames = self.frames
        try:
            while frames:
                message, count = frames_message(frames)
                self.socket.send(message)
                del frames[:count]
        except BlockingIOError:
            return True
        return False

    @property
    def is_waiting(self) -> bool:
        return bool(self.unsent or self.frames)


class CaptureClient(Client):
    """One who looks at what passes, at the ports and uplinks that it `wants`.

    `wall_ns` is what to add to the clock of the switches.
    """

    def __init__(self, client: Client, wants: Callable[[Port | Uplink], bool], wall_ns: int) -> None:
        """What a client becomes when it asks for a capture."""
        super().__init__(client.socket, client.pid, client.since, client._dirty)
        self.asked, self.watched = True, client.watched
        self.wants, self.wall_ns, self.lost = wants, wall_ns, 0
        self.interfaces: dict[object, Tap] = {}

    def tap(self, point: object, name: str) -> Tap:
        """At a port or uplink, which has one number from here on."""
        if point not in self.interfaces:
            self.interfaces[point] = Tap(self, len(self.interfaces))
            self.say(interface_message({"number": len(self.interfaces) - 1, "name": name}))
        return self.interfaces[point]

    @property
    def is_late(self) -> bool:
        return False  # what it is late for is lost


class Tap:
    """One point at which frames are copied for a capture."""

    __slots__ = ("_client", "_number")

    def __init__(self, client: CaptureClient, number: int) -> None:
        self._client, self._number = client, number

    def frame(self, frame: bytes, now_ns: int, *, outbound: bool) -> None:
        client = self._client
        if len(client.unsent) >= CAPTURED_MAX:
            client.lost += 1
            return
        at_ns = now_ns + client.wall_ns
        client.say(captured_message(frame, at_ns, self._number, client.lost, outbound=outbound))
