"""One virtual machine: memory, interrupt page, devices and vCPU plugged together, and a program put into it.

The machine of this version is a small PC: COM1, the ports 402h and F4h, PCI with the PIIX4's power-management function,
the backdoor, and the interrupt controllers and timers of the core. All RAM below the top is plain memory, the video
window included; with firmware, E0000-FFFFF and the top of 4 GiB are ROM.

Threads: one runs the vCPU and enters the devices; others call `post`, `leave` or `stop`. `lock` is held around every
entry into a device.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from hw.backdoor import Backdoor, BackdoorState, MachineFacts
from hw.bus import PortBus
from hw.debugport import DEBUG_PORT, EXIT_PORT, DebugPort, ExitPort
from hw.pci import PciHost, PciHostState
from hw.pci_spec import CONFIG_ADDRESS
from hw.piix4_pm import Piix4Pm, Piix4PmState
from hw.piix4_pm_spec import SLOT
from hw.uart import Uart, UartState
from hw.uart_spec import COM1, COM1_IRQ, PORTS, Lcr, Offset
from hw.wiring import ByteSink
from ringfence.errors import BadOption
from vmm._core import ffi, lib
from vmm.cpuid import cpu_model
from vmm.cpuid_spec import MAX_PHYSICAL_BITS, Leaf
from vmm.engines import engine_named
from vmm.engines.contract import EngineFiles, EngineMap
from vmm.interrupts import Interrupts, owned_ports
from vmm.layout_spec import InterruptPage, VcpuState
from vmm.memory import PAGE_SIZE, GuestMemory
from vmm.state import StateFile
from vmm.vcpu import Attention, ControlMapping, TraceKind, Vcpu
from vmx.boot import enter_program
from vmx.clock import HostWallClock, host_tsc_hz
from vmx.loader import Image
from vmx.serial import SerialBackend
from vmx.stop import StopKind, StopReason
from vmx.symbols import SymbolTable

State = TypeVar("State", bound=ctypes.Structure)

NO_TRACE = TraceKind(0)
MEMORY_MIB_MIN = 2
MEMORY_MIB_MAX = 3072  # above it a PC's PCI window begins
FIRMWARE_END = 1 << 32
LEGACY_FIRMWARE_BYTES = 128 << 10  # the part of the firmware that also appears below 1 MiB
LEGACY_FIRMWARE_END = 1 << 20


@dataclass(frozen=True, slots=True)
class MachineConfig:
    """What a machine is made of. `cpu_features` as for --cpu-features; `tsc_hz` 0: the host's."""

    memory_mib: int = 64
    engine: str = "auto"
    cpu_features: str = ""
    tsc_hz: int = 0
    trace: TraceKind = NO_TRACE
    uuid: bytes = field(default_factory=lambda: uuid.uuid4().bytes)

    def check(self) -> None:
        """Raises BadOption for what no machine can have."""
        if not MEMORY_MIB_MIN <= self.memory_mib <= MEMORY_MIB_MAX:
            raise BadOption(f"--mem {self.memory_mib}: expected {MEMORY_MIB_MIN} to {MEMORY_MIB_MAX} (MiB)")


def to_stderr(byte: int) -> None:
    """The default sink of the debug port."""
    sys.stderr.write(chr(byte))
    if byte == ord("\n"):
        sys.stderr.flush()


