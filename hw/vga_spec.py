"""The VGA: ports, register banks, bits, and the registers of text mode 3; no behaviour.

Source: IBM Personal System/2 Hardware Interface Technical Reference, "Video Subsystem"; the PCI ids and base address
registers are those of VMware's SVGA II.
"""

from dataclasses import dataclass
from enum import IntEnum, IntFlag

from ringfence.pci_header import CONFIG_BYTES, Bar, IoBar, MemBar, PciIds, RomBar, header
from ringfence.registers import Reg, RegBank

SLOT = (0, 0x0F, 0)
IDS = PciIds(
    vendor=0x15AD, device=0x0405, class_code=0x030000, subsystem_vendor=0x15AD, subsystem=0x0405
)  # fmt: skip
SVGA_PORTS = 16
FRAMEBUFFER_BYTES = 16 << 20  # the usual size; another power of two, 1 to 128 MiB, may be chosen
ROM_BYTES = 64 << 10
FRAMEBUFFER_BAR = 1


def windows(framebuffer_bytes: int) -> tuple[Bar, ...]:
    """The base address registers of an adapter with so much linear memory."""
    framebuffer = MemBar(FRAMEBUFFER_BAR, framebuffer_bytes, prefetchable=True, direct=True)
    return (IoBar(0, SVGA_PORTS), framebuffer, RomBar(ROM_BYTES))


def config_bank(framebuffer_bytes: int) -> RegBank:
    """The configuration space of an adapter with so much linear memory."""
    return RegBank("vga", CONFIG_BYTES, *header(IDS, windows(framebuffer_bytes)))


# memory

LEGACY_FIRST = 0xA0000
LEGACY_BYTES = 0x20000
PLANES = 4
PLANE_BYTES = 64 << 10
VGA_BYTES = PLANES * PLANE_BYTES
PAGE_BYTES = 4096
FONT_CELL = 32  # bytes between two glyphs in plane 2
FONT_GLYPHS = 256


class MemoryMap(IntEnum):
    """Graphics register 6, bits 3:2."""

    A0000_128K = 0
    A0000_64K = 1
    B0000_32K = 2
    B8000_32K = 3


# First byte (from A0000) and size of the processor's window.
MEMORY_MAPS = {
    MemoryMap.A0000_128K: (0x00000, 0x20000),
    MemoryMap.A0000_64K: (0x00000, 0x10000),
    MemoryMap.B0000_32K: (0x10000, 0x08000),
    MemoryMap.B8000_32K: (0x18000, 0x08000),
}


# ports


class Port(IntEnum):
    """Ports with one meaning at all times; the CRT controller's have two places."""

    ATTRIBUTE = 0x3C0
    ATTRIBUTE_DATA = 0x3C1
    MISC_WRITE = 0x3C2  # reads as input status 0
    ENABLE = 0x3C3
    SEQUENCER = 0x3C4
    SEQUENCER_DATA = 0x3C5
    PEL_MASK = 0x3C6
    DAC_READ_INDEX = 0x3C7  # reads as the DAC's state
    DAC_WRITE_INDEX = 0x3C8
    DAC_DATA = 0x3C9
    FEATURE_READ = 0x3CA
    MISC_READ = 0x3CC
    GRAPHICS = 0x3CE
    GRAPHICS_DATA = 0x3CF


class CrtPort(IntEnum):
    """Offsets from 3B0 or 3D0, as Misc.IO_ADDRESS chooses."""

    INDEX = 0x4
    DATA = 0x5
    STATUS_1 = 0xA  # written: feature control


MONO_PORTS = 0x3B0
COLOUR_PORTS = 0x3D0
PORT_RANGES = ((0x3B4, 2), (0x3BA, 1), (0x3C0, 16), (0x3D4, 2), (0x3DA, 1))


class Misc(IntFlag):
    """Miscellaneous output register."""

    IO_ADDRESS = 1 << 0  # the CRT controller is at 3D0
    ENABLE_RAM = 1 << 1
    CLOCK_28_MHZ = 1 << 2
    CLOCK = 3 << 2
    ODD_EVEN_PAGE = 1 << 5
    HSYNC_LOW = 1 << 6
    VSYNC_LOW = 1 << 7


class Status1(IntFlag):
    """Input status 1."""

    DISPLAY_OFF = 1 << 0
    VERTICAL_RETRACE = 1 << 3


FEATURE_VSYNC = 1 << 3  # the one bit of feature control
DAC_MODE_READ = 3
DAC_MODE_WRITE = 0
DOT_CLOCK_HZ = {Misc(0): 25_175_000, Misc.CLOCK_28_MHZ: 28_322_000}


