"""Which memory answers where below 1 MiB and at the top of 4 GiB, as the host bridge says.

    00000-9FFFF          RAM
    A0000-BFFFF          the video adapter's, or RAM while SMRAM is open
    C0000-FFFFF          RAM or ROM, in segments, as the bridge's PAM registers say
    100000-top           RAM
    top-                 PCI devices
    4 GiB - size of ROM  firmware; its last 128 KiB are also what E0000-FFFFF shows as ROM

A segment whose reads come from ROM while its writes go to RAM, as while firmware is copied under itself, is a scratch
page that begins as the ROM's copy; what was written goes to RAM, page by page, when that state ends. So a read there
sees what was written before, which the board's would not.
Changing the map needs every vCPU out of the guest: `hold` gives that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from hw.i440bx import ShadowRange, Target
from vmm.memory import PAGE_SIZE, GuestMemory

FIRMWARE_END = 1 << 32
LEGACY_ROM_BYTES = 128 << 10  # the part of the firmware that also appears below 1 MiB
LEGACY_END = 1 << 20
VIDEO_FIRST, VIDEO_END = 0xA0000, 0xC0000
SHADOW_FIRST = 0xC0000
SHADOW_PAGES = (LEGACY_END - SHADOW_FIRST) // PAGE_SIZE

Hold = Callable[[], AbstractContextManager[None]]


def dev_pages_for(firmware: bytes) -> int:
    """Device memory that the map takes: the firmware and the scratch pages of its shadow."""
    return len(firmware) // PAGE_SIZE + SHADOW_PAGES if firmware else 0


class MemoryMap:
    """The map of one machine. `video` draws A0000-BFFFF while it is the adapter's."""

    def __init__(self, memory: GuestMemory, firmware: bytes, hold: Hold) -> None:
        self.memory, self.firmware, self.hold = memory, firmware, hold
        self.map_video: Callable[[], None] = self._no_video
        self._smram_open = False
        self._scratched: list[int] = []
        self._pages = len(firmware) // PAGE_SIZE
        self._rom = self._scratch = 0
        memory.map_ram(0, memory.ram_pages)
        self._no_video()
        memory.map_mmio(memory.ram_pages, self.firmware_ppn - memory.ram_pages)
        if firmware:
            self._rom = memory.allocate_dev(self._pages)
            self._scratch = memory.allocate_dev(SHADOW_PAGES)
            memory.map_rom(FIRMWARE_END // PAGE_SIZE - self._pages, self._pages, self._rom)
            self.load_firmware()

    @property
    def firmware_ppn(self) -> int:
        """The first page of the firmware's ROM; the end of 4 GiB without one."""
        return FIRMWARE_END // PAGE_SIZE - self._pages

    def load_firmware(self) -> None:
        """The ROM's bytes into device memory."""
        if self.firmware:
            self.memory.dev_view(self._rom, self._pages)[:] = self.firmware

    # from the host bridge

    def set_shadow(self, ranges: Sequence[ShadowRange]) -> None:
        """C0000-FFFFF anew."""
        with self.hold():
            self._settle()
            for shadow in ranges:
                self._map_segment(shadow)

    def set_smram(self, opened: bool) -> None:
        """A0000-BFFFF is RAM, or the adapter's."""
        self._smram_open = opened
        self.redraw_video()

    def redraw_video(self) -> None:
        """What answers at A0000-BFFFF has changed."""
        with self.hold():
            if self._smram_open:
                self.memory.map_ram(VIDEO_FIRST // PAGE_SIZE, (VIDEO_END - VIDEO_FIRST) // PAGE_SIZE)
            else:
                self.map_video()

    def _no_video(self) -> None:
        self.memory.map_mmio(VIDEO_FIRST // PAGE_SIZE, (VIDEO_END - VIDEO_FIRST) // PAGE_SIZE)

    def _map_segment(self, shadow: ShadowRange) -> None:
        first, end = shadow.first // PAGE_SIZE, (shadow.first + shadow.size) // PAGE_SIZE
        memory = self.memory
        if shadow.reads is Target.DRAM:
            if shadow.writes is Target.DRAM:
                memory.map_ram(first, end - first)
            else:
                memory.map_shadow_rom(first, end - first)
            return
        rom = max(first, (LEGACY_END - min(len(self.firmware), LEGACY_ROM_BYTES)) // PAGE_SIZE)
        if first < min(rom, end):
            memory.unmap(first, min(rom, end) - first)
        if rom >= end:
            return
        source = self._rom + self._pages - (LEGACY_END // PAGE_SIZE - rom)
        if shadow.writes is Target.DRAM:
            self._map_scratch(rom, end - rom, source)
        else:
            memory.map_rom(rom, end - rom, source)

    # reads from ROM, writes to RAM

    def _map_scratch(self, first: int, pages: int, source: int) -> None:
        memory = self.memory
        scratch = self._scratch + first - SHADOW_FIRST // PAGE_SIZE
        memory.dev_view(scratch, pages)[:] = memory.dev_view(source, pages)
        memory.dirty[scratch : scratch + pages] = 0
        memory.map_framebuffer(first, pages, scratch)
        self._scratched.extend(range(first, first + pages))

    def _settle(self) -> None:
        """What was written over a scratch page is in RAM."""
        scratched, self._scratched = self._scratched, []
        for ppn in scratched:
            scratch = self._scratch + ppn - SHADOW_FIRST // PAGE_SIZE
            self.memory.map_ram(ppn, 1)
            if self.memory.dirty[scratch]:
                self.memory.write(ppn * PAGE_SIZE, self.memory.dev_view(scratch, 1))
