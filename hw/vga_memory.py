"""Video memory: the linear framebuffer, the VGA's four planes, and the processor's way to the planes.

    0 .. framebuffer_bytes - 1      linear framebuffer; in banked modes A0000-AFFFF shows 64 KiB of it
    framebuffer_bytes .. + 256 KiB  the planes

A guest's accesses do not leave the engine where a run of addresses is a run of these bytes. For text that needs planes
0 and 1 byte by byte in turn, and for the 256-colour mode all four. So the planes have two layouts, and they are
rearranged when a mode needs the other one; what a guest sees through the registers does not depend on the layout.

    PAIRS   plane p, offset n: byte p // 2 * 128 KiB + 2 * n + p % 2
    QUADS   plane p, offset n: byte 4 * n + p

Differs from IBM's: a chained address loses the bits that choose the plane, so the bytes of a plane lie close together
(cell n of text is offset n of planes 0 and 1, not 2 * n). Programs see it only when they change the chaining with data
in place. A direct access does not load the latches. The planes are apart from the framebuffer, which later adapters
lay over them.
Source: IBM PS/2 Hardware Interface Technical Reference, "Video Subsystem", "Graphics Controller", cited as [ibm].
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import NamedTuple, Protocol

from hw.vga_spec import (
    GR3_FUNCTION_SHIFT,
    GR3_ROTATE,
    GR4_UPPER_PLANES,
    LEGACY_BYTES,
    PAGE_BYTES,
    PLANE_BYTES,
    PLANES,
    VGA_BYTES,
    Gr5,
    Seq4,
)

ALL_BYTES = 0xFFFFFFFF
ALL_PLANES = 0xF
EXPAND = tuple(sum(0xFF << 8 * plane for plane in range(PLANES) if bits >> plane & 1) for bits in range(16))
REPLICATE = 0x01010101
# Plain integers, as these are looked at with every change of a register.
WRITE_MODE, READ_COMPARE, ODD_EVEN = int(Gr5.WRITE_MODE), int(Gr5.READ_COMPARE), int(Gr5.ODD_EVEN)
CHAIN_4, SEQUENTIAL = int(Seq4.CHAIN_4), int(Seq4.SEQUENTIAL)


class Layout(IntEnum):
    """How the planes lie in memory."""

    PAIRS = 0
    QUADS = 1


STRIDE = {Layout.PAIRS: 2, Layout.QUADS: 4}
HALF = 2 * PLANE_BYTES
BASES = {Layout.PAIRS: (0, 1, HALF, HALF + 1), Layout.QUADS: (0, 1, 2, 3)}


class Chain(Enum):
    """How many of the address's lowest bits choose the plane."""

    NONE = 0
    ODD_EVEN = 1
    FOUR = 2


class DirtyPages(Protocol):
    """One byte per page of video memory, set when the page has been stored to."""

    def __setitem__(self, page: int, value: int, /) -> None: ...


class LatchState(Protocol):
    """Where the four latches are kept: plane 0 in the lowest byte."""

    latch: int


