"""The 8 x 16 font in a VGA BIOS image, for a machine that shows text with no firmware to load one.

Every VGA BIOS has it: 256 glyphs of 16 bytes in code page 437, of which the first is empty and the second a face.
"""

from __future__ import annotations

from ringfence.errors import BadInput

GLYPH_BYTES = 16
FONT_BYTES = 256 * GLYPH_BYTES
FACE = bytes.fromhex("00007e81a58181bd9981817e00000000")
SPACE, BLOCK = 0x20, 0xDB
FULL = b"\xff" * GLYPH_BYTES


def find_font(rom: bytes, where: str) -> bytes:
    """256 glyphs of 16 lines. Raises BadInput, naming the image as `where`, when there is no such font."""
    at = rom.find(bytes(GLYPH_BYTES) + FACE)
    while at >= 0:
        font = rom[at : at + FONT_BYTES]
        if len(font) == FONT_BYTES and _glyph(font, SPACE) == bytes(GLYPH_BYTES) and _glyph(font, BLOCK) == FULL:
            return font
        at = rom.find(bytes(GLYPH_BYTES) + FACE, at + 1)
    raise BadInput(where, "font", "256 glyphs of 16 lines, as in every VGA BIOS", "none")


def _glyph(font: bytes, code: int) -> bytes:
    return font[code * GLYPH_BYTES : (code + 1) * GLYPH_BYTES]
