"""The video adapter: a VGA with Bochs's "DISPI" modes in a PCI function that bears VMware's SVGA II ids.

Video memory belongs to the machine, which is told (`VideoMap`) where a guest's accesses may go straight to it: text and
the 256-colour mode at A0000-BFFFF, banks of a DISPI mode, the linear framebuffer (BAR1) and the ROM. All other accesses
to A0000-BFFFF arrive here. Who draws the screen reads the state and the memory.
Input status 1 follows the CRT controller's timing on the guest clock.

Not modelled: the SVGA II's own registers (BAR0 reads all ones, by which drivers learn that there are none) and FIFO;
interrupts; the light pen; video subsystem enable (stored). The legacy ports and A0000-BFFFF answer whatever the command
register says.
Source: IBM PS/2 Hardware Interface Technical Reference, "Video Subsystem", cited as [ibm].
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import LittleEndianStructure, c_uint8, c_uint32, sizeof
from typing import Any, NamedTuple, Protocol

from hw.pci import PciBuses, PciDevice
from hw.vga_dispi import Dispi, DispiState
from hw.vga_dispi_spec import INDEX_PORT, PORTS
from hw.vga_memory import GraphicsController, Layout, PlanesAt, VideoMemory, direct_layout
from hw.vga_spec import (
    ATTRIBUTE,
    ATTRIBUTE_INDEX,
    COLOUR_PORTS,
    CRT,
    CRT_LOCK,
    CRT_LOCKED,
    DAC_MODE_READ,
    DAC_MODE_WRITE,
    DOT_CLOCK_HZ,
    FEATURE_VSYNC,
    FONT_CELL,
    FONT_GLYPHS,
    FRAMEBUFFER_BAR,
    GRAPHICS,
    LEGACY_BYTES,
    LEGACY_FIRST,
    MEMORY_MAPS,
    MODE_3,
    MONO_PORTS,
    PALETTE_ON,
    PLANE_BYTES,
    PLANES,
    PORT_RANGES,
    SEQUENCER,
    TEXT_BLANK,
    Crt7,
    CrtPort,
    MemoryMap,
    Misc,
    Port,
    Seq1,
    Status1,
    config_bank,
    ega_colour,
    windows,
)
from ringfence.pci_header import CONFIG_BYTES, ROM_INDEX

NS_PER_S = 1_000_000_000
NOTHING = 0xFF
COLOURS = 256
DAC_BITS = 0x3F


class DirectWindow(NamedTuple):
    """`size` bytes at guest physical address `first` are the bytes of video memory from `offset` on. Whole pages."""

    first: int
    size: int
    offset: int


class VideoMap(Protocol):
    """Whoever maps memory for the processor; each is called when it changes, and once at power-on or resume."""

    def set_window(self, window: DirectWindow | None) -> None:
        """All of A0000-BFFFF is MMIO, but for `window`."""

    def set_framebuffer(self, base: int | None) -> None:
        """The linear framebuffer begins at guest physical address `base`; None: it is nowhere."""

    def set_rom(self, base: int | None) -> None:
        """The same for the option ROM."""


class GuestClock(Protocol):
    """Nanoseconds since power-on; it stands while the machine is stunned."""

    @property
    def now_ns(self) -> int: ...


class VgaState(LittleEndianStructure):
    """All guest-visible state but video memory. `attribute_index` has PALETTE_ON in it; `layout` is the planes'."""

    _fields_ = [
        ("config", c_uint8 * CONFIG_BYTES),
        ("sequencer", c_uint8 * 8), ("graphics", c_uint8 * 16), ("crt", c_uint8 * 32), ("attribute", c_uint8 * 32),
        ("palette", c_uint8 * (3 * COLOURS)),
        ("dispi", DispiState),
        ("latch", c_uint32),
        ("sequencer_index", c_uint8), ("graphics_index", c_uint8), ("crt_index", c_uint8), ("attribute_index", c_uint8),
        ("attribute_data_next", c_uint8), ("misc", c_uint8), ("feature", c_uint8), ("enable", c_uint8),
        ("dac_mask", c_uint8), ("dac_mode", c_uint8), ("dac_read_index", c_uint8), ("dac_write_index", c_uint8),
        ("dac_component", c_uint8), ("dac_colour", c_uint8 * 3),
        ("layout", c_uint8), ("reserved", c_uint8 * 3),
    ]  # fmt: skip


