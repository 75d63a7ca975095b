"""Everything below a folder of a volume, with the descriptors: what `ls -R`, `tree`, `find` and `df` go by.

Descriptors of a folder are read together. A folder within itself is damage, and named; with `relaxed`, what is damaged
is passed over and told to the caller instead.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from vmkernel.storage.vmfs3 import addresses
from vmkernel.storage.vmfs3.descriptor import Descriptor, judge
from vmkernel.storage.vmfs3.descriptor_spec import ADDRESS, AddressType
from vmkernel.storage.vmfs3.errors import CorruptVolume
from vmkernel.storage.vmfs3.volume import Volume

Complain = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Item:
    """Something that has a name. `depth` 0 is what the walk began with; `is_last` among its neighbours."""

    path: str
    name: str
    fd: Descriptor
    depth: int = 0
    is_last: bool = True


def listing(volume: Volume, path: str, fd: Descriptor, depth: int, complain: Complain | None = None) -> list[Item]:
    """What is in a folder, in the order of its names."""
    found = volume.entries(fd, relaxed=complain is not None)
    entries = [entry for entry in found if complain is None or has_place(volume, entry.address)]
    wanted = np.array([entry.address for entry in entries], ADDRESS)
    table = volume.descriptor_table(wanted)
    places = volume.fdc.locate_many(*addresses.places(wanted, AddressType.FILE_DESCRIPTOR)).tolist()
    items = []
    for entry, raw, place in sorted(zip(entries, table, places, strict=True), key=lambda one: one[0].name):
        where = posixpath.join(path, entry.name)
        try:
            one = judge(Descriptor(raw, place, volume.name), entry.address)
        except CorruptVolume as error:
            if complain is None:
                raise
            complain(f"{where}: {error}")
            continue
        items.append(Item(where, entry.name, one, depth))
    return [
        Item(one.path, one.name, one.fd, depth, is_last=number == len(items)) for number, one in enumerate(items, 1)
    ]  # fmt: skip


def has_place(volume: Volume, address: int) -> bool:
    cluster, resource = addresses.place(address)
    return resource < volume.fdc.per_cluster and cluster * volume.fdc.per_cluster + resource < volume.fdc.total


def walk(volume: Volume, path: str, fd: Descriptor, complain: Complain | None = None) -> Iterator[Item]:
    """The place itself, then all below it, each folder before what is in it. Raises CorruptVolume."""
    seen: set[int] = set()
    waiting = [Item(path, posixpath.basename(path), fd)]
    while waiting:
        item = waiting.pop()
        yield item
        if not item.fd.is_directory:
            continue
        if item.fd.address in seen:
            error = CorruptVolume(
                volume.name, item.fd.position, item.path, "a directory with one place", "one that has another too"
            )
            if complain is None:
                raise error
            complain(str(error))
            continue
        seen.add(item.fd.address)
        try:
            inside = listing(volume, item.path, item.fd, item.depth + 1, complain)
        except CorruptVolume as error:
            if complain is None:
                raise
            complain(f"{item.path}: {error}")
            continue
        waiting += reversed(inside)
