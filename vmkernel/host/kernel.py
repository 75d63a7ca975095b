"""The VMkernel's process: one thread that moves frames between machines, uplinks and captures, and answers requests.

It begins with the first machine that needs a port, and ends a moment after the last one has gone, unless it was started
to stay. A round has one turn for each machine, of bounded work, so that one that floods leaves the others their share
(fairness.py); a machine above its bandwidth is not listened to until it may send again. What a client says wrongly ends
its own connection only.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ringfence.errors import BadInput, BadOption, RingfenceError
from vmkernel.host.clients import CaptureClient, Client, PortClient, Turn
from vmkernel.host.devices import Devices, OwnPort
from vmkernel.host.fairness import CHANGE_NS, COPY_NS, CREDIT_MIN_NS, MESSAGE_NS, TURN_NS, VAIN_NS, work_of
from vmkernel.host.messages import answers, link_message, lone_frame, next_frames, parse_json, wanted_in
from vmkernel.host.messages_layout import HEADER, MESSAGE_BYTES_MAX, SEND_BUFFER_BYTES, VERSION, Kind, Link
from vmkernel.host.status import status
from vmkernel.net.cdp import Identity
from vmkernel.net.ethernet_spec import GROUP, SOURCE
from vmkernel.net.host_network import parse_station
from vmkernel.net.network import TOKEN_BYTES, Network
from vmkernel.net.network_file import NetworkFile
from vmkernel.net.port import Port, Wanted
from vmkernel.net.team import Uplink

CLIENTS_MAX = 5000
MESSAGES_A_TURN = 32
FRAMES_AT_ONCE = 64
REQUEST_S, LINGER_S, TICK_S = 10.0, 2.0, 1.0
ACCEPTS_A_ROUND = 64
TEXT_MAX = 200
UCRED = struct.Struct("3i")  # pid, uid, gid of SO_PEERCRED


class Kernel:
    """`listener` is bound and listening. `file` says what network there is to be."""

    def __init__(self, listener: socket.socket, file: NetworkFile, *, stay: bool) -> None:
        """Raises BadInput and HostRefused for the file."""
        self.network = Network(os.urandom(TOKEN_BYTES), Identity(os.uname().nodename, software()))
        self.devices = Devices(self.network)
        self.stay, self._file, self._listener = stay, file, listener
        self.clients: dict[int, Client] = {}
        self._dirty: dict[Client, None] = {}
        self._whose = Turn()
        self._later: dict[PortClient, None] = {}  # for whom something waits that is not to go yet
        self._again: dict[Client, None] = {}  # whose turn ended before all was done
        self._paused: dict[PortClient, None] = {}  # not listened to for now
        self._watched: dict[int, tuple[object, str, bool]] = {}  # device, its name, whether frames wait in it
        self._due_ns: int | None = None  # when the switches are to be looked at
        self._buffer = memoryview(bytearray(MESSAGE_BYTES_MAX + 1))  # one more than anybody may send
        self._ending = self._captures = False
        self._last_used = self._ticked = time.monotonic()
        self._epoll = select.epoll()
        listener.setblocking(False)
        self._epoll.register(listener.fileno(), select.EPOLLIN)
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._epoll.register(self._wake_read, select.EPOLLIN)
        self._verbs: dict[str, Callable[[Client, dict[str, Any]], dict[str, Any]]] = {
            "port": self._port, "capture": self._capture, "status": self._status, "reload": self._reload,
            "stop": self._stop, "stay": self._stay,
        }  # fmt: skip
        self.reload()

    def reload(self) -> None:
        """As the file says now. Raises BadInput and HostRefused: then nothing has changed."""
        wanted = self._file.network()
        now = time.monotonic_ns()
        self.network.apply(wanted, now)
        self.devices.apply(wanted, now)
        self._place_captures()

    def stop(self) -> None:
        """From a signal handler, or anywhere."""
        self._ending = True
        with suppress(BlockingIOError):
            os.write(self._wake_write, b"x")

    def run(self) -> None:
        """Until `stop`, or nobody is left."""
        listening = self._listener.fileno()
        while not self._ending:
            self._watch_devices()
            again, self._again = self._again, {}
            for fd, events in self._epoll.poll(0 if again else self._wait_s()):
                if (client := self.clients.get(fd)) is not None:
                    again.pop(client, None)
                    self._client_ready(client, events)
                elif fd in self._watched:
                    self._device_ready(*self._watched[fd][:2], events)
                elif fd == listening:
                    self._accept()
                elif fd == self._wake_read:
                    with suppress(BlockingIOError):
                        os.read(self._wake_read, 64)
            for machine in again:
                self._client_ready(machine, select.EPOLLIN)
            self._go_on()
        for client in list(self.clients.values()):
            if isinstance(client, PortClient):
                client.say(link_message(Link.STOPPED))
        self._flush()

    def close(self) -> None:
        for client in list(self.clients.values()):
            self._drop(client)
        self.devices.close()
        self._epoll.close()
        self._listener.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    # the round

    def _wait_s(self) -> float:
        now = time.monotonic_ns()
        self._due_ns = self.network.next_ns(now)
        times = [client.wait_ns for client in self._paused if not client.port.held]
        times += [client.later_ns for client in self._later]
        if self._due_ns is not None:
            times.append(self._due_ns)
        return min(TICK_S, max(0, min(times) - now) / 1e9) if times else TICK_S

    def _go_on(self) -> None:
        now = time.monotonic_ns()
        if self._due_ns is not None and now >= self._due_ns:
            self._whose.sender = None
            self.network.tick(now)
        if self._paused:
            self._resume(now)
        for client in [client for client in self._later if now >= client.later_ns]:
            del self._later[client]
            self._mark(client)
        if now / 1e9 - self._ticked >= TICK_S:
            self._ticked = now / 1e9
            self.devices.tick(now)
            self._look_at_clients(now / 1e9)
        if self._dirty:
            self._flush()

    def _resume(self, now: int) -> None:
        for client in list(self._paused):
            if client.port.held or now < client.wait_ns:
                continue
            del self._paused[client]
            client.wait_ns = 0
            if client.message:
                self._again[client] = None
            self._listen(client)

    def _flush(self) -> None:
        while self._dirty:
            client, _ = self._dirty.popitem()
            if client.socket.fileno() < 0:
                continue
            try:
                client.flush()
            except OSError:
                self._drop(client)
                continue
            if isinstance(client, PortClient) and client.later_ns:
                self._later[client] = None
            if client.is_late or (client.ending and not client.unsent):
                self._drop(client)
            else:
                self._listen(client)

    def _look_at_clients(self, now_s: float) -> None:
        for client in list(self.clients.values()):
            if not client.asked and now_s - client.since > REQUEST_S:
                self._drop(client)
        if self.clients or self.stay:
            self._last_used = now_s
        elif now_s - self._last_used > LINGER_S:
            self._ending = True

    def _listen(self, client: Client) -> None:
        """Watch its socket for just what can be done with it now."""
        reading = not client.ending and client not in self._paused
        events = select.EPOLLIN * reading | select.EPOLLOUT * client.is_waiting
        if events == client.watched:
            return
        if not client.watched:
            self._epoll.register(client.socket, events)
        elif events:
            self._epoll.modify(client.socket, events)
        else:
            self._epoll.unregister(client.socket)  # it would be told of a hang-up even so
        client.watched = events

    # devices

    def _watch_devices(self) -> None:
        wanted = {fd: (device, name, waiting) for fd, device, name, waiting in self.devices.filenos()}
        if wanted == self._watched:
            return
        for fd in [fd for fd, one in self._watched.items() if wanted.get(fd) != one]:
            with suppress(OSError):  # a closed one is gone already
                self._epoll.unregister(fd)
            del self._watched[fd]
        for fd, one in wanted.items():
            if fd not in self._watched:
                self._epoll.register(fd, select.EPOLLIN | select.EPOLLOUT * one[2])
                self._watched[fd] = one

    def _device_ready(self, device: object, name: str, events: int) -> None:
        now = time.monotonic_ns()
        self._whose.sender = name
        if isinstance(device, OwnPort):
            switch = None if device.port is None else self.network.switch_of(device.port)
            for frame in device.tap.receive():
                if switch is not None and device.port is not None:
                    switch.transmit(device.port, frame, now)
            return
        opened = self.devices.opened.get(name)
        if opened is None or opened.device is None or opened.device is not device:
            return
        if events & select.EPOLLOUT:
            opened.device.room()
        for frame in opened.device.receive():
            self.network.receive(name, frame, now)
        self.devices.look(name, now)

    # clients

    def _accept(self) -> None:
        for _ in range(ACCEPTS_A_ROUND):
            try:
                connection, _ = self._listener.accept()
            except OSError:  # no more, or no descriptor left for it now
                return
            connection.setblocking(False)
            pid, uid, _ = UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size))
            if uid not in {os.geteuid(), 0} or len(self.clients) >= CLIENTS_MAX:
                connection.close()
                continue
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            self.clients[connection.fileno()] = client = Client(connection, pid, time.monotonic(), self._mark)
            self._listen(client)

    def _mark(self, client: Client) -> None:
        self._dirty[client] = None

    def _client_ready(self, client: Client, events: int) -> None:
        if events & select.EPOLLOUT:
            self._mark(client)
        if not events & ~select.EPOLLOUT or client.socket.fileno() < 0:
            return
        try:
            if isinstance(client, PortClient):
                self._turn(client)
            else:
                self._request(client)
        except BlockingIOError:
            pass
        except (OSError, BadInput):
            self._drop(client)

    def _request(self, client: Client) -> None:
        """Raises BadInput for what makes no sense, BlockingIOError where there is none."""
        message = self._message(client)
        if message is None:
            return
        if client.asked or message[0] != Kind.REQUEST:
            raise BadInput("message", "kind", "a request", str(message[0]))
        self._answer(client, bytes(message[1:]))

    def _message(self, client: Client) -> memoryview | None:
        """The next one, in a buffer that is used again; None, and the client is gone, if there will be no more."""
        length = client.socket.recv_into(self._buffer)
        if length == 0:
            self._drop(client)
            return None
        if length > MESSAGE_BYTES_MAX:
            raise BadInput("message", "length", f"at most {MESSAGE_BYTES_MAX} bytes", "more")
        return self._buffer[:length]

    def _turn(self, client: PortClient) -> None:
        """A machine's share of a round. Raises BadInput for nonsense, BlockingIOError when there is no more."""
        client.credit_ns = min(client.credit_ns + TURN_NS, TURN_NS)
        now, budget = time.monotonic_ns(), client.budget
        client.budget = 1  # if it turns out that there is no more
        for count in range(budget):
            if client.credit_ns <= 0:
                break
            if client.message:
                self._go_through(client, now)
            elif (message := self._message(client)) is None:
                return
            else:
                self._from_machine(client, message, now)
            client.budget = max(1, count)
            if client.port.held or client.wait_ns:
                self._paused[client] = None
                self._listen(client)
                return
        else:
            client.budget = min(2 * budget, MESSAGES_A_TURN)
        if client.message or client.credit_ns <= 0:
            self._again[client] = None

    def _from_machine(self, client: PortClient, message: memoryview, now: int) -> None:
        """Raises BadInput."""
        kind = message[0]
        client.credit_ns -= MESSAGE_NS
        if kind == Kind.FRAMES:
            if (frame := lone_frame(message)) is not None:
                self._transmit(client, (frame,), now)
            else:
                client.message, client.at = bytes(message), HEADER.size
                self._go_through(client, now)
        elif kind == Kind.WANTED:
            wanted, port = wanted_in(message), client.port
            if (switch := self.network.switch_of(port)) is not None:
                switch.want(port, wanted, now)
            else:
                port.wanted = wanted
            self._in_vain(client, CHANGE_NS, now)
        else:
            raise BadInput("message", "kind", "frames, or what is wanted", str(kind))

    def _go_through(self, client: PortClient, now: int) -> None:
        """The next frames of a message that has many. Raises BadInput."""
        frames, client.at = next_frames(client.message, client.at, FRAMES_AT_ONCE)
        if client.at >= len(client.message):
            client.message = b""
        self._transmit(client, frames, now)

    def _transmit(self, client: PortClient, frames: Sequence[bytes], now: int) -> None:
        """And reckon what that cost, and what of it did nobody any good."""
        port = client.port
        group = port.group
        if group is None:
            return
        transmit = group.switch.transmit
        self._whose.sender = None if port.shaper is not None else client  # its frames come by `tick`, too
        if client.is_narrow:
            client.inbox.spoke(frames[0][:SOURCE], now)
        vain = copies = size = 0
        for frame in frames:
            reached = transmit(port, frame, now)
            copies += reached
            size += len(frame)
            if not reached:
                vain += VAIN_NS
            elif frame[0] & GROUP:
                vain += VAIN_NS + reached * COPY_NS
        client.credit_ns = max(client.credit_ns - work_of(len(frames), size, copies), CREDIT_MIN_NS)
        if vain:
            self._in_vain(client, vain + MESSAGE_NS + size, now)

    def _in_vain(self, client: PortClient, work_ns: int, now: int) -> None:
        others = sum(1 for one in self._paused if one.wait_ns)
        client.wait_ns = client.allowance.spend(work_ns, now, others)

    def _drop(self, client: Client) -> None:
        fd = client.socket.fileno()
        if fd < 0:
            return
        if client.watched:
            self._epoll.unregister(fd)
            client.watched = 0
        del self.clients[fd]
        self._dirty.pop(client, None)
        self._again.pop(client, None)
        if isinstance(client, PortClient):
            self._paused.pop(client, None)
            self._later.pop(client, None)
            self.network.close(client.port)
        client.socket.close()
        if isinstance(client, CaptureClient):
            self._place_captures()

    # requests

    def _answer(self, client: Client, data: bytes) -> None:
        client.asked = True
        try:
            fields = parse_json(data)
            if fields.get("version") != VERSION:
                raise BadOption(f"VMkernel: expected version {VERSION}, found {fields.get('version')!r}")
            verb = self._verbs.get(str(fields.get("verb")))
            if verb is None:
                raise BadOption(f"VMkernel: expected {', '.join(self._verbs)}, found {fields.get('verb')!r}")
            answer = verb(client, fields)
        except RingfenceError as error:
            kind = "BadOption" if isinstance(error, BadOption) else "HostRefused"
            answer = {"error": str(error), "kind": kind}
        client = self.clients[client.socket.fileno()]  # what it has become
        client.ending = not isinstance(client, PortClient | CaptureClient)
        for part in reversed(list(answers(answer))):
            client.unsent.appendleft(part)  # before what a capture has to say
        self._mark(client)

    def _port(self, client: Client, fields: dict[str, Any]) -> dict[str, Any]:
        group, address, label = (text_of(fields, key) for key in ("group", "address", "label"))
        try:
            station = parse_station(address)
        except ValueError as error:
            raise BadOption(f"address: expected {error}") from None
        now = time.monotonic_ns()
        machine = PortClient(client, self._whose, now)
        wanted = None if "wanted" not in fields else first_wanted(fields["wanted"])
        machine.port = self.network.open(group, station, machine, label, now)
        if wanted is not None and (switch := self.network.switch_of(machine.port)) is not None:
            switch.want(machine.port, wanted, now)
        self._becomes(machine)
        self._place_captures()
        return {"port": machine.port.number, "on": machine.port.is_on}

    def _becomes(self, client: Client) -> None:
        self.clients[client.socket.fileno()] = client

    def _capture(self, client: Client, fields: dict[str, Any]) -> dict[str, Any]:
        kind, name = text_of(fields, "kind"), text_of(fields, "name")
        tests: dict[str, Callable[[Port | Uplink], bool]] = {
            "uplink": lambda point: isinstance(point, Uplink) and point.name == name,
            "group": lambda point: isinstance(point, Port) and point.group_name == name,
            "port": lambda point: isinstance(point, Port) and point.is_on and self._port_name(point) == name,
        }
        if kind not in tests:
            raise BadOption(f"capture: expected {', '.join(tests)}, found {kind!r}")
        if kind != "group" or self.network.find(name) is None:
            ports = [port for _, _, port in self.network.ports()]
            points: list[Port | Uplink] = [*self.network.uplinks.values(), *ports]
            if not any(tests[kind](point) for point in points):
                raise BadOption(f"capture: expected an existing {kind}, found {name!r}")
        self._becomes(CaptureClient(client, tests[kind], time.time_ns() - time.monotonic_ns()))
        self._place_captures()
        return {}

    def _port_name(self, port: Port) -> str:
        switch = self.network.switch_of(port)
        return f"{switch.name}/{port.number}" if switch else ""

    def _place_captures(self) -> None:
        """Each port and uplink has the taps of those who want to see it."""
        looking = [client for client in self.clients.values() if isinstance(client, CaptureClient)]
        if not looking and not self._captures:
            return
        self._captures = bool(looking)
        for uplink in self.network.uplinks.values():
            uplink.captures = tuple(one.tap(uplink, uplink.name) for one in looking if one.wants(uplink))
        for switch, group, port in self.network.ports():
            name = f"{switch.name}/{port.number} {group.name} {port.label}".rstrip()
            port.captures = tuple(one.tap(port, name) for one in looking if one.wants(port))

    def _status(self, client: Client, fields: dict[str, Any]) -> dict[str, Any]:
        return {
            "pid": os.getpid(), "stay": self.stay, "clients": len(self.clients) - 1,
            "configuration": str(self._file.path), **status(self.network, self.devices, time.monotonic_ns()),
        }  # fmt: skip

    def _reload(self, client: Client, fields: dict[str, Any]) -> dict[str, Any]:
        self.reload()
        return self._status(client, fields)

    def _stop(self, client: Client, fields: dict[str, Any]) -> dict[str, Any]:
        used = sum(isinstance(one, PortClient) for one in self.clients.values())
        if used and fields.get("force") is not True:
            raise BadOption(f"VMkernel: expected no machine on its switches, found {used} of their ports in use")
        self._ending = True
        return {}

    def _stay(self, client: Client, fields: dict[str, Any]) -> dict[str, Any]:
        self.stay = True
        return self._status(client, fields)


def software() -> str:
    """What this is, for devices outside."""
    try:
        return f"Ringfence {version('ringfence')}"
    except PackageNotFoundError:  # a tree that is not installed
        return "Ringfence"


def text_of(fields: dict[str, Any], key: str) -> str:
    """Raises BadOption."""
    value = fields.get(key)
    if not isinstance(value, str) or len(value) > TEXT_MAX or not value.isprintable():
        raise BadOption(f"{key}: expected a text of at most {TEXT_MAX} characters, found {ascii(value)[:40]}")
    return value


def first_wanted(value: object) -> Wanted:
    """A WANTED message in hex. Raises BadInput."""
    try:
        message = bytes.fromhex(value if isinstance(value, str) else "")
    except ValueError:
        message = b""
    return wanted_in(memoryview(message))


def listen(path: Path) -> socket.socket:
    """At `path`, for this user alone. The caller holds the lock that says that nobody else listens there."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        path.unlink(missing_ok=True)
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(str(path))
        listener.listen(ACCEPTS_A_ROUND)
    except BaseException:
        listener.close()
        raise
    return listener
