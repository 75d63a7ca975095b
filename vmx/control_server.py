"""The control socket of a running machine: who may speak, how much, how long. What is said is control.py's.

One thread serves all clients and never waits for one of them; a second performs the actions, one after the other, so
that a slow one (suspending writes all of memory) does not keep `status` from being answered. A client has one request
under way at a time, and what it sends meanwhile stays with the host: all queues are bounded by the number of clients.
"""

from __future__ import annotations

import os
import queue
import selectors
import socket
import struct
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ringfence.errors import BadOption, HostRefused
from vmx.control import QUICK, Request, failure, parse_request, perform
from vmx.control_spec import CLIENTS_MAX, HALF_LINE_S, LINE_BYTES_MAX, UNSENT_S
from vmx.dead_socket import remove_dead_socket
from vmx.log import Log
from vmx.machine_actions import MachineActions

READ_BYTES = 16 << 10
BACKLOG = 64
TICK_S = 1.0  # how often deadlines are looked at
ACCEPT_RETRY_S = 0.1
CLOSE_S = 5.0  # an action that runs, and answers that are under way, have this long at the end
UCRED = struct.Struct("3i")  # pid, uid, gid of SO_PEERCRED


@dataclass(slots=True, eq=False)
class Client:
    """One connection. `since` is when it last got somewhere."""

    socket: socket.socket
    pid: int
    since: float
    received: bytearray = field(default_factory=bytearray)
    unsent: bytearray = field(default_factory=bytearray)
    busy: bool = False
    ended: bool = False  # it sends no more, and is gone when its answers are

    def is_idle(self) -> bool:
        return not (self.busy or self.received or self.unsent)


