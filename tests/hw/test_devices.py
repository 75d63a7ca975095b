"""What holds for every device: its state is complete, and no access from any state raises."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable
from typing import Any

import pytest

from hw.backdoor import Backdoor, BackdoorState, MachineFacts
from hw.bus import PortBus
from hw.pci import PciHost, PciHostState
from hw.piix4_pm import Piix4Pm, Piix4PmState
from hw.piix4_pm_spec import SLOT
from hw.uart import Uart, UartState

Access = tuple[str, int, int, int]


class Surroundings:
    """Every neighbour a device may have; what reaches it is logged."""

    def __init__(self) -> None:
        self.log: list[object] = []
        self.gpr = [0] * 8
        self.cpl = 3

    def set_level(self, level: bool) -> None:
        self.level = level

    def transmit(self, byte: int) -> None:
        self.log.append(("sent", byte))

    def ready(self) -> None:
        self.log.append("ready")

    def power_off(self) -> None:
        self.log.append("off")

    def exit_with(self, status: int) -> None:
        self.log.append(("exit", status))

    def set_pm_base(self, port: int) -> None:
        self.base = port

    def set_sci_enable(self, on: bool) -> None:
        self.sci = on

    def now_ns(self) -> int:
        return 1_700_000_000_123_456_789

    def zone_minutes(self) -> int:
        return 60


class Bench:
    """One device with a bus in front of it."""

    def __init__(self, kind: str, state: ctypes.Structure | None = None) -> None:
        self.around = Surroundings()
        self.bus = PortBus()
        self.kind = kind
        self.state = state or STATES[kind]()
        self.device: Any = BUILDERS[kind](self, self.state)
        if state is None:
            self.device.reset()
        else:
            self.device.sync()

    def run(self, script: list[Access]) -> list[object]:
        results: list[object] = []
        for what, port, width, value in script:
            if what == "read":
                results.append(self.bus.read(port, width))
            elif what == "write":
                self.bus.write(port, width, value)
            elif self.kind == "uart":
                self.device.received(value & 0xFF)
                self.device.set_inputs(value >> 8 & 0xFF)
            elif self.kind == "backdoor":
                self.around.gpr[:] = [0x564D5868, value & 0x3F, 0x5658, value, 0, 0, 0, 0]
                self.device.call(0x5658, self.around)
                results.append(tuple(self.around.gpr))
            outputs = (vars(self.around).get("level"), vars(self.around).get("base"), vars(self.around).get("sci"))
            results.append((outputs, [*self.around.log]))
            self.around.log.clear()
        return results


def build_uart(bench: Bench, state: Any) -> Any:
    uart = Uart(state, bench.around, bench.around)
    bench.bus.claim(0x3F8, 8, uart)
    return uart


def build_pm(bench: Bench, state: Any) -> Any:
    pm = Piix4Pm(state, bench.bus, bench.around, bench.around)
    host = PciHost(PciHostState())
    host.attach(*SLOT, pm)
    bench.bus.claim(0xCF8, 8, host, width=4)
    host.state.address = 0x80003B40
    return pm


def build_pci(bench: Bench, state: Any) -> Any:
    host = PciHost(state)
    bench.bus.claim(0xCF8, 8, host, width=4)
    return host


def build_backdoor(bench: Bench, state: Any) -> Any:
    return Backdoor(state, MachineFacts(64, 2_000_000_000, 100_000_000, bytes(range(16))), bench.around)


STATES: dict[str, type[ctypes.Structure]] = {
    "uart": UartState, "pm": Piix4PmState, "pci": PciHostState, "backdoor": BackdoorState,
}  # fmt: skip
BUILDERS: dict[str, Callable[[Bench, Any], Any]] = {
    "uart": build_uart, "pm": build_pm, "pci": build_pci, "backdoor": build_backdoor,
}  # fmt: skip
PORTS = {
    "uart": [0x3F8 + index for index in range(8)],
    "pm": [0xCFC, 0xCFD, 0xCFE, 0xCFF, 0x1000, 0x1004, 0x1005, 0x1010],
    "pci": [0xCF8, 0xCF9, 0xCFB, 0xCFC, 0xCFE],
    "backdoor": [0x5658],
}


def random_accesses(kind: str, seed: int, count: int) -> list[Access]:
    source = random.Random(seed)
    values = [0, 0xFF, 0x1001, 0x2000, 0x80003B40, 0x80003B80]
    return [
        (
            source.choice(["read", "write", "write", "outside"]),
            source.choice(PORTS[kind]),
            source.choice([1, 2, 4]),
            source.choice([*values, source.getrandbits(32)]),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("kind", STATES)
def test_state_is_complete(kind: str) -> None:
    """A device rebuilt over a copy of its state bytes cannot be told apart from the original."""
    for seed in range(20):
        script = random_accesses(kind, seed, 400)
        a = Bench(kind)
        a.run(script[:200])
        b = Bench(kind, type(a.state).from_buffer_copy(a.state))
        b.around.log.clear()
        a.around.log.clear()
        if kind == "pm":  # the address latch in front of it belongs to another device
            assert a.bus.read(0x1004, 2) == b.bus.read(0x1004, 2)
        assert a.run(script[200:]) == b.run(script[200:])


@pytest.mark.parametrize("kind", STATES)
def test_from_any_state_no_access_raises(kind: str) -> None:
    for seed in range(50):
        source = random.Random(seed)
        state = STATES[kind].from_buffer_copy(source.randbytes(ctypes.sizeof(STATES[kind])))
        Bench(kind, state).run(random_accesses(kind, seed, 200))
