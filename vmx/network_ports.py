"""A machine's ports on the virtual switches of its host: connections to the VMkernel's process, one for each adapter.

`NetworkPorts` has a thread that receives for all of them. When the VMkernel ends, the links go down; the thread
asks for the ports again until they are there, and starts a VMkernel for that, unless somebody has stopped it.
"""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

from hw.net.wiring import AddressFilter
from ringfence.errors import BadInput, HostRefused, RingfenceError
from vmkernel.host.client import KernelPlace
from vmkernel.host.messages import frames_in, wanted_message
from vmkernel.host.messages_layout import FRAME_BYTES_MAX, FRAMES_OF_ONE, LINK, MESSAGE_BYTES_MAX, Kind, Link
from vmkernel.net.network_file import NetworkFile
from vmkernel.net.port import Wanted
from vmx.network_cable import CableEnd

BATCH = 32  # messages from one port before the others have their turn
RETRY_MIN_S, RETRY_MAX_S = 0.1, 1.0


class NetworkPorts:
    """Those of one machine. Made before it is switched on; closed with it."""

    def __init__(self, directory: Path, configuration: Path | None = None) -> None:
        """`directory` is where the VMkernel's socket is. Wire only. Raises HostRefused where the user has no home."""
        self.place = KernelPlace(directory, configuration or NetworkFile.of_user().path)
        self.ports: list[KernelPort] = []
        self._closed = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def open(self, group: str, address: bytes, label: str) -> KernelPort:
        """A port of a port group, until it is closed.

        Raises BadOption for a group that is not there or full, and HostRefused where no VMkernel can be started.
        """
        port = KernelPort(self, group, address, label)
        port.plug_in(start=True)
        with self._lock:
            self.ports.append(port)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="network", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError as error:
                    port.unplug()
                    raise HostRefused(f"network: the host gives no thread: {error}") from error
        self.wake()
        return port

    def remove(self, port: KernelPort) -> None:
        with self._lock:
            if port in self.ports:
                self.ports.remove(port)
        self.wake()

    def close(self) -> None:
        """All ports. Idempotent."""
        for port in list(self.ports):
            port.close()
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self.wake()
        if self._thread is not None:
            self._thread.join()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def wake(self) -> None:
        with suppress(BlockingIOError, OSError):
            os.write(self._wake_write, b"x")

    # the thread

    def _work(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_read, selectors.EVENT_READ)
            while not self._closed:
                waiting = self._watch(selector)
                for key, events in selector.select(waiting):
                    if key.fd == self._wake_read:
                        with suppress(BlockingIOError):
                            os.read(self._wake_read, 64)
                        continue
                    port: KernelPort = key.data[0]
                    if events & selectors.EVENT_WRITE:
                        port.has_room()
                    if events & selectors.EVENT_READ:
                        port.receive()

    def _watch(self, selector: selectors.BaseSelector) -> float | None:
        """Watch every port's connection for what it waits for; how long until one is to be tried again."""
        with self._lock:
            ports = list(self.ports)
        due = [port.retry(self.place) for port in ports]
        # a new connection may have the number of one that has ended: so it is the object that counts
        wanted = {one.fileno(): (port, one) for port in ports if (one := port.connection) is not None}
        for key in list(selector.get_map().values()):
            if key.data is not None and wanted.get(key.fd) != key.data:
                with suppress(KeyError, OSError, ValueError):
                    selector.unregister(key.fd)
        for fd, (port, one) in wanted.items():
            events = selectors.EVENT_READ * (not port.is_wired) | selectors.EVENT_WRITE * port.waits_for_room
            registered = selector.get_map().get(fd)
            if registered is None:
                if fd >= 0 and events:
                    selector.register(fd, events, (port, one))
            elif not events:
                selector.unregister(fd)
            elif registered.events != events:
                selector.modify(fd, events, (port, one))
        return min((one for one in due if one is not None), default=None)


