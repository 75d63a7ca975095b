"""What the layouts of the spec files look like: every field with its offset and size, for errors and for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from construct import Struct


class Field(NamedTuple):
    """A field of a structure; offset and size in bytes."""

    name: str
    offset: int
    size: int


def fields(layout: Struct | np.dtype) -> Iterator[Field]:
    """In their order; a structure within a structure is one field."""
    if isinstance(layout, np.dtype):
        for name, place in (layout.fields or {}).items():
            yield Field(str(name), place[1], place[0].itemsize)
        return
    offset = 0
    for part in layout.subcons:
        size = part.sizeof()
        yield Field(str(part.name), offset, size)
        offset += size


def offsets(layout: Struct | np.dtype) -> dict[str, int]:
    """Where each field begins."""
    return {field.name: field.offset for field in fields(layout)}
