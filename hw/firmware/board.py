"""The board as its tables describe it: what differs between machines, and how its interrupts are wired.

The wiring is VMware's: the INTx pin of a slot joins link (slot + pin + 1) mod 4, INTA# being 0. Link n is I/O APIC
input 16 + n and, for the 8259s, the PIIX4's PIRQ n. The PIIX4's power-management function is the exception: its
interrupt is the SCI.
Source: Intel 82371AB (PIIX4) data sheet, section 7; the wiring from logs of VMware guests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hw.pci_spec import LINKS
from hw.piix4_isa_spec import SLOT as ISA_SLOT
from hw.piix4_pm_spec import SLOT as PM_SLOT
from ringfence.errors import BadOption

VCPUS_MAX = 4
MEMORY_MIB_MIN, MEMORY_MIB_MAX = 2, 3072
UUID_BYTES = 16
SLOTS = 32
PINS = 4
LINK_ROTATION = 1
SCI_IRQ = 9
LOCAL_APIC, IO_APIC = 0xFEE00000, 0xFEC00000
APIC_VERSION = 0x11
NMI_LINT = 1
TIMER_PIN = 2  # where IRQ 0 enters the I/O APIC
LINK_IRQS = (5, 9, 10, 11)  # ISA IRQs that no device of the board drives by an edge
ROOT_BUS, AGP_BUS, ISA_BUS = 0, 1, 2
PM_BASE = 0x600  # where SeaBIOS puts the block when it is given tables
SMBUS_BASE = 0x700


@dataclass(frozen=True, slots=True)
class PciInterrupt:
    """A pin that a function of the root bus drives: 1 is INTA#, as the interrupt pin register has it."""

    slot: int
    pin: int


@dataclass(frozen=True, slots=True)
class BoardFacts:
    """A machine in the words of its tables.

    `cpu_signature` and `cpu_features` are EAX and EDX of CPUID leaf 1. `pm_base` and `smbus_base` are where firmware,
    or who takes its place, has put the PIIX4's blocks. `interrupts` are the pins in use; ACPI's routing covers every
    slot whatever they are.
    """

    vcpus: int
    memory_mib: int
    uuid: bytes
    interrupts: tuple[PciInterrupt, ...] = ()
    cpu_signature: int = 0
    cpu_features: int = 0
    pm_base: int = PM_BASE
    smbus_base: int = SMBUS_BASE
    serial_ports: int = 2
    parallel_port: bool = True
    floppy: bool = False

    def check(self) -> None:
        """Raises BadOption for what the tables cannot say of a machine."""
        if not 1 <= self.vcpus <= VCPUS_MAX:
            raise BadOption(f"firmware tables: processors: expected 1 to {VCPUS_MAX}, found {self.vcpus}")
        if not MEMORY_MIB_MIN <= self.memory_mib <= MEMORY_MIB_MAX:
            raise BadOption(
                f"firmware tables: memory: expected {MEMORY_MIB_MIN} to {MEMORY_MIB_MAX} MiB, found {self.memory_mib}"
            )
        if len(self.uuid) != UUID_BYTES:
            raise BadOption(f"firmware tables: UUID: expected {UUID_BYTES} bytes, found {len(self.uuid)}")
        assert self.serial_ports in range(3), f"{self.serial_ports} serial ports"
        assert all(fact.slot in range(SLOTS) and fact.pin in range(1, PINS + 1) for fact in self.interrupts)

    @property
    def memory_bytes(self) -> int:
        return self.memory_mib << 20

    @property
    def io_apic_id(self) -> int:
        """The first one that no processor has."""
        return self.vcpus


def link_of(slot: int, pin: int) -> int:
    """The link of a slot's pin (1 is INTA#): 0 is LNKA."""
    return (slot + pin - 1 + LINK_ROTATION) % LINKS


def is_routed(slot: int, pin: int) -> bool:
    """Does the pin go to a link? The SCI does not, though its function's register says INTA#."""
    return slot != 0 and (slot, pin) != (PM_SLOT[1], 1)


def every_pin() -> Iterator[PciInterrupt]:
    """All that the root bus routes, empty slots too."""
    return (PciInterrupt(slot, pin) for slot in range(SLOTS) for pin in range(1, PINS + 1) if is_routed(slot, pin))


def routed(interrupts: Iterable[PciInterrupt]) -> list[PciInterrupt]:
    """Those that go to a link, each once, by slot and pin."""
    return sorted(
        {fact for fact in interrupts if is_routed(fact.slot, fact.pin)}, key=lambda fact: (fact.slot, fact.pin)
    )


assert ISA_SLOT[1] == PM_SLOT[1]
