"""The I/O port space: who answers which port.

An unclaimed port reads all ones and swallows writes. An access wider than the device's data path, or one that runs over
the end of a claim, is done in smaller pieces, lowest port first, as the ISA bridge does it. Ports that the core answers
itself (interrupt controllers, timers) never get here; claiming one is a programming error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from hw.wiring import BurstDevice, PortDevice

PORTS = 0x10000
MASKS = (0, 0xFF, 0xFFFF, 0, 0xFFFFFFFF)  # by width


@dataclass(slots=True)
class Claim:
    """Ports `first` .. `first + count - 1` belong to `device`, whose data path is `width` bytes wide."""

    first: int
    count: int
    device: PortDevice
    width: int
    name: str
    burst: BurstDevice | None = None


@dataclass(slots=True)
class BusStats:
    """Counters; never saved."""

    reads: int = 0
    writes: int = 0
    unclaimed: dict[int, int] = field(default_factory=dict)


class PortBus:
    """The port space of one machine. `core_owned(port)` tells which ports the core keeps to itself."""

    def __init__(self, core_owned: Callable[[int], bool] = lambda port: False) -> None:
        self.core_owned = core_owned
        self.stats = BusStats()
        self._owner: dict[int, Claim] = {}
        self._placed: list[tuple[Claim, list[int]]] = []

    def claim(self, first: int, count: int, device: PortDevice, *, width: int = 1, name: str = "") -> Claim:
        """Give ports to a device. Asserts that they are free and not the core's."""
        claim = Claim(first, count, device, width, name or type(device).__name__)
        for port in range(first, first + count):
            assert 0 <= port < PORTS, f"{claim.name}: there is no port {port:#x}"
            assert not self.core_owned(port), f"{claim.name}: port {port:#x} is the core's"
            assert port not in self._owner, f"{claim.name}: port {port:#x} belongs to {self._owner[port].name}"
        self._owner.update((port, claim) for port in range(first, first + count))
        return claim

    def place(
        self,
        first: int,
        ports: Iterable[int],
        device: PortDevice,
        *,
        width: int,
        name: str,
        burst: BurstDevice | None = None,
    ) -> Claim:
        """Give a relocatable device those of `ports` (offsets from `first`) that are free; the others shadow it.

        A guest chooses these addresses, so a collision is not an error: the earlier claim answers while it is there.
        """
        claim = Claim(first, 0, device, width, name, burst)
        wanted = [port for port in (first + offset for offset in ports) if 0 <= port < PORTS]
        self._placed.append((claim, [port for port in wanted if not self.core_owned(port)]))
        self._settle()
        return claim

    def release(self, claim: Claim) -> None:
        """Take a claim back: its ports are unclaimed, or answered by what was placed under it."""
        self._placed = [entry for entry in self._placed if entry[0] is not claim]
        for port in [port for port, owner in self._owner.items() if owner is claim]:
            del self._owner[port]
        self._settle()

    def _settle(self) -> None:
        """Every relocatable device has those of its ports that are free."""
        for claim, ports in self._placed:
            for port in ports:
                self._owner.setdefault(port, claim)

    def answers(self, claim: Claim, ports: Iterable[int]) -> bool:
        """Are all these ports this claim's?"""
        return all(self._owner.get(port) is claim for port in ports)

    def claims(self) -> list[Claim]:
        """Every claim once, by lowest port."""
        found: dict[int, Claim] = {}
        for port in sorted(self._owner):
            found.setdefault(id(self._owner[port]), self._owner[port])
        return list(found.values())

    def read(self, port: int, width: int) -> int:
        """A guest's IN of `width` bytes."""
        self.stats.reads += 1
        claim = self._owner.get(port)
        if claim is not None and (
            width == 1 or (width <= claim.width and self._owner.get(port + width - 1) is claim)
        ):  # fmt: skip
            return claim.device.port_read(port - claim.first, width) & MASKS[width]
        if width == 1:
            self._unclaimed(port)
            return 0xFF
        half = width // 2
        return self.read(port, half) | self.read(port + half & 0xFFFF, half) << 8 * half

    def write(self, port: int, width: int, value: int) -> None:
        """A guest's OUT of `width` bytes."""
        self.stats.writes += 1
        claim = self._owner.get(port)
        if claim is not None and (
            width == 1 or (width <= claim.width and self._owner.get(port + width - 1) is claim)
        ):  # fmt: skip
            claim.device.port_write(port - claim.first, width, value & MASKS[width])
        elif width == 1:
            self._unclaimed(port)
        else:
            half = width // 2
            self.write(port, half, value & (1 << 8 * half) - 1)
            self.write(port + half & 0xFFFF, half, value >> 8 * half)

    def read_units(self, port: int, width: int, count: int) -> bytes:
        """A guest's REP INS: `count` units of `width` bytes."""
        claim = self._owner.get(port)
        if claim is not None and claim.burst is not None and width <= claim.width:
            units = claim.burst.read_units(port - claim.first, width, count)
            if units is not None:
                self.stats.reads += count
                return units
        return b"".join(self.read(port, width).to_bytes(width, "little") for _ in range(count))

    def write_units(self, port: int, width: int, units: bytes) -> None:
        """A guest's REP OUTS."""
        claim = self._owner.get(port)
        burst = claim.burst if claim is not None and width <= claim.width else None
        if claim is not None and burst is not None and burst.write_units(port - claim.first, width, units):
            self.stats.writes += len(units) // width
            return
        for start in range(0, len(units), width):
            self.write(port, width, int.from_bytes(units[start : start + width], "little"))

    def _unclaimed(self, port: int) -> None:
        self.stats.unclaimed[port] = self.stats.unclaimed.get(port, 0) + 1