class ControlServer:
    """Listens from `start` until `close`. `half_line_s` is for tests."""

    def __init__(self, path: Path, machine: MachineActions, log: Log, half_line_s: float = HALF_LINE_S) -> None:
        """Raises HostRefused when it cannot listen at `path`."""
        self.path, self._machine, self._log, self._half_line_s = path, machine, log, half_line_s
        self._clients: set[Client] = set()
        self._requests: queue.SimpleQueue[tuple[Client, Request] | None] = queue.SimpleQueue()
        self._answers: deque[tuple[Client, bytes]] = deque()
        self._closing_until: float | None = None
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        try:
            remove_dead_socket(path)
            self._listener.bind(str(path))
            path.chmod(0o600)  # its directory keeps others out until then
            self._listener.listen(BACKLOG)
        except OSError as error:
            self._listener.close()
            raise HostRefused(f"{path}: cannot listen: {error.strerror or error}") from error
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._loop = threading.Thread(target=self._serve, name="control", daemon=True)
        self._worker = threading.Thread(target=self._work, name="control-action", daemon=True)

    def start(self) -> None:
        """Raises HostRefused when the host gives no thread."""
        try:
            self._worker.start()
            self._loop.start()
        except RuntimeError as error:
            self.close()
            raise HostRefused(f"{self.path}: the host gives no thread: {error}") from error

    def close(self) -> None:
        """Take no more requests, let the answers out, and remove the socket. Not from a thread of ours. Idempotent."""
        if self._listener.fileno() < 0:
            return
        self._closing_until = time.monotonic() + CLOSE_S
        self._requests.put(None)
        self._wake()
        for thread in (self._worker, self._loop):
            if thread.is_alive():
                thread.join(CLOSE_S + TICK_S)
        for client in list(self._clients):
            self._drop(client)
        with suppress(OSError):
            self.path.unlink()
        self._selector.close()
        self._listener.close()
        for fd in (self._wake_read, self._wake_write):
            os.close(fd)

    # the thread of actions

    def _work(self) -> None:
        while (work := self._requests.get()) is not None:
            client, request = work
            self._answers.append((client, perform(request, self._machine, self._log)))
            self._wake()

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # it has been woken already
            os.write(self._wake_write, b"x")

    # the thread of clients

    def _serve(self) -> None:
        while not self._is_done():
            for key, events in self._selector.select(min(TICK_S, self._half_line_s)):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.data is None:
                    with suppress(BlockingIOError):
                        os.read(self._wake_read, READ_BYTES)
                elif key.data in self._clients:
                    self._client_ready(key.data, events)
            self._take_answers()
            self._drop_late()

    def _is_done(self) -> bool:
        """Closing, and every answer is out or has had its time."""
        if self._closing_until is None:
            return False
        waiting = any(client.busy or client.unsent for client in self._clients)
        return not waiting or time.monotonic() >= self._closing_until

    def _accept(self) -> None:
        if self._closing_until is not None:
            time.sleep(ACCEPT_RETRY_S)
            return
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:  # no descriptor left for it now
            time.sleep(ACCEPT_RETRY_S)
            return
        connection.setblocking(False)
        pid, uid, _ = UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size))
        if uid not in {os.geteuid(), 0} or not self._make_room():
            connection.close()
            return
        client = Client(connection, pid, time.monotonic())
        self._clients.add(client)
        self._selector.register(connection, selectors.EVENT_READ, client)

    def _make_room(self) -> bool:
        """Below the limit, if need be without the client that has been idle longest."""
        if len(self._clients) < CLIENTS_MAX:
            return True
        idle = [client for client in self._clients if client.is_idle()]
        if idle:
            self._drop(min(idle, key=lambda client: client.since))
        return bool(idle)

    def _client_ready(self, client: Client, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                self._send(client)
            if events & selectors.EVENT_READ:
                self._receive(client)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(client)
            return
        self._go_on(client)

    def _receive(self, client: Client) -> None:
        data = client.socket.recv(READ_BYTES)
        if not client.received:
            client.since = time.monotonic()
        client.received += data
        client.ended = not data

    def _send(self, client: Client) -> None:
        del client.unsent[: client.socket.send(client.unsent)]
        client.since = time.monotonic()

    def _go_on(self, client: Client) -> None:
        """Begin what is complete; listen for what can be done next; part with one who wants no more."""
        while not client.busy and not client.unsent and (end := client.received.find(b"\n")) >= 0:
            line = bytes(client.received[:end])
            del client.received[: end + 1]
            client.since = time.monotonic()
            self._take(client, line)
        if not client.busy and len(client.received) > LINE_BYTES_MAX and not client.ended:
            client.received.clear()
            client.ended = True
            client.unsent += failure(BadOption(f"request: expected at most {LINE_BYTES_MAX} bytes"))
            self._log.write(f"CONTROL dropped process {client.pid}: its request is longer than {LINE_BYTES_MAX} bytes")
        if client.ended and not client.busy and not client.unsent:
            self._drop(client)
            return
        self._listen(client)

    def _take(self, client: Client, line: bytes) -> None:
        if not line.strip():
            return
        try:
            if len(line) > LINE_BYTES_MAX:
                raise BadOption(f"request: expected at most {LINE_BYTES_MAX} bytes")
            request = parse_request(line)
        except BadOption as error:
            client.unsent += failure(error)
            return
        if request.verb in QUICK:
            client.unsent += perform(request, self._machine, self._log)
        elif self._closing_until is not None:
            client.unsent += failure(HostRefused("the machine is being switched off"), request.id)
        else:
            client.busy = True
            self._requests.put((client, request))

    def _listen(self, client: Client) -> None:
        """Watch the socket for just what can be done with it now."""
        reading = not (client.ended or client.busy or client.unsent)
        events = selectors.EVENT_READ * reading | selectors.EVENT_WRITE * bool(client.unsent)
        registered = client.socket.fileno() in self._selector.get_map()
        if events and registered:
            self._selector.modify(client.socket, events, client)
        elif events:
            self._selector.register(client.socket, events, client)
        elif registered:
            self._selector.unregister(client.socket)

    def _take_answers(self) -> None:
        while self._answers:
            client, answer = self._answers.popleft()
            client.busy = False
            client.since = time.monotonic()
            if client in self._clients:
                client.unsent += answer
                self._go_on(client)

    def _drop_late(self) -> None:
        now = time.monotonic()
        for client in list(self._clients):
            limit = UNSENT_S if client.unsent else self._half_line_s
            if not client.busy and not client.is_idle() and now - client.since > limit:
                what = "it does not read its answer" if client.unsent else "its request stays incomplete"
                self._log.write(f"CONTROL dropped process {client.pid}: {what}")
                self._drop(client)

    def _drop(self, client: Client) -> None:
        self._clients.discard(client)
        with suppress(KeyError, ValueError):
            self._selector.unregister(client.socket)
        client.socket.close()
