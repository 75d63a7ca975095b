"""Encodings of a rectangle: Raw, Zlib, and ZRLE with solid, palette and raw tiles.

A compressed encoding is one zlib stream for a client's whole life, flushed after each rectangle.
Not done: ZRLE's run-length tiles, which zlib makes up for.
Source: RFC 6143, 7.7.1 "Raw Encoding", 7.7.6 "ZRLE"; rfbproto, "Zlib Encoding".
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from vmx.rfb_pixels import Pixels, Translator
from vmx.rfb_spec import PALETTE_MAX, SOLID_TILE, TILE, Encoding

LEVEL = 1  # most clients are on this host

Encoder = Callable[[Pixels, Translator], bytes]


def raw(values: Pixels, form: Translator) -> bytes:
    return form.pixels(values)


class ZlibStream:
    """Raw or ZRLE data of one client, compressed."""

    def __init__(self, content: Encoder) -> None:
        self._content = content
        self._zlib = zlib.compressobj(LEVEL)

    def __call__(self, values: Pixels, form: Translator) -> bytes:
        data = self._zlib.compress(self._content(values, form)) + self._zlib.flush(zlib.Z_SYNC_FLUSH)
        return len(data).to_bytes(4, "big") + data


def zrle_tiles(values: Pixels, form: Translator) -> bytes:
    return b"".join(zrle_tile(tile, form) for tile in tiles(values))


def tiles(values: Pixels) -> Iterator[Pixels]:
    """From left to right, then downwards."""
    height, width = values.shape
    for y in range(0, height, TILE):
        for x in range(0, width, TILE):
            yield values[y : y + TILE, x : x + TILE]


def zrle_tile(tile: Pixels, form: Translator) -> bytes:
    """Subencoding 1: one colour; 2 to 16: a palette and indexes of 1, 2 or 4 bits; 0: all pixels."""
    if (tile == tile[0, 0]).all():
        return bytes((SOLID_TILE,)) + form.compact(tile[:1, :1])
    palette = np.unique(tile)
    if len(palette) > PALETTE_MAX:
        return bytes((0,)) + form.compact(np.ascontiguousarray(tile))
    bits = 1 if len(palette) == 2 else 2 if len(palette) <= 4 else 4
    indexes = np.searchsorted(palette, tile).astype(np.uint8)
    return bytes((len(palette),)) + form.compact(palette) + packed(indexes, bits)


def packed(indexes: NDArray[np.uint8], bits: int) -> bytes:
    """Each row in whole bytes, the leftmost index in the highest bits."""
    per_byte = 8 // bits
    rows = np.pad(indexes, ((0, 0), (0, -indexes.shape[1] % per_byte)))
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    grouped = rows.reshape(len(rows), -1, per_byte) << shifts
    return np.bitwise_or.reduce(grouped, axis=2).tobytes()


def encoders() -> dict[Encoding, Encoder]:
    """For a new client."""
    return {Encoding.RAW: raw, Encoding.ZLIB: ZlibStream(raw), Encoding.ZRLE: ZlibStream(zrle_tiles)}
