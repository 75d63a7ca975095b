"""Takes resources out of clusters' bitmaps, and gives them back.

A host begins at a cluster of its own and goes upwards from the cluster's cursor, round until the cluster is full, then
takes the next: so hosts seldom want the same cluster, and a file's blocks lie one behind the other. A cluster that
another host has is passed over as long as others have something free.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from vmkernel.storage.vmfs3 import addresses
from vmkernel.storage.vmfs3.descriptor_spec import FD_BYTES, AddressType
from vmkernel.storage.vmfs3.errors import CorruptVolume, VolumeFull
from vmkernel.storage.vmfs3.locks import Contended
from vmkernel.storage.vmfs3.lvm_spec import SECTOR_BYTES
from vmkernel.storage.vmfs3.operation import NeedsCommit, Operation
from vmkernel.storage.vmfs3.records import ClusterRecord, DescriptorRecord
from vmkernel.storage.vmfs3.volume_spec import LockType

KEPT_BLOCKS = 2  # that files do not get: who opens a full volume to remove something needs one for its journal


def usable(operation: Operation, kind: AddressType, first: int | None = None) -> Iterator[tuple[ClusterRecord, int]]:
    """(header, bits that can be taken), locked for us, cluster after cluster.

    Ends by raising VolumeFull; NeedsCommit where something was freed lately; Contended where another host has the rest.
    """
    pool = operation.pools[kind]
    looked = False
    while True:
        busy: Contended | None = None
        held_back = False
        for number in pool.candidates(first):
            try:
                header = operation.cluster(kind, number)
            except Contended as error:
                busy = busy or error
                continue
            bits = header.free_bits
            recent = pool.recent.get(number, 0)
            pool.hints[number] = header.free
            held_back |= bool(bits & recent)
            bits &= ~(recent | operation.freed.get((kind, number), 0))
            if bits:
                pool.cursor = number
                yield header, bits
        if held_back:
            raise NeedsCommit
        if busy is not None:
            raise busy
        if looked or not pool.look():
            raise pool.full()
        looked = True


def take(operation: Operation, kind: AddressType, header: ClusterRecord, resource: int) -> None:
    header.free_bits = header.free_bits & ~(1 << resource)
    header.next_free = (resource + 1) % header.total
    operation.pools[kind].hints[header.cluster] = header.free


def lowest(bits: int, cursor: int) -> int:
    """The first bit from the cursor on, else the first one."""
    above = bits >> cursor << cursor
    chosen = above or bits
    return (chosen & -chosen).bit_length() - 1


def allocate(operation: Operation, kind: AddressType) -> tuple[ClusterRecord, int]:
    """(header, resource) of one resource. Raises VolumeFull."""
    for header, bits in usable(operation, kind):
        resource = lowest(bits, header.next_free)
        take(operation, kind, header, resource)
        return header, resource
    raise AssertionError("ends by raising")


def allocate_sub_block(operation: Operation) -> int:
    """Its address."""
    header, resource = allocate(operation, AddressType.SUB_BLOCK)
    return addresses.sub_block(header.cluster, resource)


def allocate_pointer_block(operation: Operation) -> int:
    """Its address."""
    header, resource = allocate(operation, AddressType.POINTER_BLOCK)
    return addresses.pointer_block(header.cluster, resource)


def allocate_descriptor(operation: Operation) -> DescriptorRecord:
    """A new descriptor with lock, address, generation, and nothing else."""
    header, resource = allocate(operation, AddressType.FILE_DESCRIPTOR)
    header.last_generation = header.last_generation % 0xFFFFFFFF + 1
    position = operation.pools[AddressType.FILE_DESCRIPTOR].item_position(header.cluster, resource)
    record = DescriptorRecord(position, bytearray(FD_BYTES))
    record.lock_type, record.lock_position, record.token = LockType.FILE_DESCRIPTOR, position, 1
    record.lock_mtime = operation.clock.now_us()
    record.address = addresses.descriptor(header.cluster, resource)
    record.generation = header.last_generation
    record.dirty = (1 << FD_BYTES // SECTOR_BYTES) - 1
    return operation.born(record)


# file blocks


def room(operation: Operation) -> int:
    """How many file blocks files may still get, at least one. Raises VolumeFull."""
    pool = operation.pools[AddressType.FILE_BLOCK]
    if pool.free() <= KEPT_BLOCKS:
        pool.look()
    if pool.free() <= KEPT_BLOCKS:
        raise pool.full()
    return pool.free() - KEPT_BLOCKS


def allocate_block(operation: Operation, *, for_journal: bool = False) -> int:
    """One file block's number. Raises VolumeFull."""
    if not for_journal:
        room(operation)
    header, resource = allocate(operation, AddressType.FILE_BLOCK)
    return header.cluster * operation.pools[AddressType.FILE_BLOCK].per_cluster + resource


