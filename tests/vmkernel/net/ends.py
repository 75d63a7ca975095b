"""What is plugged into ports of a VMkernel's process in tests, and conditions that are waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from hw.net.wiring import AddressFilter
from vmx.network_ports import KernelPort

PATIENCE_S = 120.0
LOOK_S = 0.01
ALL_HASHES = (1 << 64) - 1


def station(number: int) -> bytes:
    return bytes.fromhex("000c29") + number.to_bytes(3, "big")


def frame_of(destination: bytes, source: bytes, payload: bytes = b"x" * 46) -> bytes:
    return destination + source + b"\x88\xb5" + payload


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE_S) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it did not come about"
        time.sleep(LOOK_S)


class NoteTaker:
    """A CableEnd that keeps what comes. Like a cable, it hands nothing to the port from within a call."""

    def __init__(self, port: KernelPort) -> None:
        self.port = port
        self.frames: list[bytes] = []
        self.links: list[bool] = []
        self.room = threading.Event()
        self.changed = threading.Condition()
        self.on = port.connect(self)
        port.set_filter(AddressFilter(port.address, True, True, True, False, ALL_HASHES))
        wait_until(self.is_listening)

    def is_listening(self) -> bool:
        """Does the VMkernel know what this end wants?"""
        switches = self.port._owner.place.ask("status")["switches"]
        ports = [port for switch in switches for group in switch["groups"] for port in group["ports"]]
        return any(port["receiving"] and port["effective"] == self.port.address.hex(":") for port in ports)

    def deliver(self, frame: bytes) -> None:
        with self.changed:
            self.frames.append(frame)
            self.changed.notify_all()

    def writable(self) -> None:
        self.room.set()

    def switched(self, on: bool) -> None:
        self.links.append(on)

    def wire(self, fd: int | None) -> bool:
        return False

    def send(self, frame: bytes) -> None:
        """Waits for room, if need be."""
        self.room.clear()
        while not self.port.send([memoryview(frame)]):
            assert self.room.wait(PATIENCE_S), "no room came"
            self.room.clear()

    def wait_for(self, count: int) -> list[bytes]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.frames) >= count, PATIENCE_S), f"{len(self.frames)} came"
            return list(self.frames)
