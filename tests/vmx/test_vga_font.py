"""The font in a VGA BIOS image is found, and its absence said."""

from __future__ import annotations

import pytest

from ringfence.errors import BadInput
from tests.hw.vga_bios import rom_image
from vmx.vga_font import FACE, find_font


def test_the_font_of_seavgabios_is_found() -> None:
    font = find_font(rom_image(), "rom")
    assert len(font) == 4096
    assert font[16 * 0xC4 : 16 * 0xC5].count(0xFF) == 1, "a horizontal line"
    assert font[16 * ord("H") + 3] == font[16 * ord("H") + 10] == 0xC6


def test_an_image_without_one_is_refused() -> None:
    for image in (b"", bytes(8192), bytes(16) + FACE, bytes(16) + FACE + bytes(4096)):
        with pytest.raises(BadInput, match=r"^rom: font: expected 256 glyphs"):
            find_font(image, "rom")
