"""The Bochs "DISPI" interface, by which SeaVGABIOS and drivers set modes with a linear framebuffer.

Ports 1CE (index) and 1CF (data) take words; 1D0 is 1CF again. Values that cannot be are brought to the nearest ones
that can while the interface is enabled. Enabling clears the screen unless NOCLEARMEM is set.
Differs from Bochs: the linear framebuffer answers whether LFB is set or not.
Source: Bochs, iodev/display/vga.cc, "VBE support"; SeaBIOS, vgasrc/bochsvga.c, for what software expects.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import LittleEndianStructure, c_uint16, sizeof

from hw.vga_dispi_spec import (
    BANK_BYTES,
    CAPABILITIES,
    DEFAULT_BPP,
    DEPTHS,
    GEOMETRY,
    ID_FIRST,
    ID_LAST,
    PLANAR_BPP,
    REGISTERS,
    X_MAX,
    X_UNIT,
    Y_MAX,
    Enable,
    Index,
)
from hw.vga_memory import VideoMemory
from hw.vga_spec import PLANES

INDEX_OFFSET = 0
DATA_OFFSETS = (1, 2)
ENABLE, ENABLED = int(Index.ENABLE), int(Enable.ENABLED)  # plain, as every change of the VGA's registers asks


class DispiState(LittleEndianStructure):
    """All guest-visible state."""

    _fields_ = [("index", c_uint16), ("register", c_uint16 * REGISTERS)]


assert sizeof(DispiState) == 2 + 2 * REGISTERS


class Dispi:
    """The registers. `changed` is called when what is shown, or what the processor sees, may be another thing."""

    def __init__(self, state: DispiState, memory: VideoMemory, changed: Callable[[], None]) -> None:
        self.state, self.memory, self.changed = state, memory, changed

    def reset(self) -> None:
        self.state.index = 0
        self.state.register[:] = [0] * REGISTERS
        self.state.register[Index.ID] = ID_LAST

    # what the registers mean

    @property
    def enabled(self) -> bool:
        return bool(self.state.register[ENABLE] & ENABLED)

    @property
    def is_planar(self) -> bool:
        return bool(self.state.register[Index.BPP] == PLANAR_BPP)

    @property
    def dac_8bit(self) -> bool:
        return bool(self.state.register[Index.ENABLE] & Enable.DAC_8BIT)

    @property
    def pitch(self) -> int:
        """Bytes from one line to the next; of all four planes together in a planar mode."""
        return int(self.state.register[Index.VIRT_WIDTH]) * DEPTHS[self.state.register[Index.BPP]] // 8

    @property
    def start(self) -> int:
        """The first byte shown."""
        register = self.state.register
        return int(register[Index.X_OFFSET]) * DEPTHS[register[Index.BPP]] // 8 + register[Index.Y_OFFSET] * self.pitch

    @property
    def bank_offset(self) -> int:
        """Where the window at A0000 begins: a byte of the framebuffer, or of each plane."""
        return int(self.state.register[Index.BANK]) % self._banks() * BANK_BYTES

    def _banks(self) -> int:
        size = self.memory.framebuffer_bytes
        return max(1, size // BANK_BYTES // (PLANES if self.is_planar else 1))

    # from the guest

    def port_read(self, offset: int, width: int) -> int:
        if width != 2:
            return 0xFFFFFFFF
        if offset == INDEX_OFFSET:
            return int(self.state.index)
        if offset not in DATA_OFFSETS:
            return 0xFFFF
        index, register = self.state.index, self.state.register
        if index == Index.MEMORY_64K:
            return self.memory.framebuffer_bytes // BANK_BYTES
        if index in CAPABILITIES and register[Index.ENABLE] & Enable.GETCAPS:
            return CAPABILITIES[index]
        return int(register[index]) if index < REGISTERS else 0

    def port_write(self, offset: int, width: int, value: int) -> None:
        if width != 2:
            return
        register = self.state.register
        if offset == INDEX_OFFSET:
            self.state.index = value
        elif offset not in DATA_OFFSETS:
            return
        elif (index := self.state.index) == Index.ID:
            if ID_FIRST <= value <= ID_LAST:
                register[Index.ID] = value
        elif index == Index.ENABLE:
            self._enable(value)
        elif index == Index.BANK:
            register[Index.BANK] = value % self._banks()
            self.changed()
        elif index in GEOMETRY:
            register[index] = value
            self.settle()
            self.changed()

    def _enable(self, value: int) -> None:
        register = self.state.register
        begins = value & Enable.ENABLED and not self.enabled
        register[Index.ENABLE], register[Index.BANK] = value, 0
        if begins:
            register[Index.VIRT_WIDTH] = register[Index.X_OFFSET] = register[Index.Y_OFFSET] = 0
            self.settle()
            if not value & Enable.NOCLEARMEM:
                self.memory.clear(register[Index.YRES] * self.pitch)
        self.changed()

    def settle(self) -> None:
        """While enabled, every register holds what can be. Idempotent."""
        if not self.enabled:
            return
        register, size = self.state.register, self.memory.framebuffer_bytes
        if register[Index.BPP] not in DEPTHS:
            register[Index.BPP] = DEFAULT_BPP
        bits = DEPTHS[register[Index.BPP]]
        width = min(max(register[Index.XRES] & -X_UNIT, X_UNIT), X_MAX)
        across = max(min(register[Index.VIRT_WIDTH] & -X_UNIT, X_MAX), width)
        down = size // (across * bits // 8)
        height = min(max(register[Index.YRES], 1), Y_MAX, down)
        left, top = min(register[Index.X_OFFSET], X_MAX), min(register[Index.Y_OFFSET], Y_MAX)
        register[Index.XRES], register[Index.YRES] = width, height
        register[Index.VIRT_WIDTH], register[Index.VIRT_HEIGHT] = across, min(down, 0xFFFF)
        room = size - height * self.pitch
        if left * bits // 8 + top * self.pitch > room:
            top = 0
            if left * bits // 8 > room:
                left = 0
        register[Index.X_OFFSET], register[Index.Y_OFFSET] = left, top
