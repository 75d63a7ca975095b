"""The host bridge, played as firmware plays it: shadow RAM, the lock, SMRAM, the aperture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest

from hw.i440bx import I440bx, I440bxState, ShadowRange, Target, row_boundaries, shadow_ranges

DRAM, PCI = Target.DRAM, Target.PCI


class Memory:
    """What the bridge told whoever maps memory."""

    def __init__(self) -> None:
        self.shadows: list[Sequence[ShadowRange]] = []
        self.smram: list[bool] = []

    def set_shadow(self, ranges: Sequence[ShadowRange]) -> None:
        self.shadows.append(ranges)

    def set_smram(self, opened: bool) -> None:
        self.smram.append(opened)


class Board:
    def __init__(self, masquerade: bool = True, memory_mib: int = 64) -> None:
        self.memory = Memory()
        self.bridge = I440bx(I440bxState(), self.memory, memory_mib, masquerade)
        self.bridge.reset()
        self.read, self.write = self.bridge.config_read, self.bridge.config_write


@pytest.fixture
def board() -> Board:
    return Board()


def post(board: Board) -> None:
    """SeaBIOS: unlock the shadow, copy, lock it again; each by dwords at 58 and 5C."""
    for low, high in ((0x33333000, 0x33333333), (0x11111000, 0x33311111)):
        board.write(0x58, 4, board.read(0x58, 4) & 0xFF | low)
        board.write(0x5C, 4, high)


def test_at_reset_the_rom_answers_and_takes_nothing(board: Board) -> None:
    assert board.memory.shadows == [(ShadowRange(0xC0000, 0x40000, PCI, PCI),)]
    assert board.memory.smram == [False]


def test_firmware_finds_a_440fx_until_it_has_locked_its_shadow(board: Board) -> None:
    assert board.read(0, 4) == 0x12378086
    board.write(0x58, 4, board.read(0x58, 4) | 0x33333000)
    assert board.read(0, 4) == 0x12378086, "unlocking is not locking"
    post(board)
    assert board.read(0, 4) == 0x71908086
    board.bridge.reset()
    assert board.read(0, 4) == 0x12378086
    assert board.read(0x58, 4) == 0x03


def test_only_the_dword_write_at_58_drops_the_mask(board: Board) -> None:
    board.write(0x59, 1, 0x10)
    assert board.read(2, 2) == 0x1237
    board.write(0x58, 4, 0x3003)
    assert board.read(2, 2) == 0x1237
    board.write(0x58, 4, 0x1003)
    assert board.read(2, 2) == 0x7190


def test_without_masquerade_it_is_a_440bx_at_once() -> None:
    board = Board(masquerade=False)
    assert board.read(0, 4) == 0x71908086
    assert (board.read(0x08, 4), board.read(0x2C, 4)) == (0x06000001, 0x197615AD)


def test_subsystem_and_revision_do_not_change(board: Board) -> None:
    before = [board.read(offset, 4) for offset in (0x04, 0x08, 0x0C, 0x2C)]
    post(board)
    assert [board.read(offset, 4) for offset in (0x04, 0x08, 0x0C, 0x2C)] == before


def test_post_maps_four_times_and_no_more(board: Board) -> None:
    post(board)
    assert board.memory.shadows[2] == (ShadowRange(0xC0000, 0x40000, DRAM, DRAM),)
    assert board.memory.shadows[-1] == (
        ShadowRange(0xC0000, 0x24000, DRAM, PCI),
        ShadowRange(0xE4000, 0xC000, DRAM, DRAM),
        ShadowRange(0xF0000, 0x10000, DRAM, PCI),
    )
    assert len(board.memory.shadows) == 1 + 4


@pytest.mark.parametrize(
    ("register", "low", "high"),
    [(1, 0xC0000, 0xC4000), (2, 0xC8000, 0xCC000), (3, 0xD0000, 0xD4000),
     (4, 0xD8000, 0xDC000), (5, 0xE0000, 0xE4000), (6, 0xE8000, 0xEC000)],
)  # fmt: skip
def test_each_nibble_steers_its_segment(board: Board, register: int, low: int, high: int) -> None:
    for value, first in ((0x01, low), (0x10, high)):
        board.write(0x59 + register, 1, value)
        assert ShadowRange(first, 0x4000, DRAM, PCI) in board.memory.shadows[-1]
    board.write(0x59 + register, 1, 0xFF)
    assert board.read(0x59 + register, 1) == 0x33
    assert ShadowRange(low, 0x8000, DRAM, DRAM) in board.memory.shadows[-1]


def test_write_dram_read_rom(board: Board) -> None:
    """The classic shadow copy: reads still come from the ROM."""
    board.write(0x59, 1, 0x2F)
    assert board.read(0x59, 1) == 0x20, "PAM0 has no low nibble"
    assert board.memory.shadows[-1][-1] == ShadowRange(0xF0000, 0x10000, PCI, DRAM)


def test_ranges_are_in_order_and_complete_whatever_the_registers_hold() -> None:
    for seed in range(256):
        ranges = shadow_ranges([seed, seed * 7 & 0xFF, seed * 31 & 0xFF, 0xFF, 0, seed ^ 0x55, 0x21])
        assert ranges[0].first == 0xC0000
        for before, after in pairwise(ranges):
            assert before.first + before.size == after.first
            assert before[2:] != after[2:]
        assert ranges[-1].first + ranges[-1].size == 0x100000


def test_smram_opens_and_locks(board: Board) -> None:
    assert board.read(0x72, 1) == 0x02
    board.write(0x72, 1, 0x4A)
    assert board.memory.smram == [False, True]
    board.write(0x72, 1, 0x5A)
    assert board.memory.smram == [False, True, False], "D_LCK clears D_OPEN"
    board.write(0x72, 1, 0x4A)
    assert board.read(0x72, 1) == 0x1A, "locked until reset"
    board.write(0x72, 1, 0x20)
    assert board.read(0x72, 1) == 0x3A, "D_CLS is not locked"
    board.bridge.reset()
    board.write(0x72, 1, 0x4A)
    assert board.memory.smram[-1]


def test_the_aperture_has_the_size_that_apsize_gives(board: Board) -> None:
    assert board.read(0x10, 4) == 8
    board.write(0x10, 4, 0xFFFFFFFF)
    assert board.read(0x10, 4) == 0xFC000008
    board.write(0xB4, 1, 0x20)
    assert board.read(0x10, 4) == 0xF8000008
    board.write(0xB4, 1, 0x3F)
    board.write(0x10, 4, 0xE1C00000)
    assert board.read(0x10, 4) == 0xE1C00008


def test_the_agp_capability_is_found(board: Board) -> None:
    assert board.read(6, 2) & 0x10
    assert board.read(board.read(0x34, 1), 4) == 0x00100002


@pytest.mark.parametrize(
    ("mib", "rows"),
    [(64, [8] * 8), (512, [32, 64] + [64] * 6), (2048, [32, 64, 96, 128, 160, 192, 224, 255])],
)
def test_row_boundaries_say_how_much_memory_there_is(mib: int, rows: list[int]) -> None:
    assert row_boundaries(mib) == rows
    assert [Board(memory_mib=mib).read(0x60 + row, 1) for row in range(8)] == rows
