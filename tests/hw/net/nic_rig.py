"""A network adapter on a bus, with RAM before it and a port behind it that notes what it is given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from hw.bus import PortBus
from hw.mmio import MmioSpace
from hw.net.vlance import Vlance
from hw.net.vmxnet_pci import VmxnetPci
from hw.net.wiring import AddressFilter
from hw.pci import PciBuses, PciLinks
from ringfence.errors import RingfenceError

PORTS, MEMORY, SLOT = 0x1400, 0xF4000000, 17
ADDRESS = bytes.fromhex("000c29d1b969")
OTHER = bytes.fromhex("005056010203")
BROADCAST = b"\xff" * 6
RAM_BYTES = 1 << 20
Adapter = TypeVar("Adapter", Vlance, VmxnetPci)


class Memory:
    """RAM from 0; `pieces` views for a transfer, as where memory is not contiguous in its file."""

    def __init__(self, pieces: int = 1) -> None:
        self.ram, self.pieces, self.open = bytearray(RAM_BYTES), pieces, 0

    @contextmanager
    def dma(self, gpa: int, length: int, write: bool) -> Iterator[list[memoryview]]:
        if gpa < 0 or gpa + length > RAM_BYTES:
            raise RingfenceError(f"nothing at {gpa:#x}")
        view = memoryview(self.ram)[gpa : gpa + length]
        step = max(-(-length // self.pieces), 1)
        views = [view[at : at + step] for at in range(0, length, step)]
        self.open += 1
        try:
            yield views if write else [view.toreadonly() for view in views]
        finally:
            self.open -= 1


class Wire:
    """The port: takes frames unless told not to."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.pieces: list[int] = []  # of how many views each frame was
        self.accepts = True
        self.filter = AddressFilter(bytes(6))
        self.readiness = 0

    def transmit(self, frame: list[memoryview]) -> bool:
        if self.accepts:
            self.frames.append(b"".join(frame))
            self.pieces.append(len(frame))
        return self.accepts

    def ready(self) -> None:
        self.readiness += 1

    def set_filter(self, wanted: AddressFilter) -> None:
        self.filter = wanted


class NicRig(Generic[Adapter]):
    """One adapter in slot 17, its ranges mapped, its cable plugged in."""

    def __init__(self, kind: type[Adapter], pieces: int = 1, **options: Any) -> None:
        self.ports, self.mmio, self.memory, self.wire = PortBus(), MmioSpace(), Memory(pieces), Wire()
        self.links = PciLinks()
        self.nic: Adapter = kind(
            kind.State(), PciBuses(self.ports, self.mmio), self.links.pin(SLOT, 1), self.memory, self.wire, ADDRESS,
            **options,
        )  # fmt: skip
        self.nic.set_link(True)
        self.nic.reset()
        self.nic.config_write(0x10, 4, PORTS)
        self.nic.config_write(0x14, 4, MEMORY)
        self.nic.config_write(0x04, 2, 7)

    @property
    def line(self) -> bool:
        return self.links.level((SLOT + 1) % 4)

    @property
    def ram(self) -> bytearray:
        return self.memory.ram

    def receive(self, frame: bytes, pieces: int = 1) -> bool:
        """A frame arrives, in so many views."""
        return self.nic.receive(in_views(frame, pieces))

    def offer(self, frame: bytes) -> bool:
        return self.nic.offer(in_views(frame, 1))


def in_views(frame: bytes, pieces: int) -> list[memoryview]:
    view = memoryview(frame)
    step = max(-(-len(frame) // pieces), 1)
    return [view[at : at + step] for at in range(0, len(frame), step)]


def frame_of(length: int = 60, destination: bytes = OTHER, source: bytes = ADDRESS, kind: int = 0x0800) -> bytes:
    """Of so many bytes, each of which is known."""
    start = destination + source + kind.to_bytes(2, "big")
    return (start + bytes(index * 7 & 0xFF for index in range(length)))[:length]
