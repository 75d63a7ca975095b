"""PIIX4 PCI-to-ISA bridge (8086:7110): configuration registers; no behaviour.

Source: Intel 82371AB (PIIX4) data sheet, section 4.1.
"""

from enum import IntFlag

from ringfence.pci_header import CONFIG_BYTES, MULTIFUNCTION, PciIds, Status, header
from ringfence.registers import Reg, RegBank

SLOT = (0, 7, 0)  # bus, device, function
IDS = PciIds(0x8086, 0x7110, 0x060100, revision=8, subsystem_vendor=0x15AD, subsystem=0x1976)
COMMAND_FIXED = 0x0007  # I/O, memory and mastering cannot be switched off
COMMAND_RW = 0x0108


class Pirqrc(IntFlag):
    """PIRQ route control."""

    IRQ = 0x0F
    DISABLED = 1 << 7


ROUTABLE_IRQS = frozenset({3, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15})
LINKS = "ABCD"
PIRQRC = 0x60  # PIRQRCA; B, C and D follow
FIRST_LINK_PIN = 16  # I/O APIC input of link 0
INTERRUPT_INPUTS = 24

BRIDGE = RegBank(
    "piix4_isa", CONFIG_BYTES,
    *header(IDS, command=COMMAND_FIXED, command_rw=COMMAND_RW, header_type=MULTIFUNCTION, latency_rw=0,
            status=int(Status.MEDIUM_DEVSEL) | 0x80),
    #   offset  name       width  reset        rw
    Reg(0x4C, "IORT",       1, 0x4D,       0xFF),
    Reg(0x4E, "XBCS",       2, 0x0003,     0x07FF),
    *(Reg(PIRQRC + link, f"PIRQRC{name}", 1, int(Pirqrc.DISABLED), int(Pirqrc.DISABLED | Pirqrc.IRQ),
          on_write="route_changed") for link, name in enumerate(LINKS)),
    Reg(0x64, "SERIRQC",    1, 0x10,       0xFF),
    Reg(0x69, "TOM",        1, 0x02,       0xFE),
    Reg(0x6A, "MSTAT",      2, 0x0000,     0x8086),
    Reg(0x76, "MBDMA0",     1, 0x04,       0x8F),
    Reg(0x77, "MBDMA1",     1, 0x04,       0x8F),
    Reg(0x80, "APICBASE",   1, 0x00,       0x7F),
    Reg(0x82, "DLC",        1, 0x00,       0x0F),
    Reg(0x90, "PDMACFG",    2, 0x0000,     0xFFFF),
    Reg(0x92, "DDMABP0",    2, 0x0000,     0xFFC0),
    Reg(0x94, "DDMABP1",    2, 0x0000,     0xFFC0),
    Reg(0xB0, "GENCFG",     4, 0x00000000, 0xFFFFFFFF),
    Reg(0xCB, "RTCCFG",     1, 0x21,       0x3D),
)  # fmt: skip
