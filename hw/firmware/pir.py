"""The PCI interrupt routing table, for systems that use neither ACPI nor the I/O APIC.

The router is the PIIX4; a link is the offset of its routing register.
Source: Microsoft, "PCI IRQ Routing Table Specification" 1.0; Intel 82371AB (PIIX4) data sheet, section 4.1.
"""

from __future__ import annotations

from hw.firmware.board import LINK_IRQS, PINS, ROOT_BUS, BoardFacts, is_routed, link_of, routed
from hw.firmware.pir_spec import SIGNATURE, VERSION, RoutingHeader, RoutingPin, RoutingSlot
from hw.piix4_isa_spec import IDS, PIRQRC
from hw.piix4_isa_spec import SLOT as ISA_SLOT

IRQ_MASK = sum(1 << irq for irq in LINK_IRQS)


def routing_table(facts: BoardFacts) -> bytes:
    """Header and the slots whose pins are in use."""
    slots = sorted({fact.slot for fact in routed(facts.interrupts)})
    rows = b"".join(bytes(routing_slot(slot)) for slot in slots)
    bus, device, function = ISA_SLOT
    header = RoutingHeader(
        signature=SIGNATURE, version=VERSION, router_bus=bus, router_function=device << 3 | function,
        compatible=IDS.device << 16 | IDS.vendor,
    )  # fmt: skip
    header.size = len(bytes(header)) + len(rows)
    header.checksum = -sum(bytes(header) + rows) & 0xFF
    return bytes(header) + rows


def routing_slot(slot: int) -> RoutingSlot:
    pins = [
        RoutingPin(PIRQRC + link_of(slot, pin), IRQ_MASK) if is_routed(slot, pin) else RoutingPin()
        for pin in range(1, PINS + 1)
    ]
    return RoutingSlot(bus=ROOT_BUS, function=slot << 3, pins=(RoutingPin * PINS)(*pins))
