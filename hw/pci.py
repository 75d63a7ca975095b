"""PCI: configuration mechanism 1, and what every function has: base address registers and an interrupt pin.

CF8 latches an address by dword writes only and reads back; CFC-CFF is a window of four bytes on the register it names.
An absent function reads all ones and ignores writes. A base address register maps its range while the command
register's bit for that space is set. Address 0 and a range that ends with the address space, as a register holds them
before and while it is sized, map nothing. Every INTx pin joins one of the board's four links.
Not modelled: mechanism 2; 64-bit base addresses; error reporting; what is behind a bridge.
Source: PCI Local Bus Specification 2.2, sections 2.2.6, 3.2.2.3.2 and 6.2.5.
"""

from __future__ import annotations

from collections.abc import Callable, MutableSequence
from ctypes import LittleEndianStructure, c_uint8, c_uint32, sizeof
from dataclasses import dataclass
from typing import Any, Protocol

from hw.bus import PORTS, Claim, PortBus
from hw.mmio import MmioSpace, Region
from hw.pci_spec import LATCHED, LINKS, NO_IRQ, ConfigAddress
from hw.wiring import PortDevice
from ringfence.pci_header import CONFIG_BYTES, ROM_ENABLE, Bar, Command, Header, IoBar, RomBar
from ringfence.registers import RegBank

MEMORY_END = 1 << 32
RESET_CONTROL = 1  # offset of CF9
COMMAND, MASTER = int(Header.COMMAND), int(Command.MASTER)  # flags and members are slow, and each request looks


class PciFunction(Protocol):
    """Configuration space of one function."""

    def config_read(self, offset: int, width: int) -> int: ...

    def config_write(self, offset: int, width: int, value: int) -> None: ...


class ConfigState(Protocol):
    """The state of a `PciDevice` has, among others, this field."""

    @property
    def config(self) -> MutableSequence[int]: ...


class PciHostState(LittleEndianStructure):
    """All guest-visible state."""

    _fields_ = [("address", c_uint32)]


assert sizeof(PciHostState) == 4


class PciConfigSpace(LittleEndianStructure):
    """State of a function without registers of its own: its configuration bytes."""

    _fields_ = [("config", c_uint8 * CONFIG_BYTES)]


assert sizeof(PciConfigSpace) == CONFIG_BYTES


class PciHost:
    """Ports CF8-CFF. `attach` puts a function at (bus, device, function).

    Byte accesses to CF9 are not the bridge's: they go to `reset_control`, where there is one.
    """

    State = PciHostState
    PORTS = 8
    WIDTH = 4

    def __init__(self, state: PciHostState, reset_control: PortDevice | None = None) -> None:
        self.state, self.reset_control = state, reset_control
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
            if offset == RESET_CONTROL and width == 1 and self.reset_control is not None:
                return self.reset_control.port_read(0, 1)
            return int(address) if offset == 0 and width == 4 else 0xFFFFFFFF
        if (chip := self._selected()) is None:
            return 0xFFFFFFFF
        return chip.config_read((address & ConfigAddress.REGISTER) + offset - 4, width)

    def port_write(self, offset: int, width: int, value: int) -> None:
        """Anything but a dword write to CF8 is an access to some other port there, which this bridge lacks."""
        if offset < 4:
            if offset == 0 and width == 4:
                self.state.address = value & LATCHED
            elif offset == RESET_CONTROL and width == 1 and self.reset_control is not None:
                self.reset_control.port_write(0, 1, value)
        elif (chip := self._selected()) is not None:
            chip.config_write((self.state.address & ConfigAddress.REGISTER) + offset - 4, width, value)

    def _selected(self) -> PciFunction | None:
        address = self.state.address
        if not address & ConfigAddress.ENABLE:
            return None
        return self.functions.get((address >> 16 & 0xFF, address >> 11 & 0x1F, address >> 8 & 7))


# interrupts


class PciPin:
    """The INTx# pin of one function: an interrupt input for the device, low true on the board, a level here."""

    def __init__(self, links: PciLinks, link: int, source: int) -> None:
        self.links, self.link, self._source = links, link, 1 << source

    def set_level(self, level: bool) -> None:
        self.links.drive(self.link, self._source, level)

    def irq(self) -> int:
        """The ISA IRQ that this pin's link is routed to, or NO_IRQ."""
        return self.links.irq_of(self.link)

    def inputs(self) -> int:
        """The interrupt inputs that this pin's link drives, as a mask; `PciLinks.rerouted` says when that changes."""
        return self.links.inputs_of(self.link)


