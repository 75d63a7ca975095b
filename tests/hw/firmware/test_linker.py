"""The table loader script: what it does, and that one which cannot be carried out is refused."""

from __future__ import annotations

import struct

import pytest

from hw.firmware.linker import Linkable, link
from hw.firmware.linker_spec import Zone
from ringfence.errors import BadInput

ADDRESSES = {Zone.HIGH: lambda size, alignment: 0x12340000, Zone.F_SEGMENT: lambda size, alignment: 0xF0100}


def allocate(name: bytes, alignment: int = 16, zone: int = 1) -> bytes:
    return struct.pack("<I56sIB", 1, name, alignment, zone).ljust(128, b"\0")


def point(target: bytes, source: bytes, offset: int, size: int) -> bytes:
    return struct.pack("<I56s56sIB", 2, target, source, offset, size).ljust(128, b"\0")


def checksum(name: bytes, offset: int, start: int, length: int) -> bytes:
    return struct.pack("<I56sIII", 3, name, offset, start, length).ljust(128, b"\0")


def test_a_script_is_128_byte_commands() -> None:
    built = Linkable()
    built.add_file("a", 64, Zone.HIGH)
    built.add_file("b", 16, Zone.F_SEGMENT)
    built.append("a", bytes(20))
    built.append("b", bytes(20))
    built.point("b", 4, "a", 16)
    built.checksum("b", 0, 0, 20)
    assert built.script == allocate(b"a", 64) + allocate(b"b", 16, 2) + point(b"b", b"a", 4, 4) + checksum(
        b"b", 0, 0, 20
    )


def test_pointers_get_addresses_and_then_sums_are_0() -> None:
    built = Linkable()
    built.add_file("a", 64, Zone.HIGH)
    built.add_file("b", 16, Zone.F_SEGMENT)
    assert built.append("a", b"12345678") == 0
    assert built.append("a", b"x", 16) == 16
    built.append("b", bytes(12))
    built.point("b", 4, "a", 16)
    built.checksum("b", 0, 0, 12)
    placed = link(built.script, {name: bytes(data) for name, data in built.files.items()}, ADDRESSES)
    assert {name: file.address for name, file in placed.items()} == {"a": 0x12340000, "b": 0xF0100}
    assert placed["a"].data == b"12345678" + bytes(8) + b"x"
    assert placed["b"].data[4:8] == struct.pack("<I", 0x12340010)
    assert sum(placed["b"].data) % 256 == 0


def test_a_pointer_keeps_its_size() -> None:
    script = allocate(b"a") + allocate(b"b", 16, 2) + point(b"a", b"b", 1, 2)
    placed = link(script, {"a": b"\xaa\x01\x00\xaa", "b": b"1"}, ADDRESSES)
    assert placed["a"].data == b"\xaa\x01\x01\xaa", "F0101 has more than 16 bits"


@pytest.mark.parametrize(
    ("script", "what"),
    [
        (b"\1" * 127, "size"),
        (struct.pack("<I", 9).ljust(128, b"\0"), "kind: expected 1 to 3, found 9"),
        (allocate(b"nobody"), "file"),
        (allocate(b"a") * 2, "file"),
        (allocate(b"a", alignment=3), "power of two"),
        (allocate(b"a", zone=7), "zone"),
        (point(b"a", b"a", 0, 4), "placed"),
        (allocate(b"a") + point(b"a", b"b", 0, 4), "placed"),
        (allocate(b"a") + point(b"a", b"a", 6, 4), "within 8"),
        (allocate(b"a") + point(b"a", b"a", 0, 3), "1, 2, 4 or 8"),
        (allocate(b"a") + checksum(b"a", 8, 0, 8), "within 8"),
        (allocate(b"a") + checksum(b"a", 0, 4, 8), "within 8"),
    ],
)
def test_what_cannot_be_carried_out_is_refused(script: bytes, what: str) -> None:
    with pytest.raises(BadInput, match=what):
        link(script, {"a": bytes(8), "b": bytes(8)}, ADDRESSES)
