"""Declaration helpers for PCI functions: the standard headers and base address registers as rows of a register bank.

`header` gives the rows that every function has, to put in front of a chip's own; writing one of its base addresses or
its command register calls the device's `map_bars`.
Source: PCI Local Bus Specification 2.2, sections 6.1 and 6.2.5; PCI-to-PCI Bridge Architecture 1.1, section 3.2.
"""

from dataclasses import dataclass
from enum import IntEnum, IntFlag

from ringfence.registers import Reg

CONFIG_BYTES = 256


class Header(IntEnum):
    """Offsets in configuration space that every function has."""

    DEVICE_ID = 0x02
    COMMAND = 0x04
    STATUS = 0x06
    BAR0 = 0x10
    ROM_BAR = 0x30
    INTERRUPT_LINE = 0x3C


class Command(IntFlag):
    """Command register, the bits that matter here."""

    IO = 1 << 0
    MEMORY = 1 << 1
    MASTER = 1 << 2
    PARITY = 1 << 6
    SERR = 1 << 8


class Status(IntFlag):
    """Status register: what a driver clears by writing one, and what is always so."""

    CAPABILITIES = 1 << 4
    MEDIUM_DEVSEL = 1 << 9
    ERRORS = 0xF9 << 8


class Pin(IntEnum):
    """Interrupt pin register."""

    NONE = 0
    INTA = 1
    INTB = 2
    INTC = 3
    INTD = 4


MULTIFUNCTION = 0x80  # in the header type of function 0
BRIDGE_HEADER = 0x01
ROM_ENABLE = 0x01
ROM_INDEX = 6  # the expansion ROM's place in a function's list of windows
IO_SPACE = 0x01
PREFETCHABLE = 0x08


@dataclass(frozen=True, slots=True)
class PciIds:
    """Who a function says it is. `class_code` is class, subclass and programming interface."""

    vendor: int
    device: int
    class_code: int
    revision: int = 0
    subsystem_vendor: int = 0
    subsystem: int = 0


@dataclass(frozen=True, slots=True)
class IoBar:
    """Base address register `index`: `size` I/O ports, `width` bytes of data path.

    All 32 bits decode, which firmware expects when it sizes: an upper half of zeros would look like a huge range.
    """

    index: int
    size: int
    width: int = 4

    @property
    def offset(self) -> int:
        return Header.BAR0 + 4 * self.index

    @property
    def row(self) -> Reg:
        return Reg(self.offset, f"BAR{self.index}", 4, IO_SPACE, 0xFFFFFFFF & -self.size & ~3, on_write="map_bars")


@dataclass(frozen=True, slots=True)
class MemBar:
    """Base address register `index`: `size` bytes below 4 GiB.

    `direct` memory is not given to the MMIO space: the device's `window_moved` learns where it is.
    """

    index: int
    size: int
    prefetchable: bool = False
    direct: bool = False
    width: int = 4

    @property
    def offset(self) -> int:
        return Header.BAR0 + 4 * self.index

    @property
    def row(self) -> Reg:
        flags = PREFETCHABLE if self.prefetchable else 0
        return Reg(self.offset, f"BAR{self.index}", 4, flags, 0xFFFFFFFF & -self.size & ~0xF, on_write="map_bars")


@dataclass(frozen=True, slots=True)
class RomBar:
    """The expansion ROM: `size` bytes (2 KiB and more), shown while its own enable bit is set."""

    size: int
    direct: bool = True
    width: int = 4
    index: int = ROM_INDEX

    @property
    def offset(self) -> int:
        return int(Header.ROM_BAR)

    @property
    def row(self) -> Reg:
        rw = 0xFFFFFFFF & -self.size & ~0x7FF | ROM_ENABLE
        return Reg(self.offset, "ROM_BAR", 4, 0, rw, on_write="map_bars")


Bar = IoBar | MemBar | RomBar


def header(
    ids: PciIds,
    bars: tuple[Bar, ...] = (),
    *,
    pin: Pin = Pin.NONE,
    command: int = 0,
    command_rw: int = int(Command.IO | Command.MEMORY | Command.MASTER),
    status: int = int(Status.MEDIUM_DEVSEL),
    header_type: int = 0,
    latency_rw: int = 0xF8,
) -> tuple[Reg, ...]:
    """The rows of a type 0 header. A bit of the command register that is set at reset and not in `command_rw` stays."""
    for bar in bars:
        assert bar.size & bar.size - 1 == 0, f"a base address register of {bar.size:#x}: expected a power of two"
    rows = (
        Reg(0x00, "VID", 2, ids.vendor),
        Reg(0x02, "DID", 2, ids.device),
        Reg(0x04, "PCICMD", 2, command, command_rw, on_write="map_bars"),
        Reg(0x06, "PCISTS", 2, status, w1c=int(Status.ERRORS)),
        Reg(0x08, "RID", 1, ids.revision),
        Reg(0x09, "CLASSC", 3, ids.class_code),
        Reg(0x0C, "CLS", 1, 0, 0xFF),
        Reg(0x0D, "MLT", 1, 0, latency_rw),
        Reg(0x0E, "HEDT", 1, header_type),
        *(bar.row for bar in bars),
        Reg(0x2C, "SVID", 2, ids.subsystem_vendor),
        Reg(0x2E, "SID", 2, ids.subsystem),
    )
    if pin is Pin.NONE:
        return rows
    return (*rows, Reg(Header.INTERRUPT_LINE, "INTLN", 1, 0, 0xFF), Reg(0x3D, "INTPN", 1, int(pin)))


def bridge_header(ids: PciIds, *, command_rw: int = 0x0147, status: int = 0x0220) -> tuple[Reg, ...]:
    """The rows of a type 1 header whose windows a guest may set to what it likes: nothing is behind the bridge."""
    return (
        Reg(0x00, "VID", 2, ids.vendor),
        Reg(0x02, "DID", 2, ids.device),
        Reg(0x04, "PCICMD", 2, 0, command_rw),
        Reg(0x06, "PCISTS", 2, status, w1c=int(Status.ERRORS)),
        Reg(0x08, "RID", 1, ids.revision),
        Reg(0x09, "CLASSC", 3, ids.class_code),
        Reg(0x0D, "MLT", 1, 0, 0xF8),
        Reg(0x0E, "HEDT", 1, BRIDGE_HEADER),
        Reg(0x18, "PBUSN", 1, 0, 0xFF),
        Reg(0x19, "SBUSN", 1, 0, 0xFF),
        Reg(0x1A, "SUBUSN", 1, 0, 0xFF),
        Reg(0x1B, "SMLT", 1, 0, 0xF8),
        Reg(0x1C, "IOBASE", 1, 0xF0, 0xF0),
        Reg(0x1D, "IOLIMIT", 1, 0x00, 0xF0),
        Reg(0x1E, "SSTS", 2, 0x02A0, w1c=int(Status.ERRORS)),
        Reg(0x20, "MBASE", 2, 0xFFF0, 0xFFF0),
        Reg(0x22, "MLIMIT", 2, 0x0000, 0xFFF0),
        Reg(0x24, "PMBASE", 2, 0xFFF0, 0xFFF0),
        Reg(0x26, "PMLIMIT", 2, 0x0000, 0xFFF0),
        Reg(0x3E, "BCTRL", 1, 0x80, 0x0F),
    )