class KernelPort:
    """A SwitchPort: see network_cable.py. Calls come under the machine's lock, what is received on the thread, or on
    the one that reads the socket where the cable's other end does.
    """

    def __init__(self, owner: NetworkPorts, group: str, address: bytes, label: str) -> None:
        self._owner, self.group, self.address, self.label = owner, group, address, label
        self._wiring = threading.Lock()  # taken before the other one, and never in `send`
        self.is_wired = False
        self._lock = threading.RLock()  # guards what follows
        self._socket: socket.socket | None = None
        self._end: CableEnd | None = None
        self._wanted = Wanted(address)
        self._on = self._closed = self._stopped = False
        self.is_blocked = self._untold = False
        self._retry_s, self._retry_at = RETRY_MIN_S, 0.0
        self._buffer = bytearray(MESSAGE_BYTES_MAX)

    # SwitchPort

    def connect(self, end: CableEnd) -> bool:
        with self._lock:
            self._end = end
            self._tell()
        self._wire()
        return self._on

    def disconnect(self) -> None:
        with self._lock:
            self._end, self.is_blocked = None, False
            self._tell()
        self._wire()

    def _wire(self) -> None:
        """Say to the cable's other end which socket it is now."""
        with self._wiring:
            end, connection = self._end, self._socket
            self.is_wired = end is not None and end.wire(None if connection is None else connection.fileno())
        self._owner.wake()

    def send(self, frame: list[memoryview]) -> bool:
        length = sum(map(len, frame))
        with self._lock:
            if self._socket is None or length > FRAME_BYTES_MAX:
                return True  # lost, as in a cable that leads nowhere
            try:
                self._socket.sendmsg([FRAMES_OF_ONE.pack(Kind.FRAMES, length), *frame])
            except BlockingIOError:
                self.is_blocked = True
                self._owner.wake()
                return False
            except OSError:  # nobody is at the other end: the thread sees that too
                return True
        return True

    def set_filter(self, wanted: AddressFilter) -> None:
        with self._lock:
            self._wanted = Wanted(
                wanted.address, wanted.receiving, wanted.unicast, wanted.broadcast, wanted.promiscuous, wanted.hashes
            )
            self._tell()

    def heard(self, message: memoryview | None) -> None:
        try:
            if message is not None:
                self._take(message)
                return
        except BadInput:
            pass
        self.unplug()
        self._owner.wake()

    def is_full(self) -> None:
        with self._lock:
            self.is_blocked = True
        self._owner.wake()

    def close(self) -> None:
        with self._wiring, self._lock:
            self._closed, self._end = True, None
        self.unplug()
        self._owner.remove(self)

    # the connection

    def plug_in(self, *, start: bool) -> None:
        """Raises BadOption and HostRefused."""
        with self._lock:
            told = self._message()
        connection, answer = self._owner.place.open(
            "port", start=start, group=self.group, address=self.address.hex(":"), label=self.label, wanted=told.hex()
        )
        connection.setblocking(False)
        with self._lock:
            if self._closed:
                connection.close()
                return
            self._socket, self._on, self._stopped = connection, answer.get("on") is True, False
            self._retry_s = RETRY_MIN_S
            if self._message() != told:
                self._tell()
            if self._end is not None:
                self._end.switched(self._on)
        self._wire()

    def unplug(self) -> None:
        """The connection, if there is one, has ended."""
        with self._lock:
            connection, self._socket = self._socket, None
            was_blocked, self.is_blocked, self._on = self.is_blocked, False, False
        if connection is None:
            return
        self._wire()
        connection.close()
        with self._wiring:
            with self._lock:
                end = self._end
                if end is not None:
                    end.switched(False)
            if end is not None and was_blocked:
                end.writable()  # what waits is lost now

    def retry(self, place: KernelPlace) -> float | None:
        """On the thread: have a port again, if it is time. How long until it is; None while there is one."""
        if self._socket is not None or self._closed:
            return None
        now = time.monotonic()
        if now >= self._retry_at:
            try:
                self.plug_in(start=not self._stopped)
                return None
            except RingfenceError:
                self._retry_s = min(2 * self._retry_s, RETRY_MAX_S)
                self._retry_at = time.monotonic() + self._retry_s
        return max(0.0, self._retry_at - time.monotonic())

    @property
    def connection(self) -> socket.socket | None:
        return self._socket

    @property
    def waits_for_room(self) -> bool:
        return self.is_blocked or self._untold

    def has_room(self) -> None:
        """On the thread: what was refused may be sent again."""
        with self._wiring:
            with self._lock:
                if self._untold:
                    self._tell()
                was_blocked, self.is_blocked, end = self.is_blocked, False, self._end
            if end is not None and was_blocked:
                end.writable()

    def receive(self) -> None:
        """On the thread."""
        connection = self._socket
        if connection is None:
            return
        try:
            for _ in range(BATCH):
                length, _, flags, _ = connection.recvmsg_into([self._buffer])
                if length == 0 or flags & socket.MSG_TRUNC:
                    self.unplug()
                    return
                with memoryview(self._buffer) as whole, whole[:length] as message:
                    self._take(message)
        except BlockingIOError:
            pass
        except (OSError, BadInput):
            self.unplug()

    def _take(self, message: memoryview) -> None:
        """Raises BadInput."""
        end = self._end
        if message[0] == Kind.FRAMES:
            if end is not None:
                for frame in frames_in(message):
                    end.deliver(frame)
        elif message[0] == Kind.LINK and len(message) == LINK.size:
            with self._lock:
                self._stopped = message[1] == Link.STOPPED
                self._on = message[1] == Link.ON
                if self._end is not None:
                    self._end.switched(self._on)
        else:
            raise BadInput("VMkernel", "message", "frames, or the link", message[:8].hex(" "))

    def _message(self) -> bytes:
        """What this port wants to receive, which is nothing while no cable is in it."""
        return wanted_message(self._wanted if self._end is not None else Wanted(self._wanted.address))

    def _tell(self) -> None:
        """With the lock held: say it anew."""
        if self._socket is None:
            return
        self._untold = False
        try:
            self._socket.send(self._message())
        except BlockingIOError:
            self._untold = True
            self._owner.wake()
        except OSError:
            pass  # nobody is at the other end: the thread sees that too
