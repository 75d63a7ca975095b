"""What ctypes structures look like in memory: their fields, and a hash that changes when any of them moves.

A state file names each section's layout hash, so state written by another build is refused instead of misread.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

LAYOUT_HASH_BYTES = 16


@dataclass(frozen=True, slots=True)
class Field:
    """One leaf of a structure: `path` as C would write it, offset and size in bytes."""

    path: str
    offset: int
    size: int
    code: str


def leaves(ctype: Any, path: str = "", offset: int = 0) -> Iterator[Field]:
    """Every field that is not itself a structure, in order; an array of simple values is one field."""
    if issubclass(ctype, ctypes.Structure):
        for row in ctype._fields_:
            name, kind = row[0], row[1]
            place = getattr(ctype, name)
            if len(row) == 3:  # a bit field: the descriptor's size packs width and bit offset
                yield Field(f"{path}.{name}", offset + place.offset, ctypes.sizeof(kind), f"bits{place.size:x}")
            else:
                yield from leaves(kind, f"{path}.{name}", offset + place.offset)
    elif issubclass(ctype, ctypes.Array) and issubclass(ctype._type_, ctypes.Structure | ctypes.Array):
        step = ctypes.sizeof(ctype._type_)
        for index in range(ctype._length_):
            yield from leaves(ctype._type_, f"{path}[{index}]", offset + index * step)
    else:
        yield Field(path, offset, ctypes.sizeof(ctype), code_of(ctype))


def code_of(ctype: Any) -> str:
    """A simple type's struct-module letter; an array's with its length."""
    if issubclass(ctype, ctypes.Array):
        return f"{ctype._length_}{ctype._type_._type_}"
    return str(ctype._type_)


def layout_hash(ctype: type[ctypes.Structure]) -> bytes:
    """16 bytes that name this layout: fields, offsets, sizes and total size; not the structure's own name."""
    digest = hashlib.sha256(f"{ctypes.sizeof(ctype)}".encode())
    for field in leaves(ctype):
        digest.update(f"{field.path} {field.offset} {field.size} {field.code}\n".encode())
    return digest.digest()[:LAYOUT_HASH_BYTES]
