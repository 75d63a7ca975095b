"""The PCI host bridge's configuration mechanism 1, and the functions behind it.

CF8 latches an address by dword writes only and reads back; CFC-CFF is a window of four bytes on the register it names.
An absent function reads all ones and ignores writes.
Not modelled: the other chips of the 440BX; mechanism 2.
Source: PCI Local Bus Specification 2.2, section 3.2.2.3.2.
"""

from __future__ import annotations

from ctypes import LittleEndianStructure, c_uint8, c_uint32, sizeof
from typing import Protocol

from hw.pci_spec import CONFIG_BYTES, LATCHED, ConfigAddress


class PciFunction(Protocol):
    """Configuration space of one function."""

    def config_read(self, offset: int, width: int) -> int: ...

    def config_write(self, offset: int, width: int, value: int) -> None: ...


class PciHostState(LittleEndianStructure):
    """All guest-visible state."""

    _fields_ = [("address", c_uint32)]


assert sizeof(PciHostState) == 4


class PciConfigSpace(LittleEndianStructure):
    """State of a function without registers of its own: its configuration bytes."""

    _fields_ = [("config", c_uint8 * CONFIG_BYTES)]


assert sizeof(PciConfigSpace) == CONFIG_BYTES


class PciHost:
    """Ports CF8-CFF. `attach` puts a function at (bus, device, function)."""

    State = PciHostState
    PORTS = 8
    WIDTH = 4

    def __init__(self, state: PciHostState) -> None:
        self.state = state
        self.functions: dict[tuple[int, int, int], PciFunction] = {}

    def attach(self, bus: int, device: int, function: int, chip: PciFunction) -> None:
        where = (bus, device, function)
        assert where not in self.functions, f"two PCI functions at {bus:02x}:{device:02x}.{function}"
        self.functions[where] = chip

    def reset(self) -> None:
        self.state.address = 0

    def sync(self) -> None:
        """Drives nothing."""

    def port_read(self, offset: int, width: int) -> int:
        address = self.state.address
        if offset < 4:
            return int(address) >> 8 * offset if width == 4 else 0xFFFFFFFF
        if (chip := self._selected()) is None:
            return 0xFFFFFFFF
        return chip.config_read((address & ConfigAddress.REGISTER) + offset - 4, width)

    def port_write(self, offset: int, width: int, value: int) -> None:
        """Anything but a dword write to CF8 is an access to some other port there, which this bridge lacks."""
        if offset < 4:
            if offset == 0 and width == 4:
                self.state.address = value & LATCHED
        elif (chip := self._selected()) is not None:
            chip.config_write((self.state.address & ConfigAddress.REGISTER) + offset - 4, width, value)

    def _selected(self) -> PciFunction | None:
        address = self.state.address
        if not address & ConfigAddress.ENABLE:
            return None
        return self.functions.get((address >> 16 & 0xFF, address >> 11 & 0x1F, address >> 8 & 7))
