"""Where the processor sees video memory and the adapter's ROM, as PCI's registers move them about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import pytest

from hw.vga import DirectWindow
from hw.vga_spec import FRAMEBUFFER_BYTES
from vmm.memory import PAGE_SIZE, GuestMemory, SlotKind
from vmx import memory_map, video_map
from vmx.memory_map import MemoryMap
from vmx.video_map import VideoMapping

FIRMWARE = bytes(64 << 10)
ROM = b"\x55\xaa" + bytes(PAGE_SIZE - 2)
RAM_BYTES = 16 << 20
BASE = 0xE8000000


def hold() -> AbstractContextManager[None]:
    return nullcontext()


class Board:
    def __init__(self) -> None:
        pages = memory_map.dev_pages_for(FIRMWARE) + video_map.dev_pages_for(ROM)
        self.memory = GuestMemory(RAM_BYTES >> 12, pages)
        self.map = MemoryMap(self.memory, FIRMWARE, hold)
        self.video = VideoMapping(self.memory, self.map, ROM)
        self.bytes = self.memory.dev_view(self.memory.dev.size // PAGE_SIZE - video_map.dev_pages_for(ROM), 1)

    def kind(self, gpa: int) -> SlotKind | None:
        ppn = gpa // PAGE_SIZE
        return next((row.kind for row in self.memory.regions if row.first_ppn <= ppn < row.end_ppn), None)


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board()
    yield made
    made.bytes.release()
    made.memory.close()


def test_the_framebuffer_is_where_its_bar_says_and_nowhere_else(board: Board) -> None:
    board.video.set_framebuffer(BASE)
    board.memory.write(BASE + 0x12345, b"pixel")
    board.video.set_framebuffer(BASE + FRAMEBUFFER_BYTES)
    assert board.kind(BASE) is SlotKind.MMIO
    assert board.memory.read(BASE + FRAMEBUFFER_BYTES + 0x12345, 5) == b"pixel"
    board.video.set_framebuffer(None)
    assert board.kind(BASE + FRAMEBUFFER_BYTES) is SlotKind.MMIO


def test_a_store_marks_its_page_of_video_memory(board: Board) -> None:
    board.video.set_framebuffer(BASE)
    board.video.dirty[:] = 0
    board.memory.write(BASE + 5 * PAGE_SIZE, b"x")
    assert board.video.dirty.nonzero()[0].tolist() == [5]


def test_ram_lies_over_a_framebuffer_that_is_moved_onto_it(board: Board) -> None:
    board.memory.write(RAM_BYTES - 4, b"kept")
    board.video.set_framebuffer(RAM_BYTES - FRAMEBUFFER_BYTES // 2)
    assert board.memory.read(RAM_BYTES - 4, 4) == b"kept"
    assert board.kind(RAM_BYTES) is SlotKind.FRAMEBUFFER
    board.video.set_framebuffer(0)
    assert board.kind(0) is SlotKind.RAM and board.kind(RAM_BYTES) is SlotKind.MMIO


def test_firmware_lies_over_a_framebuffer_at_the_top(board: Board) -> None:
    board.video.set_framebuffer((1 << 32) - FRAMEBUFFER_BYTES)
    assert board.kind((1 << 32) - 1) is SlotKind.ROM
    assert board.kind((1 << 32) - FRAMEBUFFER_BYTES) is SlotKind.FRAMEBUFFER


def test_the_framebuffer_lies_over_the_rom_and_gives_it_back(board: Board) -> None:
    board.video.set_rom(BASE)
    assert board.memory.read(BASE, 2) == b"\x55\xaa" and board.kind(BASE) is SlotKind.ROM
    board.video.set_framebuffer(BASE)
    assert board.kind(BASE) is SlotKind.FRAMEBUFFER
    board.video.set_framebuffer(None)
    assert board.memory.read(BASE, 2) == b"\x55\xaa"
    board.video.set_rom(None)
    assert board.kind(BASE) is SlotKind.MMIO


def test_a_direct_window_is_a_part_of_a0000_and_shows_video_memory(board: Board) -> None:
    board.video.set_framebuffer(BASE)
    board.video.set_window(DirectWindow(0xA0000, 0x10000, 0x30000))
    board.memory.write(0xA0010, b"mode 13h")
    assert board.memory.read(BASE + 0x30010, 8) == b"mode 13h"
    assert board.kind(0xB0000) is SlotKind.MMIO
    board.map.set_smram(True)
    board.memory.write(0xA0010, b"SMM code")
    board.map.set_smram(False)
    assert board.memory.read(0xA0010, 8) == b"mode 13h"
    board.video.set_window(None)
    assert board.kind(0xA0000) is SlotKind.MMIO
