"""A board to put one device on: buses, interrupt inputs, guest memory between guards, and every neighbour it may have.

What a device drives is a level, kept by name; what it makes happen is an act, logged. So two boards can be compared,
and a device that only repeats its levels can be told from one that acts twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from hw.bus import PortBus
from hw.mmio import MmioSpace
from hw.pci import PciBuses, PciFunction, PciLinks
from hw.pci_spec import LINKS
from ringfence.errors import RingfenceError

CONFIG_WINDOW = 0x4000  # ports 4000h-40FFh: a function's configuration space, with no address latch in between
PAGE = 4096
GUARD_BYTE = 0xA5
LINES = 24


class Access(NamedTuple):
    """One thing that happens to a device.

    `what`: in, out, load, store; ins, outs: a string of `value` units; event: its far side; poke: guest RAM changes.
    """

    what: str
    address: int
    width: int
    value: int


class Line:
    """One interrupt input."""

    level = False

    def set_level(self, level: bool) -> None:
        self.level = level


class GuardedMemory:
    """Guest memory for DMA: RAM with a hole in it, and pages around both parts that no transfer may change.

    Views of a transfer from memory cannot be written to, and no view outlives its transfer.
    """

    PARTS = ((0x0000, 0x10000), (0x18000, 0x8000))  # guest physical address, bytes
    SIZE = sum(size for _, size in PARTS)

    def __init__(self) -> None:
        self.bytes = bytearray([GUARD_BYTE]) * (PAGE + sum(size + PAGE for _, size in self.PARTS))
        self.open = 0
        self._whole = memoryview(self.bytes)
        self._parts: list[tuple[int, int, int]] = []
        at = PAGE
        for gpa, size in self.PARTS:
            self._parts.append((gpa, size, at))
            self.bytes[at : at + size] = bytes(size)
            at += size + PAGE

    def view(self, gpa: int, length: int) -> memoryview:
        """All of it in one part. Raises RingfenceError where there is no memory."""
        for first, size, at in self._parts:
            if first <= gpa and gpa + length <= first + size:
                return self._whole[at + gpa - first : at + gpa - first + length]
        raise RingfenceError(f"no memory at {gpa:#x}+{length:#x}")

    @contextmanager
    def dma(self, gpa: int, length: int, write: bool) -> Iterator[list[memoryview]]:
        assert gpa >= 0 and length >= 0, f"DMA of {length} bytes at {gpa}"
        whole = self.view(gpa, length) if length else self._whole[:0]
        views = [whole[: length // 2], whole[length // 2 :]] if length > 1 else [whole]
        views = [view if write else view.toreadonly() for view in views]
        self.open += 1
        try:
            yield list(views)
        finally:
            self.open -= 1
            for view in (*views, whole):
                view.release()

    def fill(self, content: bytes) -> None:
        """Over and over, from the first byte of each part."""
        for _, size, at in self._parts:
            self.bytes[at : at + size] = (content * (size // len(content) + 1))[:size]

    def guards_are_whole(self) -> bool:
        edges = [0, *(at + size for _, size, at in self._parts)]
        return all(self.bytes[at : at + PAGE] == bytes([GUARD_BYTE]) * PAGE for at in edges)


class Clock:
    """Wall and guest time, moved on by hand."""

    def __init__(self) -> None:
        self.ns = 1_700_000_000_123_456_789

    def now_ns(self) -> int:
        return self.ns

    def zone_minutes(self) -> int:
        return 60


class ConfigPorts:
    """A function's configuration space as ports."""

    def __init__(self, chip: PciFunction) -> None:
        self.port_read, self.port_write = chip.config_read, chip.config_write


class Board:
    """One device and its surroundings. Builders plug the device in and say in `events` what its far side may do."""

    def __init__(self) -> None:
        self.ports, self.memory = PortBus(), MmioSpace()
        self.buses = PciBuses(self.ports, self.memory)
        self.links = PciLinks()
        self.ram = GuardedMemory()
        self.clock = Clock()
        self.lines = [Line() for _ in range(LINES)]
        self.world: dict[str, int] = {}  # what neighbours drive into the device
        self.stores: dict[str, bytearray] = {}  # memory on the device's card
        self.levels: dict[str, object] = {}
        self.acts: list[object] = []
        self.events: list[Callable[[int], None]] = []

    def config(self, chip: PciFunction) -> None:
        self.ports.claim(CONFIG_WINDOW, 256, ConfigPorts(chip), width=4, name="configuration space")

    def level(self, name: str) -> Callable[[object], None]:
        """An output of the device, to be driven."""
        return lambda value: self.levels.__setitem__(name, value)

    def act(self, name: str) -> Callable[..., None]:
        """Something the device makes happen."""
        return lambda *details: self.acts.append((name, *details))

    def outputs(self) -> tuple[object, ...]:
        """What the device drives."""
        links = [self.links.level(link) for link in range(LINKS)]
        driven = {name: value for name, value in self.levels.items() if value is not None}
        return driven, [bool(line.level) for line in self.lines], links

    def take_acts(self) -> list[object]:
        taken, self.acts = self.acts, []
        return taken

    def do(self, access: Access) -> int | bytes | None:
        """Carry one access out; what was read, if anything was."""
        what, address, width, value = access
        if what == "in":
            return self.ports.read(address, width)
        if what == "out":
            self.ports.write(address, width, value)
        elif what == "ins":
            units = self.ports.read_units(address, width, value)
            assert len(units) == width * value, f"{access} gave {len(units)} bytes"
            return units
        elif what == "outs":
            self.ports.write_units(address, width, bytes(index & 0xFF for index in range(width * value)))
        elif what == "load":
            return self.memory.read(address, width)
        elif what == "store":
            self.memory.write(address, width, value)
        elif what == "poke":
            self.ram.view(address, width)[:] = value.to_bytes(width, "little")
        elif self.events:
            self.events[address % len(self.events)](value)
        return None


class PowerAndReset:
    """Whoever can end or restart the machine."""

    def __init__(self, board: Board) -> None:
        self.power_off, self.exit_with = board.act("off"), board.act("exit")
        self.reset_machine, self.reset_processor = board.act("reset"), board.act("init")


class A20:
    """Address line 20."""

    def __init__(self, board: Board) -> None:
        self.set_a20 = board.level("a20")
