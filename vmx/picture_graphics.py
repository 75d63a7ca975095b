"""The screen in a graphics mode, as dots.

Not modelled: the attribute controller's palette in 256 colours, which every program leaves as it is.
Source: IBM PS/2 Hardware Interface Technical Reference, "Video Subsystem", "Graphics Modes"; for the modes with a
linear framebuffer hw/vga_dispi.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hw.vga import Vga
from hw.vga_dispi_spec import Index
from hw.vga_spec import PLANES
from vmx.picture_scan import (
    Kind,
    Pixels,
    attribute_colours,
    cell_addresses,
    dac_colours,
    is_doubled,
    memory_of,
    panned,
    planes_of,
    scan_of,
    size_of,
)


def draw_planar(vga: Vga) -> Pixels:
    """16 colours, or fewer: plane p gives bit p of a dot's colour."""
    s = vga.state
    scan = scan_of(s, Kind.PLANAR)
    addresses, planes = cell_addresses(s, scan, extra=1), planes_of(vga)
    return _through_palette(vga, Kind.PLANAR, _gathered([plane[addresses] for plane in planes]))


def draw_interleaved(vga: Vga) -> Pixels:
    """4 colours, as on a CGA: four dots of a byte of plane 0, four of plane 1; planes 2 and 3 add two bits to them."""
    s = vga.state
    addresses, planes = cell_addresses(s, scan_of(s, Kind.INTERLEAVED), extra=1), planes_of(vga)
    dots = np.empty((*addresses.shape, 8), np.uint8)
    for half in (0, 1):
        low, high = planes[half][addresses], planes[half + 2][addresses]
        for place in range(4):
            shift = 6 - 2 * place
            dots[:, :, 4 * half + place] = low >> shift & 3 | (high >> shift & 3) << 2
    return _through_palette(vga, Kind.INTERLEAVED, dots.reshape(len(addresses), -1))


def draw_bytes(vga: Vga) -> Pixels:
    """256 colours: a byte of each plane by turns, each two dots wide."""
    s = vga.state
    scan = scan_of(s, Kind.BYTES)
    addresses, planes = cell_addresses(s, scan, extra=1), planes_of(vga)
    dots = np.stack([plane[addresses] for plane in planes], axis=2).reshape(scan.height, -1)
    return dac_colours(vga)[panned(s, scan, np.repeat(dots, 2, axis=1))]


def draw_linear(vga: Vga) -> Pixels:
    """A mode of 8 bits and more."""
    width, height = size_of(vga)
    start, pitch = vga.dispi.start, vga.dispi.pitch
    lines = memory_of(vga)[start : start + height * pitch].reshape(height, pitch)
    return FORMATS[vga.dispi.state.register[Index.BPP]](vga, lines, width)


def draw_linear_planar(vga: Vga) -> Pixels:
    """16 colours in a linear framebuffer: the four planes' bytes by turns."""
    width, height = size_of(vga)
    start, pitch = vga.dispi.start & -PLANES, vga.dispi.pitch
    lines = memory_of(vga)[start : start + height * pitch].reshape(height, pitch // PLANES, PLANES)
    shown = lines[:, : width // 8]
    return attribute_colours(vga)[_gathered([shown[:, :, plane] for plane in range(PLANES)])]


def _gathered(planes: list[Pixels]) -> Pixels:
    """One value per dot from the bits of four planes."""
    dots = np.unpackbits(planes[0], axis=1)
    for plane in range(1, PLANES):
        dots |= np.unpackbits(planes[plane], axis=1) << plane
    return dots


def _through_palette(vga: Vga, kind: Kind, dots: Pixels) -> Pixels:
    s = vga.state
    doubled = is_doubled(s, kind)
    dots = panned(s, scan_of(s, kind), dots, 2 if doubled else 1)
    return attribute_colours(vga)[np.repeat(dots, 2, axis=1) if doubled else dots]


# linear formats: lines of bytes to red, green and blue


def _indexed(vga: Vga, lines: Pixels, width: int) -> Pixels:
    return dac_colours(vga)[lines[:, :width]]


def _fields(lines: Pixels, width: int, green_bits: int) -> Pixels:
    """16 bits: five of blue, `green_bits`, five of red."""
    words = lines[:, : 2 * width].copy().view("<u2")
    picture = np.empty((*words.shape, 3), np.uint8)
    for place, shift, bits in ((0, 5 + green_bits, 5), (1, 5, green_bits), (2, 0, 5)):
        value = words >> shift & (1 << bits) - 1
        picture[:, :, place] = value << 8 - bits | value >> 2 * bits - 8
    return picture


def _rgb555(vga: Vga, lines: Pixels, width: int) -> Pixels:
    return _fields(lines, width, 5)


def _rgb565(vga: Vga, lines: Pixels, width: int) -> Pixels:
    return _fields(lines, width, 6)


def _rgb888(vga: Vga, lines: Pixels, width: int) -> Pixels:
    return lines[:, : 3 * width].reshape(len(lines), width, 3)[:, :, ::-1].copy()


def _xrgb8888(vga: Vga, lines: Pixels, width: int) -> Pixels:
    return lines[:, : 4 * width].reshape(len(lines), width, 4)[:, :, 2::-1].copy()


FORMATS: dict[int, Callable[[Vga, Pixels, int], Pixels]] = {
    8: _indexed, 15: _rgb555, 16: _rgb565, 24: _rgb888, 32: _xrgb8888,
}  # fmt: skip
