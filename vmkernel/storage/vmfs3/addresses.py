"""Addresses: 32 bits that name a file block, a sub-block, a pointer block or a descriptor.

`dense` is the superblock's Config.DENSE, which VMFS-3 never has: two more bits of a sub-block's resource number.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vmkernel.storage.vmfs3.descriptor_spec import (
    BLOCK_SHIFT,
    CLUSTER_SHIFT,
    DENSE_MASK,
    DENSE_RESOURCE_SHIFT,
    DENSE_SHIFT,
    FD_CLUSTER_MASK,
    FD_RESOURCE_MASK,
    FD_RESOURCE_SHIFT,
    RESOURCE_SHIFT,
    SMALL_CLUSTER_MASK,
    SMALL_RESOURCE_MASK,
    SUB_BLOCK_COW,
    TYPE_MASK,
    AddressType,
    FileBlockFlag,
)

Addresses = NDArray[np.uint32]
Numbers = NDArray[np.int64]
NAMES = {
    AddressType.SUB_BLOCK: "SB", AddressType.POINTER_BLOCK: "PB", AddressType.FILE_DESCRIPTOR: "FD",
    AddressType.POINTER_BLOCK_2: "PB2", AddressType.JOURNAL_BLOCK: "JB",
}  # fmt: skip


def kind(address: int) -> AddressType | None:
    """None: 7, which nothing has."""
    value = address & TYPE_MASK
    return AddressType(value) if value <= AddressType.JOURNAL_BLOCK else None


def file_block(number: int, *, tbz: bool = False) -> int:
    return number << BLOCK_SHIFT | (FileBlockFlag.TBZ if tbz else 0) | AddressType.FILE_BLOCK


def sub_block(cluster: int, resource: int) -> int:
    return resource << RESOURCE_SHIFT | cluster << CLUSTER_SHIFT | AddressType.SUB_BLOCK


def pointer_block(cluster: int, resource: int) -> int:
    return resource << RESOURCE_SHIFT | cluster << CLUSTER_SHIFT | AddressType.POINTER_BLOCK


def descriptor(cluster: int, resource: int) -> int:
    return resource << FD_RESOURCE_SHIFT | cluster << CLUSTER_SHIFT | AddressType.FILE_DESCRIPTOR


def block_number(address: int) -> int:
    """Of a file block."""
    return address >> BLOCK_SHIFT


def is_tbz(address: int) -> bool:
    """Of a file block: allocated and never written."""
    return bool(address & FileBlockFlag.TBZ)


def place(address: int, *, dense: bool = False) -> tuple[int, int]:
    """(cluster, resource) of any address but a file block's."""
    kind_of = address & TYPE_MASK
    if kind_of == AddressType.FILE_DESCRIPTOR:
        return address >> CLUSTER_SHIFT & FD_CLUSTER_MASK, address >> FD_RESOURCE_SHIFT & FD_RESOURCE_MASK
    resource = address >> RESOURCE_SHIFT & SMALL_RESOURCE_MASK
    if dense and kind_of == AddressType.SUB_BLOCK:
        resource |= (address >> DENSE_SHIFT & DENSE_MASK) << DENSE_RESOURCE_SHIFT
    return address >> CLUSTER_SHIFT & SMALL_CLUSTER_MASK, resource


def places(addresses: Addresses, of: AddressType, *, dense: bool = False) -> tuple[Numbers, Numbers]:
    """(clusters, resources) of many addresses of one type, which is not that of file blocks."""
    wide = addresses.astype(np.int64)
    if of == AddressType.FILE_DESCRIPTOR:
        return wide >> CLUSTER_SHIFT & FD_CLUSTER_MASK, wide >> FD_RESOURCE_SHIFT & FD_RESOURCE_MASK
    resources = wide >> RESOURCE_SHIFT & SMALL_RESOURCE_MASK
    if dense and of == AddressType.SUB_BLOCK:
        resources |= (wide >> DENSE_SHIFT & DENSE_MASK) << DENSE_RESOURCE_SHIFT
    return wide >> CLUSTER_SHIFT & SMALL_CLUSTER_MASK, resources


def describe(address: int, *, dense: bool = False) -> str:
    """For people: `FB 403`, `FB 603 TBZ`, `SB 30/3`, `FD 6/7 .. `, `none`."""
    of = kind(address)
    if not address:
        return "none"
    if of is None or of == AddressType.NULL:
        return f"{address:#010x}, which is no address"
    if of == AddressType.FILE_BLOCK:
        flags = "".join(f" {flag.name}" for flag in FileBlockFlag if address & flag)
        return f"FB {block_number(address)}{flags}"
    cluster, resource = place(address, dense=dense)
    cow = " COW" if of != AddressType.FILE_DESCRIPTOR and address & SUB_BLOCK_COW else ""
    return f"{NAMES[of]} {cluster}/{resource}{cow}"
