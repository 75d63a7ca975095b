"""What firmware would have left in the chipset, for a program or kernel that starts without any.

Memory below 1 MiB is all RAM; the 8259 pair and the local APIC are in virtual wire mode; the PIIX4's blocks are placed
and decoded; links A to D lead to IRQ 11, 10, 9 and 5, level-triggered; both IDE channels and their bus master are on;
COM1 and COM2 send characters of 8 bits; the keyboard controller has passed its test and translates.
Source: decision 0004; the addresses are those of VMware's board.
"""

from __future__ import annotations

from hw.i440bx_spec import PAM0, PAM_COUNT
from hw.i440bx_spec import SLOT as BRIDGE_SLOT
from hw.i8042_spec import COMMAND_PORT, DATA_PORT, Ctr
from hw.i8042_spec import Command as KeyboardCommand
from hw.ide.bmide_spec import SLOT as IDE_SLOT
from hw.piix4_isa_spec import PIRQRC
from hw.piix4_isa_spec import SLOT as ISA_SLOT
from hw.piix4_pm_spec import SLOT as PM_SLOT
from hw.reset import PORT_92, Port92
from hw.uart_spec import COM1, COM2, Lcr, Offset
from ringfence.pci_header import Command, Header
from vmx.board import Board

PM_BASE, SMBUS_BASE, BUS_MASTER_BASE = 0x1000, 0x1040, 0x1050
LINK_IRQS = (11, 10, 9, 5)
PAM_ALL_RAM = 0x33

# Configuration registers: (slot, offset, width, value).
SETTINGS = (
    *((BRIDGE_SLOT, PAM0 + index, 1, PAM_ALL_RAM) for index in range(PAM_COUNT)),
    *((ISA_SLOT, PIRQRC + link, 1, irq) for link, irq in enumerate(LINK_IRQS)),
    (PM_SLOT, 0x40, 4, PM_BASE),
    (PM_SLOT, 0x80, 1, 0x01),
    (PM_SLOT, 0x90, 4, SMBUS_BASE),
    (PM_SLOT, 0xD2, 1, 0x09),
    (IDE_SLOT, 0x40, 4, 0x80008000),
    (IDE_SLOT, Header.BAR0 + 4 * 4, 4, BUS_MASTER_BASE),
    (IDE_SLOT, Header.COMMAND, 2, int(Command.IO | Command.MASTER)),
)


def configure(board: Board) -> None:
    """Bring a board that was just reset into that state."""
    for slot, offset, width, value in SETTINGS:
        board.pci.functions[slot].config_write(offset, width, value)
    board.interrupts.virtual_wire()
    levels = sum(1 << irq for irq in LINK_IRQS)
    for number, chip in enumerate(board.interrupts.state.pic):
        chip.elcr = levels >> 8 * number & 0xFF
    for base in (COM1, COM2):
        board.ports.write(base + Offset.LCR, 1, Lcr.WLS)
    board.ports.write(COMMAND_PORT, 1, KeyboardCommand.SELF_TEST)
    board.ports.read(DATA_PORT, 1)
    board.ports.write(COMMAND_PORT, 1, KeyboardCommand.WRITE_CTR)
    board.ports.write(DATA_PORT, 1, Ctr.KEYBOARD_IRQ | Ctr.SYS | Ctr.TRANSLATE)
    board.ports.write(PORT_92, 1, Port92.FAST_A20)
