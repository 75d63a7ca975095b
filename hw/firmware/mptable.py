"""The MP configuration table of the board, for systems that do not use ACPI.

Virtual wire mode: the 8259s' output is ExtINT at the boot processor's LINT0.
Not here: extended entries, a default configuration.
Source: Intel MultiProcessor Specification 1.4, chapter 4.
"""

from __future__ import annotations

from ctypes import Structure, sizeof

from hw.firmware.acpi_spec import Signalling
from hw.firmware.board import (
    AGP_BUS,
    APIC_VERSION,
    IO_APIC,
    LOCAL_APIC,
    NMI_LINT,
    ROOT_BUS,
    SCI_IRQ,
    TIMER_PIN,
    BoardFacts,
    link_of,
    routed,
)
from hw.firmware.board import ISA_BUS as ISA_BUS_NUMBER
from hw.firmware.mptable_spec import (
    CONFORMS,
    EVERY_LOCAL_APIC,
    FLOATING_SIGNATURE,
    IO_APIC_ENABLED,
    ISA_BUS,
    OEM,
    PCI_BUS,
    PRODUCT,
    SPECIFICATION,
    TABLE_SIGNATURE,
    Bus,
    ConfigTable,
    EntryType,
    FloatingPointer,
    Interrupt,
    InterruptKind,
    IoApic,
    Processor,
    ProcessorFlag,
)
from hw.piix4_isa_spec import FIRST_LINK_PIN

CASCADE_IRQ = 2
ISA_IRQS = 16


def floating_pointer(table: int) -> bytes:
    """The structure that systems search for; `table` is the configuration table's address."""
    pointer = FloatingPointer(
        signature=FLOATING_SIGNATURE, table=table, length=sizeof(FloatingPointer) // 16, specification=SPECIFICATION,
    )  # fmt: skip
    pointer.checksum = -sum(bytes(pointer)) & 0xFF
    return bytes(pointer)


def configuration_table(facts: BoardFacts) -> bytes:
    """Header and entries."""
    entries = [*processors(facts), *buses(), io_apic(facts), *io_interrupts(facts), *local_interrupts()]
    body = b"".join(bytes(entry) for entry in entries)
    header = ConfigTable(
        signature=TABLE_SIGNATURE, length=sizeof(ConfigTable) + len(body), specification=SPECIFICATION, oem=OEM,
        product=PRODUCT, entries=len(entries), local_apic=LOCAL_APIC,
    )  # fmt: skip
    header.checksum = -sum(bytes(header) + body) & 0xFF
    return bytes(header) + body


def processors(facts: BoardFacts) -> list[Structure]:
    """The first is the one that the machine boots on."""
    enabled = int(ProcessorFlag.ENABLED)
    return [
        Processor(
            EntryType.PROCESSOR, index, APIC_VERSION, enabled if index else enabled | int(ProcessorFlag.BOOTSTRAP),
            facts.cpu_signature, facts.cpu_features,
        )
        for index in range(facts.vcpus)
    ]  # fmt: skip


def buses() -> list[Structure]:
    kinds = {ROOT_BUS: PCI_BUS, AGP_BUS: PCI_BUS, ISA_BUS_NUMBER: ISA_BUS}
    return [Bus(EntryType.BUS, number, kind) for number, kind in sorted(kinds.items())]


def io_apic(facts: BoardFacts) -> Structure:
    return IoApic(EntryType.IO_APIC, facts.io_apic_id, APIC_VERSION, IO_APIC_ENABLED, IO_APIC)


def io_interrupts(facts: BoardFacts) -> list[Structure]:
    """ISA IRQs are edges on the input of the same number, but for the timer and the SCI; then the PCI pins in use."""
    high_level = int(Signalling.HIGH | Signalling.LEVEL)
    isa = [
        Interrupt(
            EntryType.IO_INTERRUPT, InterruptKind.INT, high_level if irq == SCI_IRQ else CONFORMS, ISA_BUS_NUMBER, irq,
            facts.io_apic_id, irq or TIMER_PIN,
        )
        for irq in range(ISA_IRQS)
        if irq != CASCADE_IRQ
    ]  # fmt: skip
    pci = [
        Interrupt(
            EntryType.IO_INTERRUPT, InterruptKind.INT, CONFORMS, ROOT_BUS, fact.slot << 2 | fact.pin - 1,
            facts.io_apic_id, FIRST_LINK_PIN + link_of(fact.slot, fact.pin),
        )
        for fact in routed(facts.interrupts)
    ]  # fmt: skip
    return [*isa, *pci]


def local_interrupts() -> list[Structure]:
    """LINT0 of the boot processor is ExtINT, LINT1 of every processor NMI."""
    return [
        Interrupt(EntryType.LOCAL_INTERRUPT, InterruptKind.EXTINT, CONFORMS, ISA_BUS_NUMBER, 0, 0, 0),
        Interrupt(EntryType.LOCAL_INTERRUPT, InterruptKind.NMI, CONFORMS, ISA_BUS_NUMBER, 0, EVERY_LOCAL_APIC,
                  NMI_LINT),
    ]  # fmt: skip
