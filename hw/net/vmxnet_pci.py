"""vmxnet as a PCI function of its own, for machines that ask for one: its registers alone, in 64 I/O ports.

Source: VMware's open-vm-tools 2008.02.13, modules/linux/vmxnet (identity and layout).
"""

from __future__ import annotations

from ctypes import LittleEndianStructure, c_uint8, sizeof

from hw.net.vmxnet import Vmxnet, VmxnetState
from hw.net.vmxnet_spec import CONFIG, IO_BAR
from hw.net.wiring import Port
from hw.pci import PciBuses, PciDevice, PciPin
from hw.wiring import GuestMemory
from ringfence.pci_header import CONFIG_BYTES


class VmxnetPciState(LittleEndianStructure):
    """All guest-visible state."""

    _fields_ = [("config", c_uint8 * CONFIG_BYTES), ("vmxnet", VmxnetState)]


assert sizeof(VmxnetPciState) == CONFIG_BYTES + sizeof(VmxnetState)


class VmxnetPci(PciDevice):
    """A hw.net.wiring.Nic."""

    State = VmxnetPciState
    CONFIG = CONFIG
    BARS = (IO_BAR,)
    wants_poll = False

    def __init__(
        self, state: VmxnetPciState, buses: PciBuses, intx: PciPin, memory: GuestMemory, port: Port, address: bytes
    ) -> None:
        """Wire only. `address` is the permanent station address."""
        super().__init__(state.config, buses, intx)
        self.state, self.line, self.port = state, intx, port
        self.vmxnet = Vmxnet(state.vmxnet, self, memory, port, address)
        self.port_read, self.port_write = self.vmxnet.read, self.vmxnet.write
        self.receive, self.offer = self.vmxnet.receive, self.vmxnet.offer
        self.port_ready, self.set_link = self.vmxnet.port_ready, self.vmxnet.set_link

    def reset(self) -> None:
        """RESET#. The cable stays plugged in, or not."""
        self.reset_config()
        self.vmxnet.reset()
        self.sync()

    @property
    def attended(self) -> bool:
        """Its driver acknowledges before it looks at the ring."""
        return self.vmxnet.asserted()

    def set_waits(self, waits: bool) -> None:
        """The driver's access is seen anyway."""

    def wire(self, fd: int | None) -> bool:
        return False

    def has_room(self) -> bool:
        return False

    def settle(self) -> None:
        """All is in the state."""

    def poll(self) -> None:
        """Nothing goes on unasked."""

    def interrupt_changed(self) -> None:
        self.line.set_level(self.vmxnet.asserted())

    def filter_changed(self) -> None:
        self.port.set_filter(self.vmxnet.filter())

    def sync(self) -> None:
        """Drive every output from state."""
        self.map_bars()
        self.filter_changed()
        self.interrupt_changed()
