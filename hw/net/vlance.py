"""The "vlance" adapter of a VMware machine, as a PCI function: an Am79C970A whose driver may turn it into a vmxnet.

    00-1F   the PCnet's registers; in memory, too
    20-23   the morph port: which of the two it is, and a way to make it the other
    24-63   vmxnet's registers, while it is one

The two share the station address and the interrupt pin. The one that it is not stands still: its registers read all
ones, but for the address PROM. Both ways the new one starts anew.
Source: VMware's open-vm-tools 2008.02.13, modules/linux/vmxnet (the morph port); PCI identity of VMware machines.
"""

from __future__ import annotations

from ctypes import LittleEndianStructure, c_uint8, sizeof
from typing import Any

from hw.bus import Claim
from hw.net.pcnet import Pcnet
from hw.net.pcnet_front import ANSWERED, Front, inside
from hw.net.pcnet_registers import PcnetState
from hw.net.pcnet_spec import APROM_BYTES, IO_BAR, MASTER_ABORT, WINDOW_BYTES, bars, config_bank
from hw.net.vmxnet import Vmxnet, VmxnetState
from hw.net.vmxnet_spec import IS_LANCE, IS_VMXNET, MORPH_PORT, MORPHED_OFFSET, REGISTERS_BYTES
from hw.net.wiring import CoreFront, Frame, Port
from hw.pci import PciBuses, PciDevice, PciPin
from hw.wiring import GuestMemory
from ringfence.pci_header import CONFIG_BYTES, ROM_INDEX, Header

ALL_ONES = 0xFFFFFFFF
MORPH_WIDTH = 2


class VlanceState(LittleEndianStructure):
    """All guest-visible state. `morphed`: it is a vmxnet."""

    _fields_ = [
        ("config", c_uint8 * CONFIG_BYTES), ("pcnet", PcnetState), ("vmxnet", VmxnetState), ("morphed", c_uint8),
        ("reserved", c_uint8 * 3),
    ]  # fmt: skip


assert sizeof(VlanceState) == CONFIG_BYTES + sizeof(PcnetState) + sizeof(VmxnetState) + 4