assert sizeof(VgaState) == CONFIG_BYTES + 88 + 3 * COLOURS + sizeof(DispiState) + 4 + 16 + 4


# Plain integers of what is looked at with every access: an operation on a flag makes another flag each time.
IO_ADDRESS, ENABLE_RAM = int(Misc.IO_ADDRESS), int(Misc.ENABLE_RAM)
DOTS_8, HALF_DOT_CLOCK, CLOCK_28_MHZ = int(Seq1.DOTS_8), int(Seq1.HALF_DOT_CLOCK), int(Misc.CLOCK_28_MHZ)
TOTAL_8, TOTAL_9 = int(Crt7.VERTICAL_TOTAL_8), int(Crt7.VERTICAL_TOTAL_9)
END_8, END_9 = int(Crt7.DISPLAY_END_8), int(Crt7.DISPLAY_END_9)
RETRACE_8, RETRACE_9 = int(Crt7.RETRACE_START_8), int(Crt7.RETRACE_START_9)
DISPLAY_OFF, VERTICAL_RETRACE = int(Status1.DISPLAY_OFF), int(Status1.VERTICAL_RETRACE)
DOT_CLOCKS = {int(misc): hertz for misc, hertz in DOT_CLOCK_HZ.items()}
WINDOWS = tuple(MEMORY_MAPS[MemoryMap(select)] for select in range(len(MemoryMap)))
BANKED_WINDOW = MEMORY_MAPS[MemoryMap.A0000_64K]
LAYOUTS = tuple(Layout)

RESET_TO_0 = (
    "sequencer_index", "graphics_index", "crt_index", "attribute_index", "attribute_data_next", "misc", "feature",
    "enable", "dac_mode", "dac_read_index", "dac_write_index", "dac_component", "latch",
)  # fmt: skip
CRT_PARTS = frozenset(CrtPort)


def read_dac(s: VgaState) -> int:
    """A component of a colour, red first; after the third comes the next colour."""
    component = s.dac_component % 3
    value = s.palette[3 * s.dac_read_index + component]
    if component == 2:
        s.dac_read_index = s.dac_read_index + 1 & 0xFF
    s.dac_component = (component + 1) % 3
    return int(value)


# Ports whose reading needs no more than the state.
READS: dict[int, Callable[[VgaState], int]] = {
    Port.ATTRIBUTE: lambda s: s.attribute_index,
    Port.ATTRIBUTE_DATA: lambda s: ATTRIBUTE.read(s.attribute, s.attribute_index & ATTRIBUTE_INDEX, 1),
    Port.MISC_WRITE: lambda s: 0,
    Port.ENABLE: lambda s: s.enable,
    Port.SEQUENCER: lambda s: s.sequencer_index,
    Port.SEQUENCER_DATA: lambda s: SEQUENCER.read(s.sequencer, s.sequencer_index, 1),
    Port.PEL_MASK: lambda s: s.dac_mask,
    Port.DAC_READ_INDEX: lambda s: s.dac_mode,
    Port.DAC_WRITE_INDEX: lambda s: s.dac_write_index,
    Port.DAC_DATA: read_dac,
    Port.FEATURE_READ: lambda s: s.feature,
    Port.MISC_READ: lambda s: s.misc,
    Port.GRAPHICS: lambda s: s.graphics_index,
    Port.GRAPHICS_DATA: lambda s: GRAPHICS.read(s.graphics, s.graphics_index, 1),
}


class SvgaPorts:
    """BAR0."""

    def port_read(self, offset: int, width: int) -> int:
        return 0xFFFFFFFF

    def port_write(self, offset: int, width: int, value: int) -> None:
        """Ignored."""