# register banks. "addressing_changed": what the processor's window means may be another thing now.


class Seq1(IntFlag):
    """Clocking mode."""

    DOTS_8 = 1 << 0
    HALF_DOT_CLOCK = 1 << 3
    SCREEN_OFF = 1 << 5


class Seq4(IntFlag):
    """Memory mode."""

    EXTENDED_MEMORY = 1 << 1
    SEQUENTIAL = 1 << 2  # cleared: even addresses go to planes 0 and 2, odd ones to 1 and 3
    CHAIN_4 = 1 << 3


SEQUENCER = RegBank(
    "sequencer", 8,
    #   index name            width reset rw
    Reg(0, "RESET",           1, 0x00, 0x03),
    Reg(1, "CLOCKING_MODE",   1, 0x00, 0x3D),
    Reg(2, "MAP_MASK",        1, 0x00, 0x0F, on_write="addressing_changed"),
    Reg(3, "CHARACTER_MAP",   1, 0x00, 0x3F),
    Reg(4, "MEMORY_MODE",     1, 0x00, 0x0E, on_write="addressing_changed"),
)  # fmt: skip


class Gr5(IntFlag):
    """Graphics mode."""

    WRITE_MODE = 3 << 0
    READ_COMPARE = 1 << 3
    ODD_EVEN = 1 << 4
    SHIFT_INTERLEAVE = 1 << 5
    SHIFT_256 = 1 << 6


class Gr6(IntFlag):
    """Miscellaneous."""

    GRAPHICS = 1 << 0
    CHAIN_ODD_EVEN = 1 << 1
    MEMORY_MAP = 3 << 2


GR3_ROTATE = 7
GR3_FUNCTION_SHIFT = 3
GR4_UPPER_PLANES = 2

GRAPHICS = RegBank(
    "graphics", 16,
    Reg(0, "SET_RESET",        1, 0x00, 0x0F, on_write="addressing_changed"),
    Reg(1, "ENABLE_SET_RESET", 1, 0x00, 0x0F, on_write="addressing_changed"),
    Reg(2, "COLOUR_COMPARE",   1, 0x00, 0x0F, on_write="addressing_changed"),
    Reg(3, "DATA_ROTATE",      1, 0x00, 0x1F, on_write="addressing_changed"),
    Reg(4, "READ_MAP",         1, 0x00, 0x03, on_write="addressing_changed"),
    Reg(5, "MODE",             1, 0x00, 0x7B, on_write="addressing_changed"),
    Reg(6, "MISCELLANEOUS",    1, 0x00, 0x0F, on_write="addressing_changed"),
    Reg(7, "COLOUR_DONT_CARE", 1, 0x00, 0x0F, on_write="addressing_changed"),
    Reg(8, "BIT_MASK",         1, 0x00, 0xFF, on_write="addressing_changed"),
)  # fmt: skip


class Crt7(IntFlag):
    """Overflow: the upper bits of other registers."""

    VERTICAL_TOTAL_8 = 1 << 0
    DISPLAY_END_8 = 1 << 1
    RETRACE_START_8 = 1 << 2
    LINE_COMPARE_8 = 1 << 4
    VERTICAL_TOTAL_9 = 1 << 5
    DISPLAY_END_9 = 1 << 6
    RETRACE_START_9 = 1 << 7


class Crt9(IntFlag):
    """Maximum scan line."""

    MAXIMUM = 0x1F
    LINE_COMPARE_9 = 1 << 6
    DOUBLE_SCAN = 1 << 7


class CrtCursor(IntFlag):
    """Cursor start (0Ah) and end (0Bh)."""

    LINE = 0x1F
    OFF = 1 << 5  # of the start register


class Crt17(IntFlag):
    """Mode control."""

    NOT_CGA_BANKS = 1 << 0  # cleared: address bit 13 is the row scan counter's bit 0
    NOT_HERCULES_BANKS = 1 << 1  # cleared: address bit 14 is its bit 1
    BYTE_MODE = 1 << 6


CRT_LOCK = 1 << 7  # of register 11h: registers 0 to 7 cannot be written
CRT_LOCKED = range(8)

