"""How big a new volume's resource files are and which file blocks they get: numbers only, no I/O.

    .vh.sf, first block of .fdc.sf, root directory, .fbb.sf, rest of .fdc.sf, .pbc.sf, .sbc.sf, then everybody's

A volume of 2 GB or more gets the counts that ESX gives. What ESX gives to smaller ones is not known; any are readable.
Source: vmfs-tools, libvmfs/vmfs_bitmap.c; fluidOps VMFS driver, VMFSDriver.java; Configuration Maximums 3.x.
"""

from __future__ import annotations

from dataclasses import dataclass

from ringfence.errors import BadOption
from vmkernel.storage.vmfs3.descriptor_spec import FD_BYTES, POINTER_BLOCK_BYTES
from vmkernel.storage.vmfs3.lvm_spec import PE_BYTES
from vmkernel.storage.vmfs3.resource_spec import (
    CLUSTER_HEADER_BYTES,
    CLUSTERS_PER_GROUP,
    FB_PER_CLUSTER,
    FB_TOTAL_MAX,
    FD_PER_CLUSTER,
    FD_PER_CLUSTER_SMALL,
    FD_TOTAL,
    GROUP_OFFSET,
    PB_PER_CLUSTER,
    PB_TOTAL,
    SB_PER_CLUSTER,
    SB_TOTAL,
    SYSTEM_BLOCKS_MAX,
)
from vmkernel.storage.vmfs3.volume_spec import BLOCK_SIZES, FIXED_END, SUB_BLOCK_BYTES

SYSTEM_FDS = 6  # root, the four resource files, .vh.sf
USUAL_FROM_BYTES = 2 << 30
FDS_PER_PE, PBS_PER_PE, SBS_PER_PE = 256, 16, 256  # of smaller volumes


@dataclass(frozen=True, slots=True)
class Counts:
    """How many resources a volume has. `fds_per_cluster` decides where a descriptor lies."""

    fds: int = FD_TOTAL
    pbs: int = PB_TOTAL
    sbs: int = SB_TOTAL
    fds_per_cluster: int = FD_PER_CLUSTER

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("file descriptors", self.fds, SYSTEM_FDS + 1, 0x10000 * self.fds_per_cluster),
            ("pointer blocks", self.pbs, 1, PB_TOTAL), ("sub-blocks", self.sbs, 1, 1 << 26),
            ("file descriptors of a cluster", self.fds_per_cluster, SYSTEM_FDS + 1, 512),
        ):  # fmt: skip
            if not least <= value <= most:
                raise BadOption(f"number of {name}: expected {least} to {most}, found {value}")


def usual_counts(volume_bytes: int) -> Counts:
    if volume_bytes >= USUAL_FROM_BYTES:
        return Counts()
    pes = volume_bytes // PE_BYTES
    return Counts(FDS_PER_PE * pes, PBS_PER_PE * pes, SBS_PER_PE * pes, FD_PER_CLUSTER_SMALL)


@dataclass(frozen=True, slots=True)
class ResourceGeometry:
    """One resource file. Offsets are of the file; `size` 0: the resources are the volume's own blocks."""

    per_cluster: int
    size: int
    total: int
    per_group: int = CLUSTERS_PER_GROUP

    @property
    def clusters(self) -> int:
        return -(-self.total // self.per_cluster)

    @property
    def groups(self) -> int:
        return -(-self.clusters // self.per_group)

    @property
    def headers_bytes(self) -> int:
        """Of a group: the cluster headers at its start."""
        return self.per_group * CLUSTER_HEADER_BYTES

    @property
    def group_size(self) -> int:
        return self.headers_bytes + self.per_group * self.per_cluster * self.size

    @property
    def length(self) -> int:
        """Bytes up to the last resource; the headers of all clusters of the last group included."""
        in_last = self.total - (self.groups - 1) * self.per_group * self.per_cluster
        return self.group_at(self.groups - 1) + self.headers_bytes + in_last * self.size

    def group_at(self, group: int) -> int:
        return GROUP_OFFSET + group * self.group_size

    def in_cluster(self, cluster: int) -> int:
        """How many resources a cluster has: the last one may have fewer."""
        return min(self.per_cluster, self.total - cluster * self.per_cluster)


def fbb_geometry(volume_bytes: int, block_size: int) -> ResourceGeometry:
    return ResourceGeometry(FB_PER_CLUSTER, 0, min(volume_bytes // block_size, FB_TOTAL_MAX))


@dataclass(frozen=True, slots=True)
class Geometry:
    """A whole new volume. Block lists are numbers of file blocks, in the order of the file."""

    block_size: int
    fbb: ResourceGeometry
    fdc: ResourceGeometry
    pbc: ResourceGeometry
    sbc: ResourceGeometry
    fdc_length: int
    vh_blocks: tuple[int, ...]
    fdc_blocks: tuple[int, ...]
    root_block: int
    fbb_blocks: tuple[int, ...]
    pbc_blocks: tuple[int, ...]
    sbc_blocks: tuple[int, ...]
    first_user_block: int


def fdc_base(block_size: int) -> int:
    """The number of the file block where .fdc.sf begins."""
    return max(1, FIXED_END // block_size)


def plan(volume_bytes: int, block_size: int, counts: Counts | None = None) -> Geometry:
    """Raises BadOption where the volume cannot hold its own bookkeeping, or a resource file would be too long."""
    if block_size not in BLOCK_SIZES:
        sizes = ", ".join(f"{size >> 20} MiB" for size in BLOCK_SIZES)
        raise BadOption(f"file block size: expected one of {sizes}, found {block_size} bytes")
    counts = counts or usual_counts(volume_bytes)
    fbb = fbb_geometry(volume_bytes, block_size)
    fdc = ResourceGeometry(counts.fds_per_cluster, FD_BYTES, counts.fds)
    pbc = ResourceGeometry(PB_PER_CLUSTER, POINTER_BLOCK_BYTES, counts.pbs)
    sbc = ResourceGeometry(SB_PER_CLUSTER, SUB_BLOCK_BYTES, counts.sbs)
    fdc_length = max(fdc.length, block_size)
    base = fdc_base(block_size)
    given = base + 2
    lists: list[tuple[int, ...]] = []
    for name, length, first in (
        (".fbb.sf", fbb.length, 0), (".fdc.sf", fdc_length, 1), (".pbc.sf", pbc.length, 0), (".sbc.sf", sbc.length, 0),
    ):  # fmt: skip
        blocks = -(-length // block_size)
        if blocks > SYSTEM_BLOCKS_MAX:
            raise BadOption(
                f"{name} of a volume of {volume_bytes >> 30} GiB: expected at most {SYSTEM_BLOCKS_MAX} file blocks, "
                f"found {blocks}; use larger file blocks or fewer resources"
            )
        lists.append(tuple(range(given, given + blocks - first)))
        given += blocks - first
    if given >= fbb.total:
        raise BadOption(
            f"volume of {volume_bytes >> 20} MiB: expected room beside the {given} file blocks of its own files, "
            f"found {fbb.total}; give fewer resources or smaller file blocks"
        )
    return Geometry(
        block_size, fbb, fdc, pbc, sbc, fdc_length, tuple(range(base)), (base, *lists[1]), base + 1, lists[0],
        lists[2], lists[3], given,
    )  # fmt: skip