class VgaPorts:
    """Byte-wide legacy ports from `first` on."""

    def __init__(self, vga: Vga, first: int) -> None:
        self.vga, self.first = vga, first

    def port_read(self, offset: int, width: int) -> int:
        return self.vga.legacy_read(self.first + offset)

    def port_write(self, offset: int, width: int, value: int) -> None:
        self.vga.legacy_write(self.first + offset, value)


class Vga(PciDevice):
    """The adapter. It claims its fixed ports and A0000-BFFFF in `buses` at once."""

    State = VgaState

    def __init__(
        self, state: VgaState, buses: PciBuses, memory: VideoMemory, clock: GuestClock, video: VideoMap
    ) -> None:
        size = memory.framebuffer_bytes
        assert size >= 1 << 20 and size & size - 1 == 0, f"framebuffer of {size:#x} bytes: expected a power of two"
        self.BARS, self.CONFIG = windows(size), config_bank(size)
        super().__init__(state.config, buses)
        self.state, self.memory, self.clock, self.video = state, memory, clock, video
        self.dispi = Dispi(state.dispi, memory, self.addressing_changed)
        self.planes = GraphicsController(state, memory)
        self._window: tuple[int, int, int | None] = (0, 0, None)  # from A0000; size; byte of memory where it is direct
        self._told: list[DirectWindow | None] = []  # what the machine maps now; empty before it knows
        for first, count in PORT_RANGES:
            buses.ports.claim(first, count, VgaPorts(self, first), name="VGA")
        buses.ports.claim(INDEX_PORT, PORTS, self.dispi, width=2, name="VGA DISPI")
        buses.memory.map(LEGACY_FIRST, LEGACY_BYTES, self, name="VGA")

    def reset(self) -> None:
        """RESET#: nothing is shown and the processor sees no video memory. Its contents stay."""
        s = self.state
        self.reset_config()
        for bank, store in (
            (SEQUENCER, s.sequencer), (GRAPHICS, s.graphics), (CRT, s.crt), (ATTRIBUTE, s.attribute),
        ):  # fmt: skip
            bank.reset(store)
        for name in RESET_TO_0:
            setattr(s, name, 0)
        s.dac_colour[:] = bytes(3)
        s.dac_mask = 0xFF
        self.dispi.reset()
        self.sync()

    def show_text(self, glyphs: bytes) -> None:
        """Mode 3 with an empty screen, as the BIOS leaves it. `glyphs`: 256 of 16 lines each.

        For a machine that starts a program with no firmware before it.
        """
        s = self.state
        s.misc, s.attribute_index, s.dac_mask, s.enable = MODE_3.misc, PALETTE_ON, 0xFF, 1
        for bank, values in (
            (s.sequencer, MODE_3.sequencer), (s.crt, MODE_3.crt), (s.graphics, MODE_3.graphics),
            (s.attribute, MODE_3.attribute),
        ):  # fmt: skip
            bank[: len(values)] = values
        s.palette[:] = [part for index in range(COLOURS) for part in ega_colour(index & DAC_BITS)]
        self.dispi.reset()
        self.sync()
        first, height = self.memory.framebuffer_bytes, len(glyphs) // FONT_GLYPHS
        store = self.memory.bytes
        store[first : first + 2 * PLANE_BYTES] = TEXT_BLANK * PLANE_BYTES
        for glyph in range(FONT_GLYPHS):
            at = first + 2 * PLANE_BYTES + 2 * FONT_CELL * glyph  # plane 2 in PAIRS
            store[at : at + 2 * height : 2] = glyphs[glyph * height : (glyph + 1) * height]
        self.memory.mark(first, PLANES * PLANE_BYTES)

    # from the guest: memory

    def mmio_read(self, offset: int, width: int) -> int:
        """A0000-BFFFF, as far as it is not mapped directly."""
        first, size, direct = self._window
        if direct is None and width == 1 and 0 <= offset - first < size:
            return self.planes.read(offset - first)
        value = 0
        for index in range(width):
            at = offset - first + index
            if not 0 <= at < size:
                byte = NOTHING
            else:
                byte = self.planes.read(at) if direct is None else self.memory.bytes[direct + at]
            value |= byte << 8 * index
        return value

    def mmio_write(self, offset: int, width: int, value: int) -> None:
        first, size, direct = self._window
        if direct is None and width == 1 and 0 <= offset - first < size:
            self.planes.write(offset - first, value)
            return
        for index in range(width):
            at = offset - first + index
            if 0 <= at < size:
                byte = value >> 8 * index & 0xFF
                if direct is None:
                    self.planes.write(at, byte)
                else:
                    self.memory.bytes[direct + at] = byte
                    self.memory.mark(direct + at, 1)

    # from the guest: ports

    def bar_device(self, index: int) -> Any:
        return SvgaPorts()

    def window_moved(self, index: int, base: int | None) -> None:
        if index == FRAMEBUFFER_BAR:
            self.video.set_framebuffer(base)
        elif index == ROM_INDEX:
            self.video.set_rom(base)

    def legacy_read(self, port: int) -> int:
        s = self.state
        if (part := self._crt_part(port)) is not None:
            if part == CrtPort.STATUS_1:
                s.attribute_data_next = 0
                return self._status_1()
            return int(s.crt_index) if part == CrtPort.INDEX else CRT.read(s.crt, s.crt_index, 1)
        handler = READS.get(port)
        return NOTHING if handler is None else handler(s)

    def legacy_write(self, port: int, value: int) -> None:
        s = self.state
        if (part := self._crt_part(port)) is not None:
            if part == CrtPort.STATUS_1:
                s.feature = value & FEATURE_VSYNC
            elif part == CrtPort.INDEX:
                s.crt_index = value & len(s.crt) - 1
            else:
                self._write_crt(value)
        elif (handler := WRITES.get(port)) is not None:
            handler(self, value)

    def _crt_part(self, port: int) -> int | None:
        """The offset of a CRT controller port, while it is where Misc.IO_ADDRESS says; None: another port."""
        part = port - (COLOUR_PORTS if self.state.misc & IO_ADDRESS else MONO_PORTS)
        return part if part in CRT_PARTS else None

    # register handlers

    def _write_misc(self, value: int) -> None:
        self.state.misc = value
        self.addressing_changed()

    def _write_sequencer(self, value: int) -> None:
        s = self.state
        SEQUENCER.dispatch(self, SEQUENCER.write(s.sequencer, s.sequencer_index, 1, value))

    def _write_graphics(self, value: int) -> None:
        s = self.state
        GRAPHICS.dispatch(self, GRAPHICS.write(s.graphics, s.graphics_index, 1, value))

    def _select_colour(self, index: str, value: int, mode: int) -> None:
        setattr(self.state, index, value)
        self.state.dac_component, self.state.dac_mode = 0, mode

    def _write_crt(self, value: int) -> None:
        """The lock leaves one bit of the overflow register free. [ibm: Vertical Retrace End]"""
        s = self.state
        index = s.crt_index
        if s.crt[0x11] & CRT_LOCK and index in CRT_LOCKED:
            if index == CRT.by_name["OVERFLOW"].offset:
                free = int(Crt7.LINE_COMPARE_8)
                s.crt[index] = s.crt[index] & ~free | value & free
            return
        CRT.write(s.crt, index, 1, value)

    def _write_attribute(self, value: int) -> None:
        """Index and data by turns; reading input status 1 makes the next an index. [ibm: Attribute Controller]"""
        s = self.state
        if s.attribute_data_next:
            ATTRIBUTE.write(s.attribute, s.attribute_index & ATTRIBUTE_INDEX, 1, value)
        else:
            s.attribute_index = value & (ATTRIBUTE_INDEX | PALETTE_ON)
        s.attribute_data_next ^= 1

    def _write_dac(self, value: int) -> None:
        """A colour changes with its third component. [ibm: Video Digital-to-Analog Converter]"""
        s = self.state
        component = s.dac_component % 3
        s.dac_colour[component] = value if self.dispi.dac_8bit else value & DAC_BITS
        if component == 2:
            s.palette[3 * s.dac_write_index : 3 * s.dac_write_index + 3] = list(s.dac_colour)
            s.dac_write_index = s.dac_write_index + 1 & 0xFF
        s.dac_component = (component + 1) % 3

    def _status_1(self) -> int:
        """Where the beam is. [ibm: CRT Controller Registers]"""
        s = self.state
        crt, clocking = bytes(s.crt), s.sequencer[1]
        overflow, dots = crt[7], 8 if clocking & DOTS_8 else 9
        clock = DOT_CLOCKS[s.misc & CLOCK_28_MHZ] >> (1 if clocking & HALF_DOT_CLOCK else 0)
        line_dots = (crt[0] + 5) * dots
        lines = (crt[6] | (overflow & TOTAL_8) << 8 | (overflow & TOTAL_9) << 4) + 2
        shown = crt[0x12] | (overflow & END_8) << 7 | (overflow & END_9) << 3
        retrace = crt[0x10] | (overflow & RETRACE_8) << 6 | (overflow & RETRACE_9) << 2
        line, dot = divmod(self.clock.now_ns * clock // NS_PER_S % (line_dots * lines), line_dots)
        status = 0 if line <= shown and dot // dots <= crt[1] else DISPLAY_OFF
        return status | VERTICAL_RETRACE if 0 <= line - retrace < (crt[0x11] - retrace & 0xF or 16) else status

    # outputs

    def addressing_changed(self) -> None:
        """What A0000-BFFFF shows, from the registers. The planes are rearranged while nobody sees them."""
        s, first_plane = self.state, self.memory.framebuffer_bytes
        sequencer, graphics = bytes(s.sequencer), bytes(s.graphics)
        layout = LAYOUTS[s.layout & 1]
        window: DirectWindow | None = None
        if self.dispi.enabled:
            first, size = BANKED_WINDOW
            if not self.dispi.is_planar:
                window = DirectWindow(LEGACY_FIRST + first, size, self.dispi.bank_offset)
        else:
            first, size = WINDOWS[graphics[6] >> 2 & 3]
            if not s.misc & ENABLE_RAM:
                size = 0
            wanted = direct_layout(sequencer, graphics) if size else None
            if wanted is not None:
                if wanted is not layout:
                    self._tell(None)
                    self.memory.rearrange(wanted)
                    s.layout = layout = wanted
                window = DirectWindow(LEGACY_FIRST + first, size, first_plane)
        planes = PlanesAt(first_plane, PLANE_BYTES, layout)
        if self.dispi.enabled and self.dispi.is_planar:
            planes = PlanesAt(0, first_plane // PLANES, Layout.QUADS, self.dispi.bank_offset)
        self._window = (first, size, window.offset if window else None)
        self.planes.configure(sequencer, graphics, planes)
        self._tell(window)

    def _tell(self, window: DirectWindow | None) -> None:
        if self._told != [window]:
            self._told = [window]
            self.video.set_window(window)

    def sync(self) -> None:
        self.map_bars()
        self.dispi.settle()
        self.addressing_changed()


# What a byte written to a port does; the CRT controller's are elsewhere.
WRITES: dict[int, Callable[[Vga, int], None]] = {
    Port.ATTRIBUTE: Vga._write_attribute,
    Port.MISC_WRITE: Vga._write_misc,
    Port.ENABLE: lambda vga, value: setattr(vga.state, "enable", value & 1),
    Port.SEQUENCER: lambda vga, value: setattr(vga.state, "sequencer_index", value & SEQUENCER.size - 1),
    Port.SEQUENCER_DATA: Vga._write_sequencer,
    Port.PEL_MASK: lambda vga, value: setattr(vga.state, "dac_mask", value),
    Port.DAC_READ_INDEX: lambda vga, value: vga._select_colour("dac_read_index", value, DAC_MODE_READ),
    Port.DAC_WRITE_INDEX: lambda vga, value: vga._select_colour("dac_write_index", value, DAC_MODE_WRITE),
    Port.DAC_DATA: Vga._write_dac,
    Port.GRAPHICS: lambda vga, value: setattr(vga.state, "graphics_index", value & GRAPHICS.size - 1),
    Port.GRAPHICS_DATA: Vga._write_graphics,
}
