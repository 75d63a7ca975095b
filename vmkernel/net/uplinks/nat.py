"""A NAT of the user's own: libslirp in a process of its own, which is started again when it ends.

Takes no rights. Any number of machines are behind it; passt, the other one that is about, serves one machine alone.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from vmkernel.net.uplinks.outbox import Outbox
from vmkernel.net.uplinks.place import Nat
from vmkernel.net.uplinks.slirp import FRAME_BYTES_MAX, READY
from vmkernel.net.uplinks.wiring import BATCH

SOURCES = Path(__file__).resolve().parents[3]  # where the packages are, also for a tree that is not installed
BUFFER_BYTES = 1 << 20
END_S = 5.0
RETRIES_MAX = 60  # seconds between two attempts, which grow


class NatDevice:
    """An UplinkDevice. The link is up as soon as the process is ready."""

    def __init__(self, place: Nat) -> None:
        """Does not wait, and raises nothing: what goes wrong is `trouble`."""
        self._place, self.link, self.trouble = place, False, "the NAT is being started"
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._outbox = Outbox(self._put)
        self._wait = self._left = 1
        self._closed = False
        self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join([str(SOURCES), *filter(None, [environment.get("PYTHONPATH")])])
        command = [sys.executable, "-m", "vmkernel.net.uplinks.slirp", str(theirs.fileno()), str(self._place)]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()], env=environment, cwd="/",
            )  # fmt: skip
        except OSError as error:
            ours.close()
            self._failed(f"NAT: cannot start a process: {error.strerror}")
            return
        finally:
            theirs.close()
        self._socket = ours

    def fileno(self) -> int:
        return -1 if self._socket is None else self._socket.fileno()

    def receive(self) -> list[bytes]:
        frames: list[bytes] = []
        if self._socket is None:
            return frames
        try:
            for _ in range(BATCH):
                frame = self._socket.recv(FRAME_BYTES_MAX)
                if not frame:
                    self._failed(self.trouble if not self.link else "NAT: its process ended")
                    break
                if self.link:
                    frames.append(frame)
                elif frame == READY:
                    self.link, self.trouble, self._wait = True, "", 1
                else:
                    self.trouble = frame.decode(errors="replace")
        except BlockingIOError:
            pass
        except OSError as error:
            self._failed(f"NAT: {error.strerror}")
        return frames

    def send(self, frame: bytes) -> bool:
        if self._socket is None or not self.link:
            return False
        try:
            return self._outbox.send(frame)
        except OSError as error:
            self._failed(f"NAT: {error.strerror}")
            return False

    def _put(self, frame: bytes) -> None:
        assert self._socket is not None
        self._socket.send(frame)

    @property
    def is_waiting(self) -> bool:
        return bool(self._outbox)

    def room(self) -> None:
        try:
            self._outbox.flush()
        except OSError as error:
            self._failed(f"NAT: {error.strerror}")

    def tick(self) -> None:
        if self._socket is not None or self._closed:
            return
        self._left -= 1
        if self._left <= 0:
            self._wait = min(2 * self._wait, RETRIES_MAX)
            self._left = self._wait
            self._start()

    def close(self) -> None:
        self._closed = True
        self._failed("")

    def _failed(self, trouble: str) -> None:
        """The process is ended, if it has not ended."""
        self.link, self.trouble = False, trouble
        self._outbox.clear()
        self._left = self._wait + 1  # whoever watches the old socket has a look in between
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(END_S)
            self._process = None
