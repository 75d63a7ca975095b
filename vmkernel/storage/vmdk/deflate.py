"""Deflate for grains: by ISA-L where that is installed, which is several times as fast, else by zlib."""

from __future__ import annotations

import zlib
from importlib import import_module
from types import ModuleType

FAST_LEVEL = 1


def fastest() -> ModuleType:
    """A module with zlib's functions."""
    try:
        return import_module("isal.isal_zlib")
    except ImportError:
        return zlib


CODEC = fastest()


def pack(data: bytes | memoryview) -> bytes:
    """A zlib stream (RFC 1950)."""
    return bytes(CODEC.compress(data, FAST_LEVEL))


def unpack(data: bytes | memoryview, most: int) -> bytes:
    """At most `most` bytes, and one more when there are more. Raises ValueError for what is no stream, or ends early.

    Grains are streams with zlib's wrapper; the technical note has them bare (RFC 1951), so both are taken.
    """
    reason = ""
    for bits in (zlib.MAX_WBITS, -zlib.MAX_WBITS):
        try:
            return _unpack(data, bits, most)
        except (zlib.error, CODEC.error, ValueError) as error:
            reason = reason or str(error)
    raise ValueError(reason)


def _unpack(data: bytes | memoryview, bits: int, most: int) -> bytes:
    inflater = CODEC.decompressobj(bits)
    out = bytes(inflater.decompress(data, most + 1))
    if not inflater.eof and len(out) <= most:
        raise ValueError(f"the stream ends after {len(out)} bytes of data")
    return out
