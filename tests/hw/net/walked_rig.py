"""A PCnet whose rings the core walks: guest memory as a machine has it, and a socket behind the adapter."""

from __future__ import annotations

import ctypes
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from hw.bus import PortBus
from hw.mmio import MmioSpace
from hw.net.vlance import Vlance
from hw.pci import PciBuses, PciLinks
from ringfence.errors import BadInput
from tests.hw.net.nic_rig import ADDRESS, MEMORY, PORTS, RAM_BYTES, SLOT, Wire
from tests.hw.net.pcnet_driver import PcnetRig
from vmkernel.host.messages import frames_in, frames_message
from vmkernel.host.messages_layout import SEND_BUFFER_BYTES
from vmm._core import ffi, lib
from vmm.engines.contract import EngineMap
from vmm.interrupts import Interrupts
from vmm.layout_spec import InterruptPage
from vmm.memory import GuestMemory
from vmm.nic_hall import NicHall
from vmm.vcpu import ControlMapping
from vmx.network_threads import NetworkThreads

NIC, IRQ = 1, 10
PATIENCE_S = 60.0


def address_of(buffer: object) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))  # type: ignore[arg-type]


class Cable:
    """What the core leaves to the adapter is done at once, under a lock as the machine's."""

    def __init__(self, rig: WalkedRig) -> None:
        self.rig = rig
        self.scans = self.fills = self.nonsense = 0
        self.heard_frames: list[bytes] = []
        self.closed = threading.Event()

    def scan_soon(self) -> None:
        self.scans += 1
        with self.rig.lock:
            self.rig.nic.port_ready()

    def is_full(self) -> None:
        self.fills += 1

    def heard(self, message: memoryview | None) -> None:
        if message is None:
            self.closed.set()
            return
        try:
            frames = frames_in(message)
        except BadInput:
            self.nonsense += 1
            return
        for frame in frames:
            self.heard_frames.append(frame)
            with self.rig.lock:
                self.rig.nic.receive([memoryview(frame)])


class WalkedRig(PcnetRig):
    """Use it as a context: its threads and memory end with it. The device's own port is the same socket."""

    def __init__(self, style: int = 2, log: int = 3, *, threads: bool = True) -> None:
        self.style, self.log, self.size, self.high = style, log, 16 if style else 8, 0
        self.lock = threading.RLock()
        self.guest = GuestMemory(RAM_BYTES >> 12)
        self.guest.map_ram(0, RAM_BYTES >> 12)
        self.view = memoryview(self.guest.ram.bytes)
        self.page = InterruptPage()
        self.interrupts = Interrupts(self.page)
        self.interrupts.power_on(1, 1_000_000_000)
        self.interrupts.resume()
        self.interrupts.virtual_wire()
        self._value, self._kick = ffi.new("uint32_t *"), ffi.new("uint32_t *")
        for port, value in ((0x21, 0xFB), (0xA1, 0xFF & ~(1 << IRQ - 8)), (0x4D1, 1 << IRQ - 8)):
            assert lib.intr_port_write(self.interrupts.page, 0, port, 1, value, self._kick)
        self.control = ControlMapping(0)
        memory = self.guest
        where = EngineMap(
            address_of(memory.ram.bytes), memory.ram.size, address_of(memory.dev.bytes), memory.dev.size,
            address_of(memory.pages.bytes), memory.pages.size, ctypes.addressof(self.page), (), (self.control.address,),
        )  # fmt: skip
        self.hall = NicHall(where, self.interrupts)
        self.ports, self.mmio, self.links = PortBus(), MmioSpace(), PciLinks()
        self.links.inputs_of = lambda link: 1 << IRQ
        self.wire = SocketWire()
        self.nic = Vlance(
            Vlance.State(), PciBuses(self.ports, self.mmio), self.links.pin(SLOT, 1), memory, self.wire, ADDRESS,
            core=self.hall.front(NIC),
        )  # fmt: skip
        self.nic.set_link(True)
        self.nic.reset()
        self.nic.config_write(0x10, 4, PORTS)
        self.nic.config_write(0x14, 4, MEMORY)
        self.nic.config_write(0x04, 2, 7)
        self.outside = self.exits = 0
        self.cable = Cable(self)
        self.threads = NetworkThreads(self.hall, {NIC: self.cable})
        self.nic.wire(self.wire.near.fileno())
        if threads:
            self.threads.start()

    def __enter__(self) -> WalkedRig:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.threads.close()
        self.hall.close()
        self.wire.close()
        self.view.release()
        self.control.close()
        self.guest.close()

    @property
    def ram(self) -> memoryview:  # type: ignore[override]
        return self.view

    def get(self, offset: int, width: int = 2) -> int:
        if lib.nic_port_read(self.interrupts.page, 0, PORTS + offset, width, self._value, self._kick):
            return int(self._value[0])
        self.exits += 1
        with self.lock:
            return super().get(offset, width)

    def put(self, offset: int, value: int, width: int = 2) -> None:
        if lib.nic_port_write(self.interrupts.page, 0, PORTS + offset, width, value, self._kick):
            return
        self.exits += 1
        with self.lock:
            super().put(offset, value, width)

    def settle(self) -> None:
        with self.lock:
            self.nic.settle()

    def poll(self) -> bool:
        """As a machine does for adapters that want it, every two milliseconds or so."""
        with self.lock:
            if self.nic.wants_poll:
                self.nic.poll()
        return True

    def wait(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end, "it did not come"
            time.sleep(0.0005)


class SocketWire(Wire):
    """A pair of sockets: the adapter's end, and the far one, whose frames are read when asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self.near, self.far):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            end.setblocking(False)

    def transmit(self, frame: list[memoryview]) -> bool:
        try:
            self.near.send(frames_message([b"".join(frame)])[0])
        except BlockingIOError:
            return False
        return True

    def read(self) -> list[bytes]:
        """All that was sent so far and not read yet."""
        with_more: list[bytes] = []
        while True:
            try:
                with_more += frames_in(memoryview(self.far.recv(1 << 17)))
            except BlockingIOError:
                return with_more

    def fill(self) -> None:
        """Until it takes nothing more."""
        with suppress(BlockingIOError):
            while True:
                self.near.send(bytes(1000))

    def drain(self) -> None:
        """Unread, whatever it is."""
        with suppress(BlockingIOError):
            while True:
                self.far.recv(1 << 17)

    def bring(self, *frames: bytes) -> None:
        """From the other end, in one message."""
        data, count = frames_message(frames)
        assert count == len(frames)
        self.far.send(data)

    def close(self) -> None:
        self.near.close()
        self.far.close()
