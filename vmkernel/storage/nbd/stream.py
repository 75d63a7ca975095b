"""One client's connection as a stream: whole messages in and out, and an end for a client that gets nowhere.

The socket blocks, with a time-out of the host's for each call, so that a message is one system call and a silent
client is noticed all the same. Between two requests a client may be silent for as long as it likes.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Sequence
from contextlib import suppress

TICK_S = 1
STALL_S = 60.0  # a message may take as long as it likes as long as it moves
SCRATCH_BYTES = 64 << 10
TIMEVAL = struct.Struct("@ll")
Parts = Sequence[bytes] | Sequence[memoryview] | Sequence[bytes | memoryview]


class Ended(Exception):
    """The client has gone, has broken the protocol, or got nowhere for too long."""


class Stream:
    """`deadline`, while it is set, is for everything: a handshake must be over by then."""

    def __init__(self, connection: socket.socket, stall_s: float = STALL_S) -> None:
        self.socket, self._stall_s = connection, stall_s
        self.deadline: float | None = None
        connection.setblocking(True)
        tick = TIMEVAL.pack(TICK_S, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, tick)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, tick)
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def receive(self, view: memoryview, *, patient: bool = False) -> None:
        """Fill the view. `patient`: its first byte may be long in coming. Raises Ended."""
        since = time.monotonic()
        while len(view):
            try:
                got = self.socket.recv_into(view, 0, socket.MSG_WAITALL)
            except BlockingIOError:
                if not patient or self.deadline is not None:
                    self._check(since)
                continue
            except OSError as error:
                raise Ended(error.strerror) from error
            if not got:
                raise Ended("the client has gone")
            view = view[got:]
            patient = False
            since = time.monotonic()
            if self.deadline is not None:
                self._check(since)

    def take(self, length: int) -> bytes:
        """So many; the caller has checked how many that is."""
        data = bytearray(length)
        self.receive(memoryview(data))
        return bytes(data)

    def discard(self, length: int) -> None:
        """Take in what is not wanted."""
        scratch = memoryview(bytearray(min(length, SCRATCH_BYTES)))
        while length:
            part = scratch[:length]
            self.receive(part)
            length -= len(part)

    def send(self, parts: Parts, *, more: bool = False) -> None:
        """All of them. `more`: the next call goes on with the same message."""
        flags = socket.MSG_MORE if more else 0
        since = time.monotonic()
        while parts:
            try:
                moved = self.socket.sendmsg(parts, (), flags)
            except BlockingIOError:
                self._check(since)
                continue
            except OSError as error:
                raise Ended(error.strerror) from error
            parts = rest(parts, moved)
            since = time.monotonic()

    def send_file(self, fd: int, offset: int, length: int) -> int:
        """Bytes of a file, without a copy in this process. Returns how many: fewer where the file ends or fails."""
        sent = 0
        since = time.monotonic()
        while sent < length:
            try:
                moved = os.sendfile(self.socket.fileno(), fd, offset + sent, length - sent)
            except BlockingIOError:
                self._check(since)
                continue
            except ConnectionError as error:
                raise Ended(error.strerror) from error
            except OSError:
                break
            if not moved:
                break
            sent += moved
            since = time.monotonic()
        return sent

    def shut(self, how: int) -> None:
        """From any thread: what waits in `receive` (or `send`) ends."""
        with suppress(OSError):
            self.socket.shutdown(how)

    def close(self) -> None:
        self.socket.close()

    def _check(self, since: float) -> None:
        limit = since + self._stall_s if self.deadline is None else self.deadline
        if time.monotonic() > limit:
            raise Ended("the client got nowhere for too long")


def rest(parts: Parts, length: int) -> Parts:
    """The parts without their first `length` bytes."""
    for index, part in enumerate(parts):
        if length < len(part):
            return [memoryview(part)[length:], *parts[index + 1 :]]
        length -= len(part)
    return ()