class Machine:
    """A machine, switched off until `runner.run`. `close` gives everything back."""

    def __init__(
        self, config: MachineConfig, serial: SerialBackend, firmware: bytes = b"", debug_sink: ByteSink = to_stderr
    ) -> None:
        config.check()
        self.config, self.serial, self.firmware = config, serial, firmware
        self.lock = threading.Lock()
        self.stopping: StopReason | None = None
        self.pausing: StopReason | None = None
        self.deadline_ns: int | None = None
        self.symbols = SymbolTable()
        self._posted: deque[Callable[[], None]] = deque()
        self._model = cpu_model(config.cpu_features)
        engine = engine_named(config.engine)
        self.memory = GuestMemory(config.memory_mib << 20 >> 12, len(firmware) // PAGE_SIZE, 1)
        self._map_memory()
        self.state = StateFile.create(SECTIONS)
        self._control = ControlMapping(0)
        self.interrupts = Interrupts(_as(InterruptPage, self.state["interrupts"]), self.kick_mask)
        self.engine = engine(self._engine_map(), 0, core_model(self._model))
        self.vcpu = Vcpu(0, _as(VcpuState, self.state["vcpu0"]), self._control.page, self.engine, self.memory)
        self._build_devices(debug_sink)
        self.power_on()

    def close(self) -> None:
        """Switched off: give memory, files and the terminal back."""
        self.serial.close()
        self.engine.close()
        self._control.close()
        self.state.close()
        self.memory.close()

    # wiring

    def _map_memory(self) -> None:
        self.memory.map_ram(0, self.memory.ram_pages)
        if self.firmware:
            pages = len(self.firmware) // PAGE_SIZE
            first = self.memory.allocate_dev(pages)
            self.memory.dev_view(first, pages)[:] = self.firmware
            self.memory.map_rom(FIRMWARE_END // PAGE_SIZE - pages, pages, first)
            low = min(pages, LEGACY_FIRMWARE_BYTES // PAGE_SIZE)
            self.memory.map_rom(LEGACY_FIRMWARE_END // PAGE_SIZE - low, low, first + pages - low)

    def _engine_map(self) -> EngineMap:
        def at(buffer: object) -> int:
            return ctypes.addressof(ctypes.c_char.from_buffer(buffer))  # type: ignore[arg-type]

        memory, state, control = self.memory, self.state, self._control
        files = EngineFiles(
            memory.ram.fd, memory.dev.fd, memory.pages.fd, state.fd, state.size, state.offsets["interrupts"],
            (state.offsets["vcpu0"],), (control.fd,), control.size,
        )  # fmt: skip
        return EngineMap(
            ram=at(memory.ram.bytes), ram_bytes=memory.ram.size, dev=at(memory.dev.bytes), dev_bytes=memory.dev.size,
            pages=at(memory.pages.bytes), pages_bytes=memory.pages.size, interrupts=state.address("interrupts"),
            vcpus=(state.address("vcpu0"),), controls=(control.address,), files=files,
        )  # fmt: skip

    def _build_devices(self, debug_sink: ByteSink) -> None:
        owned = owned_ports()
        self.bus = bus = PortBus(lambda port: port in owned)
        facts = MachineFacts(self.config.memory_mib, self.tsc_hz(), lib.RF_APIC_BUS_HZ, self.config.uuid)
        state = self.state.states
        self.uart = Uart(_as(UartState, state["uart0"]), self.interrupts.line(COM1_IRQ), self.serial)
        self.pci = PciHost(_as(PciHostState, state["pci_host"]))
        self.pm = Piix4Pm(_as(Piix4PmState, state["piix4_pm"]), bus, self.interrupts, self)
        self.backdoor = Backdoor(_as(BackdoorState, state["backdoor"]), facts, HostWallClock())
        bus.claim(COM1, PORTS, self.uart, name="COM1")
        bus.claim(DEBUG_PORT, 1, DebugPort(debug_sink))
        bus.claim(EXIT_PORT, 1, ExitPort(self))
        bus.claim(CONFIG_ADDRESS, PciHost.PORTS, self.pci, width=PciHost.WIDTH)
        self.pci.attach(*SLOT, self.pm)
        self.devices = (self.uart, self.pci, self.pm, self.backdoor)

    # power

    def tsc_hz(self) -> int:
        return self.config.tsc_hz or host_tsc_hz()

    def power_on(self) -> None:
        """Everything as after the power button; the vCPU at the reset vector."""
        signature = next(leaf.eax for leaf in self._model if leaf.leaf == 1)
        self.interrupts.power_on(1, self.tsc_hz())
        lib.vcpu_reset(ffi.cast("struct vcpu *", self.state.address("vcpu0")), 0, signature)
        for device in self.devices:
            device.reset()
        self.vcpu.set_trace(self.config.trace)

    def load(self, image: Image, command_line: str = "") -> None:
        """Put a program into memory and the vCPU at its entry, as a boot loader would. Raises BadInput."""
        self.symbols = image.symbols
        enter_program(self.vcpu.state, self.memory, image, command_line)
        self.interrupts.virtual_wire()
        self.bus.write(COM1 + Offset.LCR, 1, Lcr.WLS)  # as firmware leaves it: characters of 8 bits

    def start(self) -> None:
        """Let guest time run and take serial input."""
        self.interrupts.resume()
        self.serial.connect(self.uart, self)

    def power_off(self) -> None:
        """From the chipset: soft-off."""
        self.stop(StopReason(StopKind.POWERED_OFF))

    def exit_with(self, status: int) -> None:
        """From the exit port."""
        self.stop(StopReason(StopKind.EXITED, status))

    def leave(self) -> None:
        """From the terminal."""
        self.stop(StopReason(StopKind.LEFT))

    def stop(self, reason: StopReason) -> None:
        """End the run; the first reason counts. Any thread."""
        if self.stopping is None:
            self.stopping = reason
        self.vcpu.kick()

    def pause(self, reason: StopReason) -> None:
        """End this run only, for a debugger, who clears `pausing` and runs it again. Any thread."""
        self.pausing = reason
        self.vcpu.kick()

    # while it runs

    def kick_mask(self, mask: int) -> None:
        """The core names vCPUs that must look at their interrupts."""
        if mask & 1:
            self.vcpu.kick(Attention.INTERRUPT)

    def post(self, action: Callable[[], None]) -> None:
        """Have `action` called by the running thread, under the lock, soon. Any thread."""
        self._posted.append(action)
        self.vcpu.kick()

    def limit_time(self, seconds: float) -> None:
        self.deadline_ns = time.monotonic_ns() + int(seconds * 1e9)

    def is_late(self) -> bool:
        return self.deadline_ns is not None and time.monotonic_ns() >= self.deadline_ns

    def is_wanted_back(self) -> bool:
        """Whether the run is to end or pause: a device that waits for the host stops waiting. Any thread."""
        return self.stopping is not None or self.pausing is not None or self.is_late()

    def between_exits(self) -> StopReason | None:
        """What was posted; then whether to stop. Called with the lock held."""
        while self._posted:
            self._posted.popleft()()
        if self.is_late() and self.stopping is None:
            self.stopping = StopReason(StopKind.TIMED_OUT)
        return self.stopping or self.pausing


SECTIONS: dict[str, type[ctypes.Structure]] = {
    "vcpu0": VcpuState,
    "interrupts": InterruptPage,
    "uart0": UartState,
    "pci_host": PciHostState,
    "piix4_pm": Piix4PmState,
    "backdoor": BackdoorState,
}


def core_model(leaves: list[Leaf]) -> object:
    """The core's struct cpu_model of these CPUID leaves."""
    model = ffi.new("struct cpu_model *")
    assert len(leaves) <= lib.RF_CPUID_LEAVES
    model.count, model.max_phys_bits = len(leaves), MAX_PHYSICAL_BITS
    for index, leaf in enumerate(leaves):
        for name, value in leaf._asdict().items():
            setattr(model.leaves[index], name, value)
    return model


def _as(kind: type[State], state: ctypes.Structure) -> State:
    assert isinstance(state, kind)
    return state
