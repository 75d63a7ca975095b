"""Where the processor sees the video adapter: A0000-BFFFF, the linear framebuffer, the option ROM.

Video memory and ROM are device memory. What of A0000-BFFFF is not direct goes to the adapter, access by access.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hw.vga import DirectWindow
from hw.vga_memory import VideoMemory
from hw.vga_spec import FRAMEBUFFER_BYTES, VGA_BYTES
from vmm.memory import PAGE_SIZE, GuestMemory
from vmx.memory_map import VIDEO_END, VIDEO_FIRST, MemoryMap

VIDEO_PAGES = (FRAMEBUFFER_BYTES + VGA_BYTES) // PAGE_SIZE


def dev_pages_for(rom: bytes) -> int:
    """Device memory that the adapter takes."""
    return VIDEO_PAGES + len(rom) // PAGE_SIZE


@dataclass(slots=True)
class PciWindow:
    """Pages of device memory that are seen from guest physical address `base` on; None: nowhere."""

    map: Callable[[int, int, int], None]
    dev_page: int
    pages: int
    base: int | None = None


class VideoMapping:
    """A hw.vga.VideoMap over guest memory. `memory_map` has A0000-BFFFF while SMRAM is open."""

    def __init__(self, memory: GuestMemory, memory_map: MemoryMap, rom: bytes) -> None:
        self.memory, self.map = memory, memory_map
        self._first = memory.allocate_dev(VIDEO_PAGES)
        self._framebuffer = PciWindow(memory.map_framebuffer, self._first, FRAMEBUFFER_BYTES // PAGE_SIZE)
        rom_pages = len(rom) // PAGE_SIZE
        rom_first = memory.allocate_dev(rom_pages) if rom else 0
        if rom:
            memory.dev_view(rom_first, rom_pages)[:] = rom
        self._rom = PciWindow(memory.map_rom, rom_first, rom_pages)
        self._shown: list[tuple[int, int]] = []
        self._window: DirectWindow | None = None
        memory_map.map_video = self._draw_window

    def video_memory(self) -> VideoMemory:
        """The bytes for the adapter, with their dirty marks."""
        return VideoMemory(self.memory.dev_view(self._first, VIDEO_PAGES), self.dirty)

    @property
    def dirty(self) -> npt.NDArray[np.uint8]:
        """A byte for each page of video memory, set by stores."""
        return self.memory.dirty[self._first : self._first + VIDEO_PAGES]

    # from the adapter

    def set_window(self, window: DirectWindow | None) -> None:
        self._window = window
        self.map.redraw_video()

    def set_framebuffer(self, base: int | None) -> None:
        self._move(self._framebuffer, base)

    def set_rom(self, base: int | None) -> None:
        self._move(self._rom, base)

    # inside

    def _draw_window(self) -> None:
        first, end = VIDEO_FIRST // PAGE_SIZE, VIDEO_END // PAGE_SIZE
        self.memory.map_mmio(first, end - first)
        if self._window is not None:
            pages = self._window.size // PAGE_SIZE
            source = self._first + self._window.offset // PAGE_SIZE
            self.memory.map_framebuffer(self._window.first // PAGE_SIZE, pages, source)

    def _move(self, window: PciWindow, base: int | None) -> None:
        """Both PCI windows anew. RAM and firmware lie over them, as on the board, and the framebuffer over the ROM."""
        with self.map.hold():
            for first, pages in self._shown:
                self.memory.map_mmio(first, pages)
            self._shown.clear()
            window.base = base
            for shown in (self._rom, self._framebuffer):
                self._show(shown)

    def _show(self, window: PciWindow) -> None:
        if window.base is None or not window.pages:
            return
        first = window.base // PAGE_SIZE
        low, high = max(first, self.memory.ram_pages), min(first + window.pages, self.map.firmware_ppn)
        if low < high:
            self._shown.append((low, high - low))
            window.map(low, high - low, window.dev_page + low - first)