class ExpansionRom:
    """What the ROM window shows: read-only, erased where there is nothing."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def mmio_read(self, offset: int, width: int) -> int:
        return int.from_bytes(self.content[offset : offset + width].ljust(width, b"\xff"), "little")

    def mmio_write(self, offset: int, width: int, value: int) -> None:
        """Lost."""


class Vlance(PciDevice):
    """A hw.net.wiring.Nic."""

    State = VlanceState

    def __init__(
        self, state: VlanceState, buses: PciBuses, intx: PciPin, memory: GuestMemory, port: Port, address: bytes,
        rom: bytes = b"", core: CoreFront | None = None,
    ) -> None:  # fmt: skip
        """Wire only. `address` is the permanent station address; `rom` an expansion ROM for 1022:2000.

        With a `core` that answers some accesses, each of those that come here does so under the machine's lock.
        """
        self.CONFIG, self.BARS = config_bank(len(rom)), bars(len(rom))
        super().__init__(state.config, buses, intx)
        self.state, self.line, self.port = state, intx, port
        self.pcnet = Pcnet(state.pcnet, self, memory, port, address)
        self.vmxnet = Vmxnet(state.vmxnet, self, memory, port, address)
        self.front = Front(self.pcnet, core, self.interrupt_changed)
        self._rom = ExpansionRom(rom)
        intx.links.rerouted.append(self._rerouted)

    @inside
    def reset(self) -> None:
        """RESET#: a PCnet again. The cable stays plugged in, or not."""
        self.reset_config()
        self.state.morphed = 0
        self.vmxnet.reset()
        self.pcnet.reset()
        self.sync()

    @inside
    def config_write(self, offset: int, width: int, value: int) -> None:
        super().config_write(offset, width, value)

    def bar_device(self, index: int) -> Any:
        return self._rom if index == ROM_INDEX else self

    # from the guest

    @inside
    def port_read(self, offset: int, width: int) -> int:
        """An access that begins in one part does not reach into the next."""
        morphed = self.state.morphed
        if offset < WINDOW_BYTES:
            return ALL_ONES if morphed and offset + width > APROM_BYTES else self.pcnet.read(offset, width)
        if offset == MORPH_PORT and width == MORPH_WIDTH:
            return IS_VMXNET if morphed else IS_LANCE
        if morphed and MORPHED_OFFSET <= offset < MORPHED_OFFSET + REGISTERS_BYTES:
            return self.vmxnet.read(offset - MORPHED_OFFSET, width)
        return ALL_ONES

    @inside
    def port_write(self, offset: int, width: int, value: int) -> None:
        morphed = self.state.morphed
        if offset < WINDOW_BYTES:
            if not morphed:
                self.pcnet.write(offset, width, value)
        elif offset == MORPH_PORT and width == MORPH_WIDTH:
            self._morph(value)
        elif morphed and MORPHED_OFFSET <= offset < MORPHED_OFFSET + REGISTERS_BYTES:
            self.vmxnet.write(offset - MORPHED_OFFSET, width, value)

    mmio_read, mmio_write = port_read, port_write

    def _morph(self, value: int) -> None:
        """Anything else than the two numbers changes nothing."""
        if value == IS_VMXNET and not self.state.morphed:
            self.pcnet.soft_reset()
            self.vmxnet.reset()
            self.state.morphed = 1
        elif value == IS_LANCE and self.state.morphed:
            self.vmxnet.detach()
            self.pcnet.soft_reset()
            self.state.morphed = 0
        self.sync()

    # from the cable

    @property
    def _current(self) -> Pcnet | Vmxnet:
        return self.vmxnet if self.state.morphed else self.pcnet

    @inside
    def receive(self, frame: Frame) -> bool:
        return self._current.receive(frame)

    @inside
    def offer(self, frame: Frame) -> bool:
        return self._current.offer(frame)

    @inside
    def port_ready(self) -> None:
        self._current.port_ready()

    @property
    def owes_word(self) -> bool:
        """Were frames sent of which the driver has yet to be told, by `poll`?"""
        return bool(self.front.unsaid) and not self.front.sends

    @property
    def attended(self) -> bool:
        return self.vmxnet.asserted() if self.state.morphed else self.front.attended

    def set_waits(self, waits: bool) -> None:
        self.front.set_waits(waits)

    @inside
    def set_link(self, up: bool) -> None:
        self.pcnet.set_link(up)
        self.vmxnet.set_link(up)

    def wire(self, fd: int | None) -> bool:
        return self.front.wire(fd)

    def has_room(self) -> bool:
        return self.front.has_room()

    @inside
    def settle(self) -> None:
        """What the core has done so far is in the state."""

    @property
    def wants_poll(self) -> bool:
        """Is `poll` to be called, every two milliseconds or so?"""
        return not self.state.morphed and not self.front.sends and self.pcnet.wants_poll

    @inside
    def poll(self) -> None:
        """The PCnet's poll timer has run out."""
        if not self.state.morphed:
            self.pcnet.poll()

    # from the chip inside

    def master_aborted(self) -> None:
        """RMABORT, in the status register."""
        self.config[Header.STATUS + 1] |= MASTER_ABORT >> 8

    def interrupt_changed(self) -> None:
        if self.state.morphed:
            self.line.set_level(self.vmxnet.asserted())
            return
        if level := self.pcnet.registers.asserted():
            self.state.pcnet.attended = 1
        self.line.set_level(level and not self.front.is_on)  # there the core does

    def filter_changed(self) -> None:
        self.port.set_filter(self.vmxnet.filter() if self.state.morphed else self.pcnet.registers.filter())

    def map_bars(self) -> None:
        super().map_bars()
        self._place_front()

    def _place_front(self) -> None:
        """Where a PCnet's registers are, if all of them are ours."""
        base, claim = self._mapped.get(IO_BAR.index, (0, None))
        ours = isinstance(claim, Claim) and self.buses.ports.answers(claim, (base + offset for offset in ANSWERED))
        self.front.place(base if ours and not self.state.morphed else None, self.line.inputs())

    def _rerouted(self) -> None:
        """INTA# leads elsewhere. While state is loaded, what is to be is not known before `sync`."""
        if self.front.is_settled:
            self._replace_front()

    @inside
    def _replace_front(self) -> None:
        self._place_front()

    @inside
    def sync(self) -> None:
        """Drive every output from state."""
        self.map_bars()
        self.filter_changed()
        self.interrupt_changed()