@dataclass(frozen=True, slots=True)
class VideoMemory:
    """The bytes themselves, and their pages' dirty bytes."""

    bytes: memoryview
    dirty: DirtyPages

    @property
    def framebuffer_bytes(self) -> int:
        return len(self.bytes) - VGA_BYTES

    def rearrange(self, layout: Layout) -> None:
        """The planes lie in the other layout; put them into this one."""
        first = self.framebuffer_bytes
        source, now = memoryview(bytes(self.bytes[first:])), Layout(1 - layout)
        for plane in range(PLANES):
            here, there = BASES[layout][plane], BASES[now][plane]
            here_end, there_end = here + STRIDE[layout] * PLANE_BYTES, there + STRIDE[now] * PLANE_BYTES
            self.bytes[first + here : first + here_end : STRIDE[layout]] = source[there : there_end : STRIDE[now]]
        self.mark(first, VGA_BYTES)

    def clear(self, size: int) -> None:
        """The first `size` bytes of the framebuffer become 0."""
        self.bytes[:size] = bytes(size)
        self.mark(0, size)

    def mark(self, first: int, size: int) -> None:
        for page in range(first // PAGE_BYTES, (first + size + PAGE_BYTES - 1) // PAGE_BYTES):
            self.dirty[page] = 1


def chains(sequencer: bytes, graphics: bytes) -> tuple[Chain, Chain]:
    """For loads and for stores. Chain 4 rules both; odd/even has a bit for each. [ibm: Memory Mode, Graphics Mode]"""
    memory_mode = sequencer[4]
    if memory_mode & CHAIN_4:
        return Chain.FOUR, Chain.FOUR
    read = Chain.ODD_EVEN if graphics[5] & ODD_EVEN else Chain.NONE
    return read, Chain.NONE if memory_mode & SEQUENTIAL else Chain.ODD_EVEN


def direct_layout(sequencer: bytes, graphics: bytes) -> Layout | None:
    """The layout in which the processor's window is memory and nothing more; None: every access must be worked out."""
    if graphics[5] & (WRITE_MODE | READ_COMPARE) or graphics[3] or graphics[1] & ALL_PLANES or graphics[8] != 0xFF:
        return None
    mask, (read, write) = sequencer[2] & ALL_PLANES, chains(sequencer, graphics)
    if read is write is Chain.FOUR and mask == ALL_PLANES:
        return Layout.QUADS
    if read is write is Chain.ODD_EVEN and mask == 0b0011 and not graphics[4] & GR4_UPPER_PLANES:
        return Layout.PAIRS
    return None


class PlanesAt(NamedTuple):
    """Planes of `plane_bytes` (a power of two) from byte `first` on; the window begins at offset `bank` of each."""

    first: int
    plane_bytes: int
    layout: Layout
    bank: int = 0


class GraphicsController:
    """Takes bytes to and from the planes, as the sequencer's and the graphics controller's registers say."""

    def __init__(self, state: LatchState, memory: VideoMemory) -> None:
        self.state, self.memory = state, memory
        self.configure(bytes(8), bytes(16), PlanesAt(memory.framebuffer_bytes, PLANE_BYTES, Layout.PAIRS))

    def configure(self, sequencer: bytes, graphics: bytes, planes: PlanesAt) -> None:
        """The registers, or the planes' place, have changed."""
        self._bank, self._wrap = planes.bank, planes.plane_bytes - 1
        self._stride = STRIDE[planes.layout]
        self._bases = tuple(planes.first + base for base in BASES[planes.layout])
        self._read_chain, self._write_chain = chains(sequencer, graphics)
        self._map_mask = sequencer[2] & ALL_PLANES
        self._write_mode = graphics[5] & WRITE_MODE
        self._compare = bool(graphics[5] & READ_COMPARE)
        self._compared, self._cared = EXPAND[graphics[2] & ALL_PLANES], EXPAND[graphics[7] & ALL_PLANES]
        self._read_map = graphics[4] & 3
        self._set_mask = EXPAND[graphics[1] & ALL_PLANES]
        self._set_data = EXPAND[graphics[0] & ALL_PLANES]
        self._rotate, self._function = graphics[3] & GR3_ROTATE, graphics[3] >> GR3_FUNCTION_SHIFT & 3
        self._bit_mask = graphics[8]
        self._plain = (
            self._write_mode == 0 and not self._set_mask and not graphics[3] and self._bit_mask == 0xFF
        )  # fmt: skip

    def read(self, address: int) -> int:
        """A byte, `address` being counted from the window's begin. Loads the latches. [ibm: Read modes]"""
        chain, plane = self._read_chain, self._read_map
        if chain is Chain.ODD_EVEN:
            plane, address = plane & GR4_UPPER_PLANES | address & 1, address >> 1
        elif chain is Chain.FOUR:
            plane, address = address & 3, address >> 2
        at = (address + self._bank & self._wrap) * self._stride
        b0, b1, b2, b3 = self._bases
        store = self.memory.bytes
        latch = store[b0 + at] | store[b1 + at] << 8 | store[b2 + at] << 16 | store[b3 + at] << 24
        self.state.latch = latch
        if not self._compare:
            return latch >> 8 * plane & 0xFF
        differ = (latch ^ self._compared) & self._cared
        differ |= differ >> 16
        return ~(differ | differ >> 8) & 0xFF

    def write(self, address: int, value: int) -> None:
        """Store a byte. [ibm: Write modes]"""
        chain, planes = self._write_chain, self._map_mask
        if chain is Chain.ODD_EVEN:
            planes, address = planes & 0b0101 << (address & 1), address >> 1
        elif chain is Chain.FOUR:
            planes, address = planes & 1 << (address & 3), address >> 2
        at = (address + self._bank & self._wrap) * self._stride
        data = value * REPLICATE if self._plain else self._combined(value)
        store, dirty = self.memory.bytes, self.memory.dirty
        for place in self._bases:
            if planes & 1:
                place += at  # noqa: PLW2901 -- one addition fewer per plane that is masked
                store[place] = data & 0xFF
                dirty[place >> 12] = 1
            planes >>= 1
            data >>= 8

    def _combined(self, value: int) -> int:
        """What the four planes get: rotate, set/reset, function, bit mask, in this order."""
        mode, mask, latch = self._write_mode, self._bit_mask, self.state.latch
        if mode == 1:
            return latch
        if mode == 2:
            data = EXPAND[value & ALL_PLANES]
        else:
            value = (value << 8 | value) >> self._rotate & 0xFF
            if mode == 0:
                data = value * REPLICATE & ~self._set_mask | self._set_data & self._set_mask
            else:
                data, mask = self._set_data, mask & value
        if self._function == 1:
            data &= latch
        elif self._function == 2:
            data |= latch
        elif self._function == 3:
            data ^= latch
        bits = mask * REPLICATE
        return data & bits | latch & ~bits & ALL_BYTES


assert LEGACY_BYTES <= 2 * PLANE_BYTES, "the widest window of text fits two planes"
