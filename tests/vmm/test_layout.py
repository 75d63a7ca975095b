"""Every structure shared with C: ctypes' view against cffi's, field by field."""

import ctypes
from typing import Any

import pytest

from ringfence.layout import leaves
from vmm._core import ffi
from vmm.host_offers_spec import STRUCTURES as PROBE_STRUCTURES
from vmm.layout_spec import STRUCTURES as CORE_STRUCTURES

STRUCTURES = CORE_STRUCTURES | PROBE_STRUCTURES


def c_leaves(kind: Any, path: str = "", offset: int = 0) -> dict[str, tuple[int, int]]:
    """{path: (offset, size)} of a cffi type, descending as `leaves` does."""
    if kind.kind == "struct":
        found: dict[str, tuple[int, int]] = {}
        for name, field in kind.fields:
            found |= c_leaves(field.type, f"{path}.{name}", offset + field.offset)
        return found
    if kind.kind == "array" and kind.item.kind in {"struct", "array"}:
        found = {}
        for index in range(kind.length):
            found |= c_leaves(kind.item, f"{path}[{index}]", offset + index * ffi.sizeof(kind.item))
        return found
    return {path: (offset, ffi.sizeof(kind))}


@pytest.mark.parametrize("name", STRUCTURES)
def test_every_field_lies_where_c_puts_it(name: str) -> None:
    ours = {field.path: (field.offset, field.size) for field in leaves(STRUCTURES[name])}
    assert ours == c_leaves(ffi.typeof(name))
    assert ctypes.sizeof(STRUCTURES[name]) == ffi.sizeof(name)


def test_every_saved_or_shared_structure_of_the_headers_is_mirrored() -> None:
    declared = {f"struct {name}" for name in ffi.list_types()[1]}
    private = {f"struct {name}" for name in ("engine_map", "shadow_entry", "shadow_counts", "nic_hall", "nic_word")}
    assert declared - private == set(STRUCTURES)


def test_the_fpu_image_is_aligned_for_fxsave() -> None:
    assert STRUCTURES["struct vcpu"].fx.offset % 16 == 0
