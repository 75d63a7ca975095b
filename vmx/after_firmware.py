"""What firmware would have left in the chipset, for a program or kernel that starts without any.

Memory below 1 MiB is all RAM; the 8259 pair and the local APIC are in virtual wire mode; the PIIX4's blocks are placed
and decoded; the video adapter shows an empty text screen, and its framebuffer lies at E8000000; links A to D lead to
IRQ 11, 10, 9 and 5, level-triggered; both IDE channels and their bus master are on; COM1 and COM2 send characters of 8
bits; the keyboard controller has passed its test and translates. SCSI and network adapters are placed and on.
Source: decision 0004; the addresses are those of VMware's board.
"""

from __future__ import annotations

from hw.dma8237_spec import SECOND_PORT as DMA_SECOND
from hw.i440bx_spec import AGP_SLOT, PAM0, PAM_COUNT
from hw.i440bx_spec import SLOT as BRIDGE_SLOT
from hw.i8042_spec import COMMAND_PORT, DATA_PORT, Ctr
from hw.i8042_spec import Command as KeyboardCommand
from hw.ide.bmide_spec import SLOT as IDE_SLOT
from hw.piix4_isa_spec import PIRQRC
from hw.piix4_isa_spec import SLOT as ISA_SLOT
from hw.piix4_pm_spec import SLOT as PM_SLOT
from hw.reset import PORT_92, Port92
from hw.uart_spec import COM1, COM2, Lcr, Offset
from hw.vga_spec import FRAMEBUFFER_BAR
from hw.vga_spec import SLOT as VGA_SLOT
from ringfence.pci_header import Command, Header
from vmm.layout_spec import VcpuState
from vmx.board import Board

SCSI_PORTS, SCSI_PORTS_STEP = 0x1400, 0x100
SCSI_MEMORY, SCSI_MEMORY_STEP = 0xEC000000, 0x1000
NIC_PORTS, NIC_PORTS_STEP = 0x1800, 0x80
NIC_MEMORY, NIC_MEMORY_STEP = 0xEC010000, 0x1000
PM_BASE, SMBUS_BASE, BUS_MASTER_BASE, SVGA_BASE = 0x1000, 0x1040, 0x1050, 0x1060
FRAMEBUFFER_BASE = 0xE8000000
LINK_IRQS = (11, 10, 9, 5)
PAM_ALL_RAM = 0x33
CASCADE_MODE, CASCADE_MASK, CASCADE = 0x16, 0x14, 0xC0  # of the second 8237, whose channel 0 the first one asks through

# Configuration registers: (slot, offset, width, value).
SETTINGS = (
    *((BRIDGE_SLOT, PAM0 + index, 1, PAM_ALL_RAM) for index in range(PAM_COUNT)),
    (AGP_SLOT, 0x18, 4, 0x00010100),  # primary bus 0, secondary and subordinate bus 1
    *((ISA_SLOT, PIRQRC + link, 1, irq) for link, irq in enumerate(LINK_IRQS)),
    (PM_SLOT, 0x40, 4, PM_BASE),
    (PM_SLOT, 0x80, 1, 0x01),
    (PM_SLOT, 0x90, 4, SMBUS_BASE),
    (PM_SLOT, 0xD2, 1, 0x09),
    (IDE_SLOT, 0x40, 4, 0x80008000),
    (IDE_SLOT, Header.BAR0 + 4 * 4, 4, BUS_MASTER_BASE),
    (VGA_SLOT, Header.BAR0, 4, SVGA_BASE),
    (VGA_SLOT, Header.BAR0 + 4 * FRAMEBUFFER_BAR, 4, FRAMEBUFFER_BASE),
    (VGA_SLOT, Header.COMMAND, 2, int(Command.IO | Command.MEMORY)),
    (IDE_SLOT, Header.COMMAND, 2, int(Command.IO | Command.MASTER)),
)


# Memory types: write-back RAM, uncached video memory, write-protected ROM; everything else is RAM until told otherwise.
WB, WP, UC = 6, 5, 0
MTRR_ENABLED, MTRR_FIXED_ENABLED = 1 << 11, 1 << 10
FIXED_TYPES = (WB, WB, UC, *[WP] * 8)  # 64 KiB ranges from 0, 16 KiB ones from 80000 and A0000, 4 KiB ones from C0000
PCI_HOLE_TOP = 1 << 32
PHYSICAL_MASK = (1 << 36) - 1
MTRR_VALID = 1 << 11


def set_memory_types(state: VcpuState, memory_bytes: int) -> None:
    """The MTRRs of one vCPU: RAM below the top is cached, and what is above it up to 4 GiB is not.

    Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 3A, section 12.11.
    """
    state.msr_mtrr_def = MTRR_ENABLED | MTRR_FIXED_ENABLED | WB
    for index, kind in enumerate(FIXED_TYPES):
        state.msr_mtrr_fix[index] = int.from_bytes(bytes([kind] * 8), "little")
    size = 1 << (PCI_HOLE_TOP - memory_bytes).bit_length() - 1  # the largest naturally aligned range above RAM
    state.msr_mtrr_var[0] = PCI_HOLE_TOP - size | UC
    state.msr_mtrr_var[1] = PHYSICAL_MASK & -size | MTRR_VALID


def configure(board: Board, font: bytes) -> None:
    """Bring a board that was just reset into that state. `font` is what the text screen shows characters with."""
    for slot, offset, width, value in SETTINGS:
        board.pci.functions[slot].config_write(offset, width, value)
    for number, chip in board.scsi.chips.items():
        chip.config_write(Header.BAR0, 4, SCSI_PORTS + number * SCSI_PORTS_STEP)
        chip.config_write(Header.BAR0 + 4, 4, SCSI_MEMORY + number * SCSI_MEMORY_STEP)
        chip.config_write(Header.COMMAND, 2, int(Command.IO | Command.MEMORY | Command.MASTER))
    for number, nic in board.network.chips.items():
        nic.config_write(Header.BAR0, 4, NIC_PORTS + number * NIC_PORTS_STEP)
        nic.config_write(Header.BAR0 + 4, 4, NIC_MEMORY + number * NIC_MEMORY_STEP)
        nic.config_write(Header.COMMAND, 2, int(Command.IO | Command.MEMORY | Command.MASTER))
    board.interrupts.virtual_wire()
    board.ports.write(DMA_SECOND + CASCADE_MODE, 1, CASCADE)
    board.ports.write(DMA_SECOND + CASCADE_MASK, 1, 0)
    board.vga.show_text(font)
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
