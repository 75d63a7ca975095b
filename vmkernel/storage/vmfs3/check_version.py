"""Which version a volume is of and how big its file blocks are, where the superblock does not tell or is contradicted.

The descriptors of the system's files repeat the size of the blocks, and .fdc.sf lies where that size puts it. A number
that is no version is VMFS-3's on an LVM of VMFS-3, as long as the superblock names no file that only later ones have.
Source: vmfs-tools, libvmfs/vmfs_fs.c; dissect.vmfs, vmfs.py.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from vmkernel.storage.vmfs3.descriptor_spec import (
    DESCRIPTOR,
    FD_BYTES,
    FD_RESOURCE_SHIFT,
    SYSTEM_NAMES,
    FileType,
    SystemFile,
    ZeroLevel,
)
from vmkernel.storage.vmfs3.geometry import fdc_base
from vmkernel.storage.vmfs3.lvm import LogicalVolume
from vmkernel.storage.vmfs3.resource_spec import CLUSTER_HEADER_BYTES, CLUSTERS_PER_GROUP, GROUP_OFFSET, HEADER
from vmkernel.storage.vmfs3.volume_spec import BLOCK_SIZES, MAJOR_VMFS3, MAJOR_VMFS5, MAJOR_VMFS6, LockType

LEAST = 2  # descriptors that must agree, to be believed without the superblock


def is_vmfs3(lv: LogicalVolume, superblock: Any) -> bool:
    """Whether it is, or can be nothing else."""
    if superblock.major == MAJOR_VMFS3:
        return True
    if lv.uuid is None or MAJOR_VMFS5 <= superblock.major <= MAJOR_VMFS6:
        return False
    return not is_descriptor(lv, int(superblock.pb2_position))


def block_size(lv: LogicalVolume, superblock: Any) -> int | None:
    """What most say, of what can be; of as many, the superblock. None: nothing tells."""
    said: Counter[int] = Counter()
    for base in {fdc_base(size) * size for size in BLOCK_SIZES}:
        for first in first_descriptors(lv, base, superblock):
            said.update(size for size in sizes_by_files(lv, first) if fdc_base(size) * size == base)
    own = int(superblock.block_size)
    most, count = said.most_common(1)[0] if said else (0, 0)
    if own in BLOCK_SIZES:
        return most if count >= LEAST and count > said[own] + 1 else own
    return most if count >= LEAST else None


def sizes_by_files(lv: LogicalVolume, first: int) -> list[int]:
    """By the descriptors of the system's files that are whole, if that of the root lies there."""
    found = []
    for address in SYSTEM_NAMES:
        place = first + (address >> FD_RESOURCE_SHIFT) * FD_BYTES
        if is_descriptor(lv, place):
            fd = descriptor(lv, place)
            if (fd["address"], fd["type"], fd["zla"]) == (address, FileType.SYSTEM, ZeroLevel.FILE_BLOCK):
                found.append(int(fd["block_size"]))
    return [size for size in found if size in BLOCK_SIZES]


def first_descriptors(lv: LogicalVolume, base: int, superblock: Any) -> list[int]:
    """Where the root's may be, within the volume, if .fdc.sf begins at `base`.

    They lie behind the headers of a group's clusters, whose number .fdc.sf and the superblock have.
    """
    if base + HEADER.sizeof() > lv.size:
        return []
    header = HEADER.parse(lv.bytes_at(base, HEADER.sizeof()))
    said = dict.fromkeys([header.clusters_per_group, superblock.fdc_clusters_per_group, CLUSTERS_PER_GROUP])
    places = [base + GROUP_OFFSET + per_group * CLUSTER_HEADER_BYTES for per_group in said]
    return [place for place in places if place + len(SystemFile) * FD_BYTES <= lv.size]


def descriptor(lv: LogicalVolume, place: int) -> Any:
    return np.frombuffer(lv.bytes_at(place, FD_BYTES), DESCRIPTOR)[0]


def is_descriptor(lv: LogicalVolume, place: int) -> bool:
    """Whether what lies there says itself that it is one, and where."""
    if place + FD_BYTES > lv.size:
        return False
    lock = descriptor(lv, place)["lock"]
    return bool(lock["type"] == LockType.FILE_DESCRIPTOR and lock["position"] == place)
