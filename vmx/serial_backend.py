"""What every far end of a serial cable has: input that waits for the UART, output, modem lines, a thread for the host.

Input arrives on a thread of its own, waits here, and is handed to the UART under the machine's lock, one character
whenever there is room. Output goes to the host from the thread that runs the vCPU: at once, so that it slows the guest
down as handshaking would (`SerialBackend`: files, pipes and terminals), or through a queue (`QueuedSerial`: those whose
far end comes, goes and stalls). Carrier, DSR and CTS say whether anybody is there.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from hw.uart_spec import CABLE_CONNECTED, Msr
from ringfence.errors import HostRefused
from vmx.output_queue import GONE, PATIENCE_S, QUEUE_BYTES, OutputQueue

READ_BYTES = 4096
ROOM_POLL_MS = 50
INPUT_BYTES_MAX = 1 << 16  # more than this is left with the host until the guest has read some
CTS_OFF_BYTES, CTS_ON_BYTES = QUEUE_BYTES * 3 // 4, QUEUE_BYTES // 4
FLUSH_S = 1.0


class Receiver(Protocol):
    """The UART's side."""

    def can_receive(self) -> bool: ...

    def received(self, byte: int) -> None: ...

    def set_inputs(self, inputs: int) -> None: ...


class SerialHost(Protocol):
    """What a backend needs of the machine."""

    def post(self, action: Callable[[], None]) -> None:
        """Have `action` called soon, under the machine's lock. Any thread."""

    def leave(self) -> None:
        """The person at the terminal wants out."""

    def is_wanted_back(self) -> bool:
        """Whether the run is to end or pause now: nobody waits for a slow reader then."""