def allocate_blocks(operation: Operation, count: int, behind: int | None = None) -> list[int]:
    """Numbers of up to `count` file blocks, at least one; those behind block `behind` where they are free.

    Fewer where they would come from more clusters than one operation may change. Raises VolumeFull where there is none.
    """
    kind = AddressType.FILE_BLOCK
    pool = operation.pools[kind]
    count = min(count, room(operation))
    found: list[int] = []
    goal = None if behind is None or behind + 1 >= pool.file.total else behind + 1
    first = None if goal is None else goal // pool.per_cluster
    source = usable(operation, kind, first)
    for _ in range(operation.clusters_max):
        try:
            header, bits = next(source)
        except (NeedsCommit, Contended, VolumeFull):
            if found:
                return found
            raise
        cursor = header.next_free
        if goal is not None and header.cluster == first and bits >> goal % pool.per_cluster & 1:
            cursor = goal % pool.per_cluster
        chosen = some(bits, cursor, count - len(found))
        taken = sum(1 << resource for resource in chosen)
        header.free_bits = header.free_bits & ~taken
        header.next_free = (chosen[-1] + 1) % header.total
        pool.hints[header.cluster] = header.free
        base = header.cluster * pool.per_cluster
        found += [base + resource for resource in chosen]
        if len(found) == count:
            break
    return found


def some(bits: int, cursor: int, count: int) -> list[int]:
    """Up to `count` set bits, from the cursor on, then round."""
    raw = np.frombuffer(bits.to_bytes(64, "little"), np.uint8)
    places = np.flatnonzero(np.unpackbits(raw, bitorder="little"))
    at = int(np.searchsorted(places, cursor))
    return np.concatenate([places[at:], places[:at]])[:count].tolist()


# freeing


def is_free(operation: Operation, block: int) -> bool:
    """Of a file block, whose cluster is locked for us by this."""
    kind = AddressType.FILE_BLOCK
    cluster, resource = divmod(block, operation.pools[kind].per_cluster)
    return bool(operation.cluster(kind, cluster).free_bits >> resource & 1)


def free_block(operation: Operation, block: int) -> None:
    kind = AddressType.FILE_BLOCK
    free(operation, kind, [divmod(block, operation.pools[kind].per_cluster)])


def free_addresses(operation: Operation, words: Sequence[int]) -> None:
    """Of any types but descriptors that are in use; holes are passed over."""
    places: dict[AddressType, list[tuple[int, int]]] = {}
    per_cluster = operation.pools[AddressType.FILE_BLOCK].per_cluster
    for word in words:
        kind = addresses.kind(word)
        if not word or kind is None:
            continue
        is_block = kind is AddressType.FILE_BLOCK
        place = divmod(addresses.block_number(word), per_cluster) if is_block else addresses.place(word)
        places.setdefault(kind, []).append(place)
    for kind, some_places in places.items():
        free(operation, kind, some_places)


def free(operation: Operation, kind: AddressType, places: Sequence[tuple[int, int]]) -> None:
    """(cluster, resource) each. They are given out again when this is durable. Raises CorruptVolume for free ones."""
    masks: dict[int, int] = {}
    for cluster, resource in places:
        masks[cluster] = masks.get(cluster, 0) | 1 << resource
    pool = operation.pools[kind]
    for cluster in sorted(masks):
        pool.file.judge(cluster, 0)
        header, mask = operation.cluster(kind, cluster), masks[cluster]
        if header.free_bits & mask:
            raise CorruptVolume(
                pool.file.lv.name, header.position, f"bitmap of cluster {cluster}", "resources of a file in use",
                f"free ones among them, {header.free_bits & mask:#x}",
            )  # fmt: skip
        header.free_bits = header.free_bits | mask
        pool.hints[cluster] = header.free
        key = kind, cluster
        operation.freed[key] = operation.freed.get(key, 0) | mask
