"""A picture's pixels in a client's pixel format: one table for each of red, green and blue, and the three added up.

A client without true colour gets a fixed colour map of 252 entries: six levels of red and blue and seven of green, the
thirds of the scale among them, so that the sixteen colours of text mode are exact.
Source: RFC 6143, 7.4 "Pixel Format Data Structure", 7.6.2 "SetColorMapEntries", 7.7.5 (CPIXEL).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ringfence.errors import BadInput
from vmx.rfb_spec import FromServer, PixelFormat, SetColourMap

Pixels = NDArray[np.generic]

NATIVE = PixelFormat(32, 24, 0, 1, 255, 255, 255, 16, 8, 0)  # what nearly every client uses as it is
BITS = (8, 16, 32)
LEVELS = ((0, 0x55, 0x80, 0xAA, 0xD5, 0xFF), (0, 0x2B, 0x55, 0x80, 0xAA, 0xD5, 0xFF), (0, 0x55, 0x80, 0xAA, 0xD5, 0xFF))
BYTE = np.arange(256, dtype=np.uint32)


class Translator:
    """From (height, width, 3) bytes of RGB. Raises BadInput for a format that cannot be; `where` names the client."""

    def __init__(self, form: PixelFormat, where: str) -> None:
        if form.bits_per_pixel not in BITS:
            raise BadInput(where, "bits per pixel", "8, 16 or 32", str(form.bits_per_pixel))
        self.size = form.bits_per_pixel // 8
        self.has_map = not form.true_colour
        if self.has_map:
            self._tables = map_tables()
        else:
            self._tables = [
                channel_table(form.bits_per_pixel, *channel, where)
                for channel in (
                    ("red", form.red_max, form.red_shift),
                    ("green", form.green_max, form.green_shift),
                    ("blue", form.blue_max, form.blue_shift),
                )
            ]
        self.wire = np.dtype(f"{'>' if form.big_endian else '<'}u{self.size}")
        self._tables = [table.astype(f"u{self.size}") for table in self._tables]
        self._compact = self._compact_bytes(form)

    def _compact_bytes(self, form: PixelFormat) -> slice:
        """Which bytes of a pixel make its CPIXEL: three of four where the colours lie in these. 7.7.5."""
        used = int(np.bitwise_or.reduce([table.max() for table in self._tables]))
        if self.has_map or form.bits_per_pixel != 32 or form.depth > 24 or (used > 0xFFFFFF and used & 0xFF):
            return slice(0, self.size)
        is_low = used <= 0xFFFFFF
        return slice(0, 3) if is_low != bool(form.big_endian) else slice(1, 4)

    def __call__(self, rgb: NDArray[np.uint8]) -> Pixels:
        """(height, width) pixels in the host's byte order."""
        red, green, blue = (table[rgb[:, :, channel]] for channel, table in enumerate(self._tables))
        red += green
        red += blue
        return red

    def pixels(self, values: Pixels) -> bytes:
        return values.astype(self.wire).tobytes()

    def compact(self, values: Pixels) -> bytes:
        """As CPIXELs."""
        if self._compact == slice(0, self.size):
            return self.pixels(values)
        return values.astype(self.wire).view(np.uint8).reshape(-1, self.size)[:, self._compact].tobytes()


def channel_table(bits: int, name: str, maximum: int, shift: int, where: str) -> NDArray[np.uint32]:
    """Pixel bits of each intensity of one colour."""
    if maximum << shift >= 1 << bits:
        raise BadInput(where, f"{name} of a pixel", f"a place within {bits} bits", f"{maximum} << {shift}")
    return (BYTE * np.uint32(maximum) + 127) // 255 << np.uint32(shift)


def map_tables() -> list[NDArray[np.uint32]]:
    """An entry's number is the sum of the three, which never carry: red's and green's are whole rows."""
    tables, stride = [], 1
    for levels in reversed(LEVELS):
        nearest = np.abs(BYTE.astype(int)[:, None] - np.array(levels)).argmin(axis=1)
        tables.append((nearest * stride).astype(np.uint32))
        stride *= len(levels)
    return tables[::-1]


def colour_map() -> bytes:
    """The message that tells the entries, 16 bits a colour."""
    entries = [(r, g, b) for r in LEVELS[0] for g in LEVELS[1] for b in LEVELS[2]]
    wide = np.array(entries, dtype=">u2") * np.uint16(257)
    return bytes(SetColourMap(FromServer.SET_COLOUR_MAP, 0, 0, len(entries))) + wide.astype(">u2").tobytes()