class SerialBackend:
    """Base: no input, output nowhere. A subclass gives descriptors and overrides what differs."""

    WATCHES = False  # whether there is anything for a thread to wait for

    def __init__(self, where: str = "none") -> None:
        self.where = where
        self.input_fd: int | None = None
        self.output_fd: int | None = None
        self.lost: str | None = None  # why the host took no more output, when that was not a reader's wish
        self.lines = int(CABLE_CONNECTED)
        self._host: SerialHost | None = None
        self._uart: Receiver | None = None
        self._waiting: deque[int] = deque()
        self._thread: threading.Thread | None = None
        self._closing = self._starved = False
        self._polled: int | None = None  # the descriptor that `_room` asks about
        self._room = select.poll()
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    # from the machine

    def connect(self, uart: Receiver, host: SerialHost) -> None:
        """Plug in and start to read."""
        self._uart, self._host = uart, host
        if self.WATCHES:
            self._thread = threading.Thread(target=self._watch_loop, name="serial", daemon=True)
            try:
                self._thread.start()
            except RuntimeError as error:
                raise HostRefused(f"serial port: the host gives no thread: {error}") from error
        host.post(self.drive_lines)

    def drive_lines(self) -> None:
        """Under the machine's lock: tell the UART its modem inputs, also after a reset of the machine."""
        if self._uart is not None:
            self._uart.set_inputs(self.lines)

    def transmit(self, byte: int) -> None:
        """From the UART. Output that nobody can take any more is dropped."""
        if self.output_fd is not None:
            self._write(self.output_fd, bytes((byte,)))

    def ready(self) -> None:
        """From the UART: there is room for more."""
        self._feed()

    def close(self) -> None:
        """Stop reading and give everything back, whatever state it is in. Called once, on every way out."""
        self._closing = True
        self._wake()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(timeout=2)
        self._close_host_side()
        self._uart = None  # what was posted before comes to nothing
        for fd in (self._wake_read, self._wake_write):
            os.close(fd)

    # what differs

    def _close_host_side(self) -> None:
        """Undo what the constructor opened."""

    def _filter(self, data: bytes) -> bytes:
        """Input before it is queued; a terminal takes its escape keys out here."""
        return data

    def _interest(self) -> list[tuple[int, int]]:
        """Descriptors to poll, with their events."""
        return [(self.input_fd, select.POLLIN)] if self.input_fd is not None and self._has_room() else []

    def _timeout_ms(self) -> int | None:
        """When to look again without being woken."""
        return None

    def _handle(self, ready: dict[int, int]) -> None:
        """What came, by descriptor."""
        if self.input_fd in ready:
            self._read()

    def _input_ended(self) -> None:
        """The host's side closed."""
        self.input_fd = None

    # the thread

    def _watch_loop(self) -> None:
        while not self._closing:
            poll = select.poll()
            poll.register(self._wake_read, select.POLLIN)
            for fd, events in self._interest():
                poll.register(fd, events)
            ready = dict(poll.poll(self._timeout_ms()))
            if ready.pop(self._wake_read, 0):
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_read, READ_BYTES)
            if not self._closing:
                self._handle(ready)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it is full of reasons to wake
            os.write(self._wake_write, b"x")

    def _read(self) -> None:
        assert self.input_fd is not None
        try:
            data = os.read(self.input_fd, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._input_ended()
            return
        self._waiting.extend(self._filter(data))
        if self._host is not None:
            self._host.post(self._feed)

    def _has_room(self) -> bool:
        self._starved = len(self._waiting) > INPUT_BYTES_MAX
        return not self._starved

    def _feed(self) -> None:
        """Under the machine's lock: as much as fits. `received` may call `ready`, hence the test each time round."""
        uart = self._uart
        while uart is not None and self._waiting and uart.can_receive():
            uart.received(self._waiting.popleft())
        if self._starved and len(self._waiting) <= INPUT_BYTES_MAX:
            self._starved = False
            self._wake()

    # direct output

    def _write(self, fd: int, data: bytes) -> None:
        while data and self._wait_for_room(fd):
            try:
                data = data[os.write(fd, data) :]
            except BlockingIOError:
                continue
            except OSError as error:
                self.output_fd = None
                if error.errno not in GONE:
                    self.lost = error.strerror
                elif self._host is not None:
                    self._host.leave()
                return

    def _wait_for_room(self, fd: int) -> bool:
        """Until a write of some bytes does not block. False when the run is to end before that."""
        if fd != self._polled:
            self._room = select.poll()
            self._room.register(fd, select.POLLOUT)
            self._polled = fd
        wait_ms = 0
        while not self._room.poll(wait_ms):
            if self._host is not None and self._host.is_wanted_back():
                return False
            wait_ms = ROOM_POLL_MS
        return True


class PeerSource(Protocol):
    """Where a queued backend's peers come from."""

    def interest(self) -> list[tuple[int, int]]:
        """Descriptors to poll while there is no peer, with their events."""

    def timeout_ms(self) -> int | None: ...

    def take(self, ready: dict[int, int]) -> int | None:
        """A new peer's descriptor, which does not block, if one has come; the caller's to close."""

    def left(self) -> None:
        """The peer has gone."""

    def close(self) -> None: ...


class QueuedSerial(SerialBackend):
    """One peer at a time, in both directions, on a descriptor that does not block. Without a peer output is dropped."""

    WATCHES = True

    def __init__(
        self, where: str, peers: PeerSource, *, patience_s: float = PATIENCE_S, keeps: bool = False, reads: bool = True
    ) -> None:
        """`patience_s` and `keeps`: as for an OutputQueue. `reads` False: the peer can only be written to."""
        super().__init__(where)
        self._peers = peers
        self._peer: int | None = None
        self._flushes, self._reads = patience_s > 0, reads
        self.queue = OutputQueue(self._wake, patience_s=patience_s, keeps=keeps)
        self.lines = 0
        self._take({})

    @property
    def has_peer(self) -> bool:
        return self._peer is not None

    def connect(self, uart: Receiver, host: SerialHost) -> None:
        self.queue.is_wanted_back = host.is_wanted_back
        super().connect(uart, host)

    def transmit(self, byte: int) -> None:
        self.queue.send(bytes((byte,)))
        if self.queue.waiting > CTS_OFF_BYTES and self.lines & Msr.CTS:
            self._set_lines(self.lines & ~int(Msr.CTS))

    def _set_lines(self, lines: int) -> None:
        self.lines = lines
        if self._host is not None:
            self._host.post(self.drive_lines)

    def _take(self, ready: dict[int, int]) -> None:
        peer = self._peers.take(ready)
        if peer is not None:
            self._peer = self.input_fd = peer
            self.queue.open(peer)
            self._set_lines(int(CABLE_CONNECTED))

    def _interest(self) -> list[tuple[int, int]]:
        if self._peer is None:
            return self._peers.interest()
        events = select.POLLOUT if self.queue.waiting and self.queue.is_open else 0
        if not self._reads:
            return [(self._peer, events)]  # its end shows as an error
        events |= select.POLLIN if self._has_room() else 0
        return [(self._peer, events)] if events else []

    def _timeout_ms(self) -> int | None:
        return self._peers.timeout_ms() if self._peer is None else None

    def _handle(self, ready: dict[int, int]) -> None:
        if self._peer is None:
            self._take(ready)
            return
        events = ready.get(self._peer, 0)
        if events and self.queue.waiting:
            self.queue.drain()
            if self.queue.waiting < CTS_ON_BYTES and not self.lines & Msr.CTS:
                self._set_lines(int(CABLE_CONNECTED))
        if not self._reads:
            if events & ~select.POLLOUT or not self.queue.is_open:
                self._input_ended()
        elif events & ~select.POLLOUT and self._has_room():
            self._read()

    def _input_ended(self) -> None:
        """A peer that sends no more has gone."""
        self._drop_peer()
        self._set_lines(0)
        self._peers.left()

    def _drop_peer(self) -> None:
        """No other thread may be writing when the descriptor's number becomes free."""
        self.queue.shut()
        peer, self._peer, self.input_fd = self._peer, None, None
        if peer is not None:
            os.close(peer)

    def _close_host_side(self) -> None:
        if self._flushes:
            self.queue.flush(FLUSH_S)
        self._drop_peer()
        self._peers.close()
