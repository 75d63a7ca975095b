"""The Bochs "DISPI" interface: ports, register indices, bits, limits; no behaviour.

Source: Bochs, iodev/display/vga.h, "VBE_DISPI"; SeaBIOS, vgasrc/bochsvga.h.
"""

from enum import IntEnum, IntFlag

INDEX_PORT = 0x1CE
PORTS = 4  # 1CE index; 1CF data, a word at an odd address; 1D0 data again


class Index(IntEnum):
    """Registers, 16 bits each."""

    ID = 0
    XRES = 1
    YRES = 2
    BPP = 3
    ENABLE = 4
    BANK = 5
    VIRT_WIDTH = 6
    VIRT_HEIGHT = 7  # computed
    X_OFFSET = 8
    Y_OFFSET = 9
    MEMORY_64K = 10  # computed


REGISTERS = 11
GEOMETRY = frozenset({Index.XRES, Index.YRES, Index.BPP, Index.VIRT_WIDTH, Index.X_OFFSET, Index.Y_OFFSET})


class Enable(IntFlag):
    """Register 4."""

    ENABLED = 0x01
    GETCAPS = 0x02  # the resolution registers read as their greatest values
    DAC_8BIT = 0x20
    LFB = 0x40
    NOCLEARMEM = 0x80


ID_FIRST, ID_LAST = 0xB0C0, 0xB0C5
X_MAX, Y_MAX, BPP_MAX = 2560, 1600, 32
X_UNIT = 8
PLANAR_BPP = 4
# Bits per pixel in memory, by what software asks for.
DEPTHS = {4: 4, 8: 8, 15: 16, 16: 16, 24: 24, 32: 32}
DEFAULT_BPP = 8
BANK_BYTES = 64 << 10
CAPABILITIES = {Index.XRES: X_MAX, Index.YRES: Y_MAX, Index.BPP: BPP_MAX}
