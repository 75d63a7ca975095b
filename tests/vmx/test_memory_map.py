"""Which memory answers below 1 MiB and below 4 GiB, seen through guest memory as the processor and DMA see it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hw.i440bx import ShadowRange, Target
from ringfence.errors import RingfenceError
from vmm.memory import PAGE_SIZE, GuestMemory, SlotKind
from vmx.memory_map import FIRMWARE_END, MemoryMap, dev_pages_for

FIRMWARE = bytes(range(256)) * 1024  # 256 KiB: every page alike, so a page is told by what is written to it
SEGMENT = 0x4000
ROM, DRAM = Target.PCI, Target.DRAM


class Board:
    """Guest memory with its map. `held` is whether the vCPUs are kept out now."""

    def __init__(self, firmware: bytes = FIRMWARE) -> None:
        self.held, self.holds = False, 0
        self.memory = GuestMemory(16 << 20 >> 12, dev_pages_for(firmware))
        self.map = MemoryMap(self.memory, firmware, self.hold)

    @contextmanager
    def hold(self) -> Iterator[None]:
        self.held, self.holds = True, self.holds + 1
        yield
        self.held = False

    def shadow(self, first: int, reads: Target, writes: Target, size: int = SEGMENT) -> None:
        self.map.set_shadow([ShadowRange(first, size, reads, writes)])

    def kind(self, gpa: int) -> SlotKind | None:
        ppn = gpa // PAGE_SIZE
        return next((row.kind for row in self.memory.regions if row.first_ppn <= ppn < row.end_ppn), None)


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board()
    yield made
    made.memory.close()


def test_firmware_ends_at_4_gib_and_cannot_be_written(board: Board) -> None:
    start = FIRMWARE_END - len(FIRMWARE)
    assert board.memory.read(start, len(FIRMWARE)) == FIRMWARE
    assert board.kind(start) is SlotKind.ROM and board.kind(start - 1) is SlotKind.MMIO


def test_the_last_128_kib_of_firmware_are_what_e0000_reads_as_rom(board: Board) -> None:
    board.shadow(0xE0000, ROM, ROM, 0x20000)
    assert board.memory.read(0xE0000, 0x20000) == FIRMWARE[-0x20000:]


def test_small_firmware_lies_at_the_end_of_its_128_kib() -> None:
    small = Board(b"\x5a" * 0x10000)
    small.shadow(0xE0000, ROM, ROM, 0x20000)
    assert small.memory.read(0xF0000, 0x10000) == b"\x5a" * 0x10000
    assert small.kind(0xE0000) is not SlotKind.ROM
    small.memory.close()


def test_reads_and_writes_of_ram_go_to_ram(board: Board) -> None:
    board.shadow(0xC8000, DRAM, DRAM)
    board.memory.write(0xC8000, b"ram")
    assert board.memory.read(0xC8000, 3) == b"ram"


def test_ram_that_is_only_read_keeps_its_bytes(board: Board) -> None:
    """As firmware leaves the segment that it has copied itself to."""
    board.shadow(0xF0000, DRAM, DRAM)
    board.memory.write(0xF0000, b"shadow")
    board.shadow(0xF0000, DRAM, ROM)
    assert board.memory.read(0xF0000, 6) == b"shadow"
    with pytest.raises(RingfenceError):
        board.memory.write(0xF0000, b"other")
    assert board.memory.read(0xF0000, 6) == b"shadow"


def test_firmware_copies_itself_under_itself(board: Board) -> None:
    """Reads from ROM, writes to RAM: what was written is in RAM once RAM is read, and the ROM is as it was."""
    board.shadow(0xF0000, DRAM, DRAM, 0x10000)
    board.memory.write(0xF5000, b"old RAM")
    board.shadow(0xF0000, ROM, DRAM, 0x10000)
    assert board.memory.read(0xF0000, 0x10000) == FIRMWARE[-0x10000:]
    board.memory.write(0xF1000, b"new page")
    board.shadow(0xF0000, DRAM, DRAM, 0x10000)
    assert board.memory.read(0xF1000, 8) == b"new page"
    assert board.memory.read(0xF5000, 7) == b"old RAM", "a page that was not written stays what RAM had"
    assert board.memory.read(FIRMWARE_END - len(FIRMWARE), len(FIRMWARE)) == FIRMWARE


def test_smram_lies_under_the_video_adapter(board: Board) -> None:
    assert board.kind(0xA0000) is SlotKind.MMIO
    board.map.set_smram(True)
    board.memory.write(0xA0000, b"SMM")
    board.map.set_smram(False)
    assert board.kind(0xA0000) is SlotKind.MMIO
    board.map.set_smram(True)
    assert board.memory.read(0xA0000, 3) == b"SMM"


def test_the_adapter_draws_its_window_only_while_smram_is_closed(board: Board) -> None:
    drawn: list[bool] = []
    board.map.map_video = lambda: drawn.append(board.held)
    board.map.set_smram(True)
    board.map.redraw_video()
    assert drawn == []
    board.map.set_smram(False)
    assert drawn == [True], "with the vCPUs kept out"


def test_every_change_keeps_the_vcpus_out(board: Board) -> None:
    board.shadow(0xC0000, DRAM, DRAM)
    board.map.set_smram(True)
    board.map.redraw_video()
    assert board.holds == 3 and not board.held


def test_without_firmware_the_top_of_4_gib_is_nobody_s() -> None:
    bare = Board(b"")
    assert bare.map.firmware_ppn == FIRMWARE_END // PAGE_SIZE
    assert bare.kind(FIRMWARE_END - 1) is SlotKind.MMIO
    bare.shadow(0xF0000, ROM, ROM)
    assert bare.kind(0xF0000) is None
    bare.memory.close()
