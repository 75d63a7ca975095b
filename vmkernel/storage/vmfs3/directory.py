"""Directories: their entries, parsed all at once.

Entries without an address are gaps, which VMFS-3 does not leave; they are passed over. A name that no file can have is
damage: it would be a danger to whoever makes a host's file of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmkernel.storage.vmfs3.descriptor import Descriptor
from vmkernel.storage.vmfs3.descriptor_spec import TYPE_MASK, AddressType, FileType
from vmkernel.storage.vmfs3.directory_spec import ENTRY, ENTRY_BYTES, NAME_BYTES, NAME_MAX, PARENT, SELF
from vmkernel.storage.vmfs3.errors import CorruptVolume
from vmkernel.storage.vmfs3.layout import offsets

OFFSETS = offsets(ENTRY)
DOTS = frozenset({SELF, PARENT})
FORBIDDEN = ("/", "\0")
SLASH, FD_TYPE = ord("/"), int(AddressType.FILE_DESCRIPTOR)
KINDS = {int(kind): kind for kind in FileType if kind >= FileType.DIRECTORY}


class Entry(NamedTuple):
    """A name and the descriptor that it names. What is not UTF-8 is kept as surrogates, as the host's names are."""

    name: str
    type: FileType
    address: int
    generation: int


def table(contents: bytes | bytearray) -> NDArray[np.void]:
    """All entries, gaps too. What is behind the last whole one is not looked at."""
    return np.frombuffer(contents, ENTRY, len(contents) // ENTRY_BYTES)


def judge_length(fd: Descriptor, entries_max: int) -> None:
    """Raises CorruptVolume for a directory that has more entries than the volume has files."""
    if fd.length % ENTRY_BYTES or fd.length > entries_max * ENTRY_BYTES:
        expected = f"{ENTRY_BYTES} times up to {entries_max} entries"
        raise fd.wrong("length", "length of a directory", expected, fd.length)


def entries(
    fd: Descriptor, rows: NDArray[np.void], locate: Callable[[int], int], *, dots: bool = False, relaxed: bool = False
) -> list[Entry]:
    """In their order. `dots`: with `.` and `..`. `relaxed`: without damaged ones, instead of raising CorruptVolume.

    `locate` finds the byte of the volume for one of the directory.
    """
    used = rows["address"] != 0
    good = sound(rows)
    if not good[used].all() and not relaxed:
        index = int(np.flatnonzero(used & ~good)[0])
        raise damage(fd, index, rows[index], locate(index * ENTRY_BYTES))
    rows = rows[used & good]
    names = [raw.decode("utf-8", "surrogateescape") for raw in rows["name"].tolist()]
    types = [KINDS[number] for number in rows["type"].tolist()]
    numbers = rows["address"].tolist(), rows["generation"].tolist()
    found = list(map(Entry._make, zip(names, types, *numbers, strict=True)))
    return found if dots else [entry for entry in found if entry.name not in DOTS]


def sound(rows: NDArray[np.void]) -> NDArray[np.bool_]:
    """Of each entry: can it be true?"""
    letters = np.ascontiguousarray(rows["name"]).view(np.uint8).reshape(-1, NAME_BYTES)
    bad = (letters == SLASH).any(axis=1) | (letters[:, 0] == 0) | (letters[:, -1] != 0)
    bad |= ((letters[:, :-1] == 0) & (letters[:, 1:] != 0)).any(axis=1)
    return ~bad & np.isin(rows["type"], list(KINDS)) & (rows["address"] & TYPE_MASK == FD_TYPE)


def is_good(name: str, raw: bytes) -> bool:
    return bool(name) and len(raw) <= NAME_MAX and not any(bad in name for bad in FORBIDDEN)


def damage(fd: Descriptor, index: int, row: np.void, position: int) -> CorruptVolume:
    where = f"entry {index} of the directory of descriptor {fd.address:#x}"
    raw, kind, address = bytes(row["name"]), int(row["type"]), int(row["address"])
    if address & TYPE_MASK != FD_TYPE:
        field, expected, found = "address", "a descriptor's", f"{address:#x}"
    elif kind not in KINDS:
        field, expected, found = "type", f"{min(KINDS)} to {max(KINDS)}", str(kind)
    else:
        field, expected, found = "name", f"1 to {NAME_MAX} bytes without / and NUL", ascii(raw)
    return CorruptVolume(fd.volume, position + OFFSETS[field], f"{field} of {where}", expected, found)


def find(rows: NDArray[np.void], name: str) -> np.void | None:
    """The entry of this name; None: there is none."""
    try:
        raw = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return None
    if not is_good(name, raw):  # numpy pads with NULs what it compares, and would find such a name without them
        return None
    hits = np.flatnonzero((rows["name"] == raw) & (rows["address"] != 0))
    return rows[hits[0]] if len(hits) else None
