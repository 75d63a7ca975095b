"""Bytes on their way to a descriptor that may not take them now: a queue with an end, and a limit to the patience.

A byte goes straight to the host while nothing waits. Behind a slow reader up to QUEUE_BYTES wait; then the sender is
held for as long as the reader gets on, but not longer than `patience_s` for one that does not move. After that the
reader counts as stalled, and what comes is dropped until half of the queue has gone.
Senders hold a machine's lock while they wait, which is why there is a limit.
"""

from __future__ import annotations

import errno
import os
import select
import threading
import time
from collections.abc import Callable

QUEUE_BYTES = 1 << 16
PATIENCE_S = 1.0
LOOK_S = 0.05
GONE = frozenset({errno.EPIPE, errno.EIO, errno.ECONNRESET})  # a reader that left, a terminal that hung up


class OutputQueue:
    """One descriptor's queue. `send` is the sender's, `drain` is for the thread that polls it; `wake` wakes that."""

    def __init__(self, wake: Callable[[], None], *, patience_s: float = PATIENCE_S, keeps: bool = False) -> None:
        """`keeps`: without a descriptor bytes wait for the next one instead of being dropped."""
        self._wake, self._patience_s, self._keeps = wake, patience_s, keeps
        self._fd: int | None = None
        self._pending = bytearray()
        self._changed = threading.Condition()
        self._stalled = False
        self.dropped = 0  # bytes
        self.trouble = ""  # why the host took no more, if the reader has not just gone
        self.is_wanted_back: Callable[[], bool] = lambda: False

    @property
    def waiting(self) -> int:
        """Bytes in the queue."""
        return len(self._pending)

    @property
    def is_open(self) -> bool:
        return self._fd is not None

    def open(self, fd: int) -> None:
        """Begin with a new descriptor, which does not block."""
        with self._changed:
            self._fd, self._stalled = fd, False

    def shut(self) -> None:
        """Let go of the descriptor. What waits is dropped, unless it is to be kept, and nobody waits any longer."""
        with self._changed:
            self._shut()

    def _shut(self) -> None:
        self._fd = None
        if not self._keeps:
            self.dropped += len(self._pending)
            self._pending.clear()
        self._changed.notify_all()
        self._wake()

    def send(self, data: bytes) -> None:
        with self._changed:
            if not self._pending:
                data = data[self._write(data) :]
            if not data or (self._fd is None and not self._keeps):
                return
            if len(self._pending) + len(data) > QUEUE_BYTES and not self._wait_for_room(len(data)):
                self.dropped += len(data)
                return
            was_empty = not self._pending
            self._pending += data
        if was_empty:
            self._wake()

    def drain(self) -> None:
        """Write what the descriptor takes now."""
        with self._changed:
            if self._pending:
                del self._pending[: self._write(self._pending)]
            if len(self._pending) <= QUEUE_BYTES // 2:
                self._stalled = False
            self._changed.notify_all()

    def flush(self, seconds: float) -> None:
        """Wait until everything has gone, or for so long. No other thread drains any more."""
        deadline = time.monotonic() + seconds
        while self._pending and self._fd is not None and (left := deadline - time.monotonic()) > 0:
            poll = select.poll()
            poll.register(self._fd, select.POLLOUT)
            if poll.poll(left * 1000):
                self.drain()

    def _write(self, data: bytes | bytearray) -> int:
        """How many bytes went; none, and the descriptor is let go, when the reader has gone."""
        if self._fd is None:
            return 0
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno not in GONE:
                self.trouble = error.strerror or str(error)
            self._shut()
            return 0

    def _wait_for_room(self, length: int) -> bool:
        """Held with the lock released in between. False: drop it."""
        deadline = time.monotonic() + self._patience_s
        while not self._stalled and not self.is_wanted_back():
            if time.monotonic() >= deadline:
                self._stalled = True
                break
            self._wake()
            self._changed.wait(LOOK_S)
            if self._fd is None and not self._keeps:
                return False
            if len(self._pending) + length <= QUEUE_BYTES:
                return True
        return False
