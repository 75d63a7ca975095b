"""Who is connected to the VMkernel's process: what waits for each, and what each has plugged in. None is waited for."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
import time
from collections import deque
from collections.abc import Callable, Hashable

from vmkernel.host.fairness import Allowance
from vmkernel.host.inbox import Inbox
from vmkernel.host.messages import captured_message, frames_message, interface_message, link_message
from vmkernel.host.messages_layout import SEND_BUFFER_BYTES, Link
from vmkernel.net.port import Port
from vmkernel.net.team import Uplink

CAPTURED_MAX = 4096  # that wait for one capture
UNSENT_MAX = 64  # other messages
NARROW_BYTES = 32 << 10  # under way to a machine that does not keep up with several; the host doubles it
UNREAD = struct.Struct("i")
NARROW_NS = 2_000_000_000  # so long after the last time that several had to wait


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


class Turn:
    """Whose frames are being forwarded now."""

    __slots__ = ("sender",)

    def __init__(self) -> None:
        self.sender: Hashable = None  # a PortClient, the name of an uplink, or None


class PortClient(Client):
    """A machine's adapter: an Endpoint.

    `message` is what it said last, of which all before `at` has been done. `wait_ns`: not listened to until then, or 0.
    """

    port: Port  # plugged in at once

    def __init__(self, client: Client, turn: Turn, now_ns: int) -> None:
        """What a client becomes when it asks for a port."""
        super().__init__(client.socket, client.pid, client.since, client._dirty)
        self.asked, self.watched = True, client.watched
        self.inbox, self._turn, self.is_narrow = Inbox(), turn, False
        self.later_ns = 0  # when to try again, though there is room
        self.message, self.at = b"", 0
        self.credit_ns, self.wait_ns, self.allowance = 0, 0, Allowance(now_ns)

    @property
    def address(self) -> bytes:
        return self.port.wanted.address

    def deliver(self, frame: bytes) -> bool:
        inbox = self.inbox
        if not inbox.waiting or self.later_ns:
            self._dirty(self)
        return inbox.put(self._turn.sender, frame)

    def switched(self, on: bool) -> None:
        self.say(link_message(Link.ON if on else Link.OFF))

    def flush(self) -> bool:
        if self.unsent and super().flush():
            return True
        inbox = self.inbox
        if self.is_narrow:
            return self._flush_narrow()
        if inbox.is_mixed and self._under_way() > NARROW_BYTES:
            self._narrow(NARROW_BYTES)
            return self._flush_narrow()
        inbox.is_mixed = False
        try:
            while inbox.waiting:
                message, count = frames_message(inbox.next())
                self.socket.send(message)
                inbox.sent(count)
        except BlockingIOError:
            if inbox.is_contended:
                self._narrow(NARROW_BYTES)
            return True
        return False

    def _flush_narrow(self) -> bool:
        inbox, now = self.inbox, time.monotonic_ns()
        self.later_ns = 0
        try:
            while inbox.waiting:
                frames = inbox.choose(now)
                if not frames:
                    self.later_ns = inbox.due_ns
                    return True
                message, count = frames_message(frames)
                self.socket.send(message)
                inbox.sent(count)
        except BlockingIOError:
            return True
        finally:
            if now - inbox.contended_ns > NARROW_NS:
                self._narrow(SEND_BUFFER_BYTES)
        return False

    def _under_way(self) -> int:
        """Bytes that the machine has not taken yet, with what the host needs for them."""
        return UNREAD.unpack(fcntl.ioctl(self.socket, termios.TIOCOUTQ, bytes(UNREAD.size)))[0]

    def _narrow(self, under_way: int) -> None:
        self.is_narrow = under_way == NARROW_BYTES
        self.inbox.contended_ns = time.monotonic_ns()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, under_way)

    @property
    def is_waiting(self) -> bool:
        return bool(self.unsent or (self.inbox.waiting and not self.later_ns))


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
