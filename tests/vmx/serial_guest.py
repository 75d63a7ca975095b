"""The machine and its UART as a serial backend sees them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vmx.serial import SerialBackend, SerialCable

DEADLINE_S = 5
CONNECTED, CTS = 0xB0, 0x10


class Guest:
    """Takes everything at once, or up to `room` characters. `lines` are the modem inputs it was told."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.got = bytearray()
        self.wanted_back = False
        self.left = False
        self.room = room
        self.lines: int | None = None
        self.lock = threading.Lock()

    def can_receive(self) -> bool:
        return self.room > 0

    def received(self, byte: int) -> None:
        self.room -= 1
        self.got.append(byte)

    def set_inputs(self, inputs: int) -> None:
        self.lines = inputs

    def post(self, action: Callable[[], None]) -> None:
        with self.lock:
            action()

    def leave(self) -> None:
        self.left = True

    def is_wanted_back(self) -> bool:
        return self.wanted_back

    def wait_for(self, text: bytes) -> None:
        wait_until(lambda: bytes(self.got) == text, lambda: f"expected {text!r}, found {bytes(self.got)!r}")


def wait_until(condition: Callable[[], bool], why: Callable[[], str] = lambda: "it did not happen") -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, why()
        time.sleep(0.002)


def send(backend: SerialBackend | SerialCable, data: bytes) -> None:
    for byte in data:
        backend.transmit(byte)


@contextmanager
def plugged(backend: SerialBackend, guest: Guest | None = None) -> Iterator[Guest]:
    """Connected to a guest, and closed afterwards."""
    guest = guest or Guest()
    try:
        backend.connect(guest, guest)
        yield guest
    finally:
        backend.close()
