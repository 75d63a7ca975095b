"""SeaVGABIOS sets modes, writes text and finds the linear framebuffer on our adapter."""

from __future__ import annotations

import random

import pytest

from hw.vga import DirectWindow
from tests.hw.vga_bios import FRAMEBUFFER_AT, ROM, Bios
from tests.hw.vga_card import MODES, Card

FRAMEBUFFER = 16 << 20
TEXT = DirectWindow(0xB8000, 0x8000, FRAMEBUFFER)


@pytest.fixture(scope="module")
def bios() -> Bios:
    return Bios(Card(framebuffer=FRAMEBUFFER))


def glyph_16(code: int) -> bytes:
    """A glyph as it lies in the ROM, whose font of 16 lines begins with an empty one and the two faces."""
    rom = ROM.read_bytes()
    first = rom.index(bytes(16) + bytes.fromhex("00007e81a58181bd9981817e00000000"))
    return rom[first + 16 * code : first + 16 * code + 16]


def test_setting_a_mode_moves_the_window_a_few_times_only(bios: Bios) -> None:
    bios.call(0x13)
    told = len(bios.card.windows)
    bios.call(3)
    assert bios.card.windows[-1] == TEXT
    assert len(bios.card.windows) - told <= 6


@pytest.mark.parametrize("mode", [3, 4, 6, 0x0D, 0x12, 0x13])
def test_the_bios_leaves_what_ibm_lists(mode: int, bios: Bios) -> None:
    """But for the cursor's shape, which it derives, and reserved bits."""
    bios.call(mode)
    state, table = bios.card.vga.state, MODES[mode]
    assert bytes(state.graphics)[:9][4:7] == table.graphics[4:7]
    assert state.sequencer[4] == table.sequencer[4]
    assert bytes(state.crt)[:7] == table.crt[:7]
    assert state.crt[0x13] == table.crt[0x13]
    assert state.attribute_index & 0x20


def test_its_font_is_in_plane_2(bios: Bios) -> None:
    bios.call(3)
    bios.card.begin_font()
    for code in random.Random(1).sample(range(256), 40):
        assert bios.card.load(0xA0000 + 32 * code, 16) == glyph_16(code), f"glyph {code:#x}"
    bios.card.end_font()


def test_teletype_text_appears_and_scrolls(bios: Bios) -> None:
    bios.call(3)
    for row in range(26):
        for code in f"line {row}\r\n".encode():
            bios.call(0x0E00 | code, 7)
    assert bios.card.load(0xB8000, 14) == b"l\x07i\x07n\x07e\x07 \x07" b"2\x07 \x07"


def test_vbe_finds_the_linear_framebuffer(bios: Bios) -> None:
    assert bios.call(0x4F00, di=0x2000) == 0x004F
    assert bios.memory(0x2000, 4) == b"VESA"
    assert int.from_bytes(bios.memory(0x2012, 2), "little") == FRAMEBUFFER >> 16
    assert bios.call(0x4F01, cx=0x118, di=0x2000) == 0x004F
    assert int.from_bytes(bios.memory(0x2028, 4), "little") == FRAMEBUFFER_AT
    assert bios.card.framebuffers[-1] == FRAMEBUFFER_AT
    assert bios.call(0x4F02, 0x4118) == 0x004F
    assert [bios.card.dispi_read(index) for index in (1, 2, 3)] == [1024, 768, 24]
    assert bios.call(0x4F03) == 0x004F
    bios.call(3)
    assert bios.card.windows[-1] == TEXT


def test_vbe_moves_the_bank(bios: Bios) -> None:
    assert bios.call(0x4F02, 0x101) == 0x004F
    assert bios.call(0x4F05, 0, dx=2) == 0x004F
    assert bios.card.windows[-1] == DirectWindow(0xA0000, 0x10000, 0x20000)
    bios.card.store_at(0xA0000, b"\x42")
    assert bios.card.store[0x20000] == 0x42
    bios.call(3)