class PciLinks:
    """The board's four interrupt links: each is asserted while any pin on it is.

    A pin's link is (slot + pin + rotation) mod 4 with INTA# as 0. Boards differ in `rotation`: on VMware's it is 1, on
    the one that SeaBIOS has tables for -1. The interrupt router sets `changed`, `irq_of` and `inputs_of`, and calls all
    of `rerouted` when a link leads elsewhere.
    """

    def __init__(self, rotation: int = 1) -> None:
        self.rotation = rotation
        self.changed: Callable[[int], None] = lambda link: None
        self.irq_of: Callable[[int], int] = lambda link: NO_IRQ
        self.inputs_of: Callable[[int], int] = lambda link: 0
        self.rerouted: list[Callable[[], None]] = []
        self._asserted = [0] * LINKS
        self._sources = 0

    def pin(self, slot: int, pin: int) -> PciPin:
        """For the function in `slot` whose interrupt pin register reads `pin` (1 is INTA#)."""
        assert pin in range(1, 5), f"interrupt pin {pin}: expected 1 to 4"
        self._sources += 1
        return PciPin(self, (slot + pin - 1 + self.rotation) % LINKS, self._sources)

    def level(self, link: int) -> bool:
        return self._asserted[link] != 0

    def drive(self, link: int, source: int, level: bool) -> None:
        was = self._asserted[link]
        now = was | source if level else was & ~source
        self._asserted[link] = now
        if (was == 0) != (now == 0):
            self.changed(link)


# functions


@dataclass(frozen=True, slots=True)
class PciBuses:
    """The spaces in which a function's base addresses lie."""

    ports: PortBus
    memory: MmioSpace


class PciDevice:
    """A function that declares its registers and its base addresses.

    A chip sets CONFIG, a bank that begins with `header(...)`, and BARS; its ranges are answered by `bar_device(index)`,
    by default the chip itself. It calls `reset_config` from `reset`, and `map_bars` from `sync`. With an `intx` its
    interrupt line register reads as where the board routes that pin, so software never sees a stale number.
    """

    CONFIG: RegBank
    BARS: tuple[Bar, ...] = ()

    def __init__(self, config: MutableSequence[int], buses: PciBuses, intx: PciPin | None = None) -> None:
        """Wire only. `config` is the configuration space in the device's state."""
        self.config, self.buses, self.intx = config, buses, intx
        self._mapped: dict[int, tuple[int, Claim | Region | None]] = {}

    # for the chip

    def reset_config(self) -> None:
        self.CONFIG.reset(self.config)

    def bar_device(self, index: int) -> Any:
        """Who answers range `index`: a PortDevice for I/O, an MmioDevice for memory."""
        return self

    def window_moved(self, index: int, base: int | None) -> None:
        """A direct window (or the ROM, index 6) now begins at `base`; None: it is not decoded."""

    @property
    def may_master(self) -> bool:
        """May the function read and write memory?"""
        return bool(self.config[COMMAND] & MASTER)

    def bar_base(self, index: int) -> int | None:
        """Where range `index` is mapped now; None: it is not."""
        return self._mapped[index][0] if index in self._mapped else None

    # from the guest

    def config_read(self, offset: int, width: int) -> int:
        value = self.CONFIG.read(self.config, offset, width)
        if offset <= Header.INTERRUPT_LINE < offset + width and self.intx is not None:
            shift = 8 * (Header.INTERRUPT_LINE - offset)
            value = value & ~(0xFF << shift) | self.intx.irq() << shift
        return value

    def config_write(self, offset: int, width: int, value: int) -> None:
        self.CONFIG.dispatch(self, self.CONFIG.write(self.config, offset, width, value))

    # outputs

    def map_bars(self) -> None:
        """Every range lies where the registers say. Idempotent; ranges that stay are not touched."""
        for bar in self.BARS:
            base = self._wanted(bar)
            if base == self.bar_base(bar.index):
                continue
            self._unmap(bar)
            if base is not None:
                self._mapped[bar.index] = (base, self._map(bar, base))
            if not isinstance(bar, IoBar) and bar.direct:
                self.window_moved(bar.index, base)

    def _wanted(self, bar: Bar) -> int | None:
        value = self.CONFIG.read(self.config, bar.offset, 4)
        space, limit = (Command.IO, PORTS) if isinstance(bar, IoBar) else (Command.MEMORY, MEMORY_END - 1)
        base = value & -bar.size
        if not self.config[Header.COMMAND] & space or base == 0 or base + bar.size > limit:
            return None
        return None if isinstance(bar, RomBar) and not value & ROM_ENABLE else base

    def _map(self, bar: Bar, base: int) -> Claim | Region | None:
        name = f"{type(self).__name__} BAR{bar.index}"
        device = self.bar_device(bar.index)
        if isinstance(bar, IoBar):
            return self.buses.ports.place(base, range(bar.size), device, width=bar.width, name=name)
        if bar.direct:
            return None
        return self.buses.memory.map(base, bar.size, device, width=bar.width, name=name)

    def _unmap(self, bar: Bar) -> None:
        _, claim = self._mapped.pop(bar.index, (0, None))
        if isinstance(claim, Claim):
            self.buses.ports.release(claim)
        elif isinstance(claim, Region):
            self.buses.memory.unmap(claim)
