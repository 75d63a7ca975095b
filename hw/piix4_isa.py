"""PIIX4 PCI-to-ISA bridge: PIRQ routing, and registers that are stored.

Each of the four links drives two inputs at once: the ISA IRQ that its PIRQRC names, and an I/O APIC input of its own,
16 and up. The guest unmasks only one of them. An IRQ that an ISA device drives too is that device's: a guest that
routes a link there sees whichever changed last.
Not modelled: X-bus chip selects, DMA, serial interrupts (stored). ELCR and the controllers are the core's.
Source: Intel 82371AB (PIIX4) data sheet, section 4.1, cited as [ds]; the inputs above 15 as on VMware's board.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import LittleEndianStructure, c_uint8, sizeof

from hw.pci import PciBuses, PciDevice, PciLinks
from hw.pci_spec import LINKS, NO_IRQ
from hw.piix4_isa_spec import BRIDGE, FIRST_LINK_PIN, INTERRUPT_INPUTS, PIRQRC, ROUTABLE_IRQS, Pirqrc
from hw.wiring import IrqLine
from ringfence.pci_header import CONFIG_BYTES


class Piix4IsaState(LittleEndianStructure):
    """All guest-visible state. What the links carry is their devices'."""

    _fields_ = [("config", c_uint8 * CONFIG_BYTES)]


assert sizeof(Piix4IsaState) == CONFIG_BYTES


class Piix4Isa(PciDevice):
    """Function 0 of the PIIX4. `lines` are the core's inputs: 0-15 ISA IRQs, 16-23 I/O APIC inputs of their own."""

    State = Piix4IsaState
    CONFIG = BRIDGE

    def __init__(self, state: Piix4IsaState, buses: PciBuses, links: PciLinks, lines: Sequence[IrqLine]) -> None:
        """Wire only; from here on the links ask this bridge where they lead."""
        super().__init__(state.config, buses)
        assert len(lines) >= INTERRUPT_INPUTS, f"{len(lines)} interrupt inputs: expected {INTERRUPT_INPUTS}"
        self.state, self.links, self.lines = state, links, lines
        self._driven: frozenset[int] = frozenset()
        links.changed, links.irq_of, links.inputs_of = self.link_changed, self.irq_of, self.inputs_of

    def reset(self) -> None:
        self.reset_config()
        self.sync()

    def irq_of(self, link: int) -> int:
        """The ISA IRQ of a link; NO_IRQ where it is off or names an IRQ that cannot be routed to. [ds: PIRQRC]"""
        route = self.config[PIRQRC + link]
        irq = route & Pirqrc.IRQ
        return NO_IRQ if route & Pirqrc.DISABLED or irq not in ROUTABLE_IRQS else int(irq)

    def inputs_of(self, link: int) -> int:
        """All that a link drives, as a mask."""
        irq = self.irq_of(link)
        return 1 << FIRST_LINK_PIN + link | (0 if irq == NO_IRQ else 1 << irq)

    def route_changed(self) -> None:
        self.sync()

    def link_changed(self, link: int) -> None:
        """A pin made or broke a link's level."""
        self.lines[FIRST_LINK_PIN + link].set_level(self.links.level(link))
        if (irq := self.irq_of(link)) != NO_IRQ:
            self._drive_irq(irq)

    def sync(self) -> None:
        """Links that share an IRQ are ORed. An IRQ that lost its last link is let go."""
        routed = frozenset(self.irq_of(link) for link in range(LINKS)) - {NO_IRQ}
        for irq in sorted(self._driven - routed):
            self.lines[irq].set_level(False)
        self._driven = routed
        for irq in sorted(routed):
            self._drive_irq(irq)
        for link in range(LINKS):
            self.lines[FIRST_LINK_PIN + link].set_level(self.links.level(link))
        for tell in self.links.rerouted:
            tell()

    def _drive_irq(self, irq: int) -> None:
        links = self.links
        self.lines[irq].set_level(any(links.level(link) and self.irq_of(link) == irq for link in range(LINKS)))
