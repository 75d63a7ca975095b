"""Layout hashes change when a layout changes, and only then."""

from ctypes import LittleEndianStructure, c_uint8, c_uint16, c_uint32

import pytest

from ringfence.layout import layout_hash, leaves


class Inner(LittleEndianStructure):
    _fields_ = [("a", c_uint8), ("b", c_uint16)]


class Outer(LittleEndianStructure):
    _fields_ = [("x", c_uint32), ("inner", Inner * 2), ("bytes", c_uint8 * 3)]


class Bits(LittleEndianStructure):
    _fields_ = [("low", c_uint32, 12), ("high", c_uint32, 20)]


def test_leaves_descend_into_structures_and_arrays_of_them() -> None:
    found = [(field.path, field.offset, field.size) for field in leaves(Outer)]
    assert found == [
        (".x", 0, 4), (".inner[0].a", 4, 1), (".inner[0].b", 6, 2), (".inner[1].a", 8, 1), (".inner[1].b", 10, 2),
        (".bytes", 12, 3),
    ]  # fmt: skip


def test_the_name_of_the_structure_does_not_matter() -> None:
    renamed = type("Renamed", (LittleEndianStructure,), {"_fields_": Outer._fields_})
    assert layout_hash(renamed) == layout_hash(Outer)


@pytest.mark.parametrize(
    "fields",
    [
        [("y", c_uint32), ("inner", Inner * 2), ("bytes", c_uint8 * 3)],
        [("x", c_uint32), ("inner", Inner * 3), ("bytes", c_uint8 * 3)],
        [("x", c_uint32), ("inner", Inner * 2), ("bytes", c_uint8 * 4)],
        [("inner", Inner * 2), ("x", c_uint32), ("bytes", c_uint8 * 3)],
    ],
)
def test_a_changed_field_changes_the_hash(fields: list[tuple[str, type]]) -> None:
    other = type("Other", (LittleEndianStructure,), {"_fields_": fields})
    assert layout_hash(other) != layout_hash(Outer)


def test_bit_fields_are_told_apart_by_their_bits() -> None:
    other = type("Other", (LittleEndianStructure,), {"_fields_": [("low", c_uint32, 13), ("high", c_uint32, 19)]})
    assert layout_hash(other) != layout_hash(Bits)