CRT = RegBank(
    "crt", 32,
    Reg(0x00, "HORIZONTAL_TOTAL",  1, 0x00, 0xFF),
    Reg(0x01, "HORIZONTAL_END",    1, 0x00, 0xFF),
    Reg(0x02, "HBLANK_START",      1, 0x00, 0xFF),
    Reg(0x03, "HBLANK_END",        1, 0x00, 0xFF),
    Reg(0x04, "HRETRACE_START",    1, 0x00, 0xFF),
    Reg(0x05, "HRETRACE_END",      1, 0x00, 0xFF),
    Reg(0x06, "VERTICAL_TOTAL",    1, 0x00, 0xFF),
    Reg(0x07, "OVERFLOW",          1, 0x00, 0xFF),
    Reg(0x08, "PRESET_ROW_SCAN",   1, 0x00, 0x7F),
    Reg(0x09, "MAXIMUM_SCAN_LINE", 1, 0x00, 0xFF),
    Reg(0x0A, "CURSOR_START",      1, 0x00, 0x3F),
    Reg(0x0B, "CURSOR_END",        1, 0x00, 0x7F),
    Reg(0x0C, "START_HIGH",        1, 0x00, 0xFF),
    Reg(0x0D, "START_LOW",         1, 0x00, 0xFF),
    Reg(0x0E, "CURSOR_HIGH",       1, 0x00, 0xFF),
    Reg(0x0F, "CURSOR_LOW",        1, 0x00, 0xFF),
    Reg(0x10, "VRETRACE_START",    1, 0x00, 0xFF),
    Reg(0x11, "VRETRACE_END",      1, 0x00, 0xFF),
    Reg(0x12, "VERTICAL_END",      1, 0x00, 0xFF),
    Reg(0x13, "OFFSET",            1, 0x00, 0xFF),
    Reg(0x14, "UNDERLINE",         1, 0x00, 0x7F),
    Reg(0x15, "VBLANK_START",      1, 0x00, 0xFF),
    Reg(0x16, "VBLANK_END",        1, 0x00, 0xFF),
    Reg(0x17, "MODE_CONTROL",      1, 0x00, 0xEF),
    Reg(0x18, "LINE_COMPARE",      1, 0x00, 0xFF),
)  # fmt: skip


class Attr10(IntFlag):
    """Attribute mode control."""

    GRAPHICS = 1 << 0
    MONO = 1 << 1
    LINE_GRAPHICS = 1 << 2
    BLINK = 1 << 3
    PAN_TOP_ONLY = 1 << 5
    PEL_256 = 1 << 6
    COLOUR_SELECT = 1 << 7  # bits 5:4 of a colour come from register 14h


PALETTE_ON = 1 << 5  # of the attribute controller's index: the screen is shown
ATTRIBUTE_INDEX = 0x1F

ATTRIBUTE = RegBank(
    "attribute", 32,
    *(Reg(index, f"PALETTE_{index:X}", 1, 0x00, 0x3F) for index in range(16)),
    Reg(0x10, "MODE_CONTROL",  1, 0x00, 0xEF),
    Reg(0x11, "OVERSCAN",      1, 0x00, 0xFF),
    Reg(0x12, "PLANE_ENABLE",  1, 0x00, 0x3F),
    Reg(0x13, "PEL_PANNING",   1, 0x00, 0x0F),
    Reg(0x14, "COLOUR_SELECT", 1, 0x00, 0x0F),
)  # fmt: skip


# modes


@dataclass(frozen=True, slots=True)
class ModeTable:
    """What the BIOS writes for a mode: registers in index order."""

    misc: int
    sequencer: bytes
    crt: bytes
    graphics: bytes
    attribute: bytes


MODE_3 = ModeTable(  # 80 x 25 cells of 9 x 16 dots
    misc=0x67,
    sequencer=bytes.fromhex("03 00 03 00 02"),
    crt=bytes.fromhex("5f 4f 50 82 55 81 bf 1f 00 4f 0d 0e 00 00 00 00 9c 8e 8f 28 1f 96 b9 a3 ff"),
    graphics=bytes.fromhex("00 00 00 00 00 10 0e 0f ff"),
    attribute=bytes.fromhex("00 01 02 03 04 05 14 07 38 39 3a 3b 3c 3d 3e 3f 0c 00 0f 08 00"),
)
TEXT_BLANK = bytes((0x20, 0x07))  # a cell of nothing, light grey on black


def ega_colour(index: int) -> tuple[int, int, int]:
    """Red, green and blue (6 bits) that the BIOS gives to one of the first 64 DAC entries, rgbRGB as on an EGA."""
    return tuple(0x2A * (index >> shift & 1) + 0x15 * (index >> shift + 3 & 1) for shift in (2, 1, 0))  # type: ignore[return-value]
