"""What holds for every device: its state is complete, and no access from any state raises."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hw.backdoor import Backdoor, BackdoorState, MachineFacts
from hw.bus import PortBus
from hw.fw_cfg import FwCfg, FwCfgState
from hw.i440bx import I440bx, I440bxState
from hw.i8042 import I8042, I8042State
from hw.mmio import MmioSpace
from hw.parallel import Parallel, ParallelState
from hw.pci import PciBuses, PciConfigSpace, PciDevice, PciFunction, PciHost, PciHostState, PciLinks
from hw.piix4_isa import Piix4Isa, Piix4IsaState
from hw.piix4_pm import Piix4Pm, Piix4PmState
from hw.piix4_pm_spec import APM_PORTS, APMC_PORT, SLOT
from hw.reset import FastReset, ResetState
from hw.rtc import Rtc, RtcState
from hw.uart import Uart, UartState
from ringfence.errors import RingfenceError
from ringfence.pci_header import IoBar, MemBar, PciIds, Pin, RomBar, header
from ringfence.registers import RegBank
from tests.hw.ide import board as ide_board

Access = tuple[str, int, int, int]


class Input:
    """One interrupt input."""

    level = False

    def set_level(self, level: bool) -> None:
        self.level = level


class ConfigWindow:
    """Configuration space of one function as 256 ports, so that no address latch is between."""

    def __init__(self, chip: PciFunction) -> None:
        self.port_read, self.port_write = chip.config_read, chip.config_write


class Surroundings:
    """Every neighbour a device may have; what reaches it is logged."""

    def __init__(self) -> None:
        self.log: list[object] = []
        self.gpr = [0] * 8
        self.cpl = 3
        self.lines = [Input() for _ in range(24)]
        self.ram = bytearray(0x10000)

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

    def set_shadow(self, ranges: object) -> None:
        self.log.append(ranges)

    def set_smram(self, opened: bool) -> None:
        self.log.append(("smram", opened))

    def reset_machine(self) -> None:
        self.log.append("reset")

    def reset_processor(self) -> None:
        self.log.append("init")

    def set_a20(self, on: bool) -> None:
        self.level = on

    @contextmanager
    def dma(self, gpa: int, length: int, write: bool) -> Iterator[list[memoryview]]:
        if gpa + length > len(self.ram):
            raise RingfenceError("no memory there")
        middle = gpa + length // 2
        yield [memoryview(self.ram)[gpa:middle], memoryview(self.ram)[middle : gpa + length]]

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
            elif self.kind == "i8042":
                self.device.key(value & 0xFFFF, bool(value & 1 << 16))
                self.device.move(value & 0x3FF, -(value >> 8 & 0x3FF), value >> 18 & 7, value >> 20)
            elif self.kind == "ide":
                self.device.exchange()
            outputs = (vars(self.around).get("level"), vars(self.around).get("base"), vars(self.around).get("sci"))
            results.append((outputs, [*self.around.log], [line.level for line in self.around.lines]))
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
    bench.bus.claim(APMC_PORT, APM_PORTS, pm.apm)
    bench.bus.claim(0x3000, 256, ConfigWindow(pm), width=4)
    return pm


def build_bridge(bench: Bench, state: Any) -> Any:
    bridge = I440bx(state, bench.around, 64)
    bench.bus.claim(0x1000, 256, ConfigWindow(bridge), width=4)
    return bridge


def build_isa(bench: Bench, state: Any) -> Any:
    links = PciLinks()
    isa = Piix4Isa(state, PciBuses(bench.bus, MmioSpace()), links, bench.around.lines)
    links.pin(16, Pin.INTA).set_level(True)
    links.pin(18, Pin.INTB).set_level(True)
    bench.bus.claim(0x1000, 256, ConfigWindow(isa), width=4)
    return isa


class Adapter(PciDevice):
    """What a chip with windows of every kind needs to be a device; its registers read as their offsets."""

    BARS = (IoBar(0, 32), MemBar(1, 0x1000), MemBar(2, 0x100000, direct=True), RomBar(0x8000))
    CONFIG = RegBank("adapter", 256, *header(PciIds(0x1022, 0x2000, 0x020000), BARS, pin=Pin.INTA))

    def __init__(self, state: PciConfigSpace, buses: PciBuses, log: list[object]) -> None:
        super().__init__(state.config, buses, PciLinks().pin(17, Pin.INTA))
        self.state, self.log = state, log

    def reset(self) -> None:
        self.reset_config()
        self.sync()

    def sync(self) -> None:
        self.map_bars()

    def window_moved(self, index: int, base: int | None) -> None:
        self.log.append((index, base))

    def port_read(self, offset: int, width: int) -> int:
        return offset

    def port_write(self, offset: int, width: int, value: int) -> None:
        self.log.append(("port", offset, width, value))

    def mmio_read(self, offset: int, width: int) -> int:
        return offset

    def mmio_write(self, offset: int, width: int, value: int) -> None:
        self.log.append(("memory", offset, width, value))


def build_adapter(bench: Bench, state: Any) -> Any:
    """Its configuration space is at 1000h, and the page at 80001000h of its memory space at 2000h."""
    memory = MmioSpace()
    adapter = Adapter(state, PciBuses(bench.bus, memory), bench.around.log)
    bench.bus.claim(0x1000, 256, ConfigWindow(adapter), width=4)

    class Window:
        def port_read(self, offset: int, width: int) -> int:
            return memory.read(0x80001000 + offset, width)

        def port_write(self, offset: int, width: int, value: int) -> None:
            memory.write(0x80001000 + offset, width, value)

    bench.bus.claim(0x2000, 0x100, Window(), width=4)
    return adapter


def build_reset(bench: Bench, state: Any) -> Any:
    fast = FastReset(state, bench.around, bench.around)
    bench.bus.claim(0x92, 1, fast)
    bench.bus.claim(0xCF9, 1, fast.control)
    return fast


def build_fw_cfg(bench: Bench, state: Any) -> Any:
    config = FwCfg(state, bench.around)
    config.add_file("etc/test", bytes(range(200)))
    request = (0x0020000A).to_bytes(4, "big") + (150).to_bytes(4, "big") + (0x400).to_bytes(8, "big")
    bench.around.ram[:] = (request * (0x10000 // len(request)))[:0x10000]
    bench.bus.claim(0x510, FwCfg.PORTS, config, width=FwCfg.WIDTH)
    return config


def build_pci(bench: Bench, state: Any) -> Any:
    host = PciHost(state)
    bench.bus.claim(0xCF8, 8, host, width=4)
    return host


def build_backdoor(bench: Bench, state: Any) -> Any:
    return Backdoor(state, MachineFacts(64, 2_000_000_000, 100_000_000, bytes(range(16))), bench.around)


def build_rtc(bench: Bench, state: Any) -> Any:
    log = bench.around.log

    class Core:
        now_ns = 7_000_000_000

        def program_rtc(self, *values: int) -> None:
            assert all(0 <= value < 1 << 64 for value in values)
            log.append(values)

        def read_rtc_c(self) -> int:
            return 0xA0

    rtc = Rtc(state, Core(), bench.around)
    bench.bus.claim(0x70, 2, rtc)
    return rtc


def build_i8042(bench: Bench, state: Any) -> Any:
    chip = I8042(state, bench.around.lines[1], bench.around.lines[12], bench.around, bench.around)
    bench.bus.claim(0x60, 1, chip.data_port)
    bench.bus.claim(0x64, 1, chip.command_port)
    return chip


def build_parallel(bench: Bench, state: Any) -> Any:
    parallel = Parallel(state, bench.around.lines[7], bench.around.transmit)
    bench.bus.claim(0x378, 3, parallel)
    return parallel


def build_ide(bench: Bench, state: Any) -> Any:
    """Memory is full of region descriptors; every eighth ends its table."""
    entries = b"".join(
        (0x800 * index).to_bytes(4, "little") + (512).to_bytes(2, "little") + bytes([0, 0x80 * (index == 7)])
        for index in range(8)
    )
    bench.around.ram[:] = entries * (0x10000 // len(entries))
    device = ide_board.IdeBoard(state, bench.bus, bench.around)
    bench.bus.claim(ide_board.CONFIG, 256, ConfigWindow(device.ide), width=4)
    return device


STATES: dict[str, type[ctypes.Structure]] = {
    "uart": UartState, "pm": Piix4PmState, "pci": PciHostState, "backdoor": BackdoorState,
    "bridge": I440bxState, "isa": Piix4IsaState, "adapter": PciConfigSpace, "reset": ResetState, "fw_cfg": FwCfgState,
    "rtc": RtcState, "i8042": I8042State, "parallel": ParallelState, "ide": ide_board.IdeBoardState,
}  # fmt: skip
BUILDERS: dict[str, Callable[[Bench, Any], Any]] = {
    "uart": build_uart, "pm": build_pm, "pci": build_pci, "backdoor": build_backdoor,
    "bridge": build_bridge, "isa": build_isa, "adapter": build_adapter, "reset": build_reset, "fw_cfg": build_fw_cfg,
    "rtc": build_rtc, "i8042": build_i8042, "parallel": build_parallel, "ide": build_ide,
}  # fmt: skip
PORTS = {
    "uart": [0x3F8 + index for index in range(8)],
    "pm": [0xCFC, 0xCFD, 0xCFE, 0xCFF, 0x1000, 0x1004, 0x1005, 0x1010, 0xB2, 0xB3, 0x3090, 0x30D2],
    "pci": [0xCF8, 0xCF9, 0xCFB, 0xCFC, 0xCFE],
    "backdoor": [0x5658],
    "bridge": [0x1000 + offset for offset in (0, 2, 4, 0x10, 0x58, 0x59, 0x5A, 0x5C, 0x5F, 0x60, 0x72, 0xB4, 0xFC)],
    "isa": [0x1000 + offset for offset in (0, 4, 0x3C, 0x4E, 0x5E, 0x60, 0x61, 0x62, 0x63, 0xFE)],
    "adapter": [0x1004, 0x1005, 0x1010, 0x1012, 0x1014, 0x1018, 0x1030, 0x103C, 0x2000, 0x2003, 0x20],
    "reset": [0x92, 0xCF9],
    "fw_cfg": [0x510, 0x511, 0x512, 0x514, 0x518, 0x51A],
    "rtc": [0x70, 0x71, 0x71],
    "i8042": [0x60, 0x64],
    "parallel": [0x378, 0x379, 0x37A],
    "ide": [],
}

VALUES: dict[str, list[int]] = {
    "rtc": [*range(0x0F), 0x32, 0x26, 0x82, 0x59],
    "i8042": [0x60, 0x47, 0xD4, 0xAE, 0xA8, 0xD3, 0xF2, 0xF3, 0xF4, 0xC8, 0x64, 0x50, 0xF0, 0xEB],
}
# Devices that random accesses alone would hardly set to work.
SCRIPTS: dict[str, Callable[[int, int], list[Access]]] = {"ide": ide_board.accesses}


def random_accesses(kind: str, seed: int, count: int) -> list[Access]:
    if kind in SCRIPTS:
        return SCRIPTS[kind](seed, count * 10)
    source = random.Random(seed)
    values = [0, 7, 0x20, 0xFF, 0x10, 0x80001001, 0x10_00_00_00, 0x1001, 0x2000, 0x80003B40, 0x80003B80]
    return [
        (
            source.choice(["read", "write", "write", "outside"]),
            source.choice(PORTS[kind]),
            source.choice([1, 2, 4]),
            source.choice([*values, *VALUES.get(kind, ()), source.getrandbits(32)]),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("kind", STATES)
def test_state_is_complete(kind: str) -> None:
    """A device rebuilt over a copy of its state bytes cannot be told apart from the original."""
    for seed in range(20):
        script = random_accesses(kind, seed, 400)
        a = Bench(kind)
        half = len(script) // 2
        a.run(script[:half])
        b = Bench(kind, type(a.state).from_buffer_copy(a.state))
        b.around.log.clear()
        a.around.log.clear()
        b.around.ram[:] = a.around.ram
        if kind == "pm":  # the address latch in front of it belongs to another device
            assert a.bus.read(0x1004, 2) == b.bus.read(0x1004, 2)
        assert a.run(script[half:]) == b.run(script[half:])


@pytest.mark.parametrize("kind", STATES)
def test_from_any_state_no_access_raises(kind: str) -> None:
    for seed in range(50):
        source = random.Random(seed)
        state = STATES[kind].from_buffer_copy(source.randbytes(ctypes.sizeof(STATES[kind])))
        Bench(kind, state).run(random_accesses(kind, seed, 200))
