"""A resource file: clusters of file blocks, descriptors, pointer blocks or sub-blocks, and which of them are free.

Reading never asks whether a resource is free. Resources are found by arithmetic (the three formulas below), their bytes
through the file's own map, for some lie across the border of two file blocks.
Source: dissect.vmfs, resource.py; vmfs-tools, libvmfs/vmfs_bitmap.c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmkernel.storage.vmfs3.addresses import describe
from vmkernel.storage.vmfs3.descriptor import Descriptor
from vmkernel.storage.vmfs3.descriptor_spec import FD_BYTES, POINTER_BLOCK_BYTES, AddressType
from vmkernel.storage.vmfs3.errors import CorruptVolume
from vmkernel.storage.vmfs3.file_map import FileMap
from vmkernel.storage.vmfs3.layout import offsets
from vmkernel.storage.vmfs3.lvm import LogicalVolume
from vmkernel.storage.vmfs3.resource_spec import (
    CLUSTER,
    CLUSTER_HEADER_BYTES,
    FB_TOTAL_MAX,
    HEADER,
    HEADER_BYTES,
    RESOURCES_MAX,
)
from vmkernel.storage.vmfs3.volume_spec import LockType

Numbers = NDArray[np.int64]
OFFSETS = offsets(HEADER)
CLUSTERS_PER_GROUP_MAX = 4096
SUB_BLOCK_MIN, SUB_BLOCK_MAX = 512, 1 << 20
SPAN_GAP, SPAN_MAX = 64 << 10, 4 << 20  # many small reads are made one when this little lies between them
SIZES = {
    AddressType.FILE_BLOCK: 0, AddressType.FILE_DESCRIPTOR: FD_BYTES, AddressType.POINTER_BLOCK: POINTER_BLOCK_BYTES,
    AddressType.POINTER_BLOCK_2: POINTER_BLOCK_BYTES,
}  # fmt: skip
LOCK_TYPES = {
    AddressType.FILE_BLOCK: LockType.FILE_BLOCKS, AddressType.SUB_BLOCK: LockType.SUB_BLOCKS,
    AddressType.POINTER_BLOCK: LockType.POINTER_BLOCKS, AddressType.FILE_DESCRIPTOR: LockType.FILE_DESCRIPTORS,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Geometry:
    """A header that can be true. Sizes are bytes."""

    per_cluster: int
    clusters_per_group: int
    group_offset: int
    resource_size: int
    group_size: int
    total: int
    groups: int

    @property
    def clusters(self) -> int:
        return -(-self.total // self.per_cluster)

    def header_at(self, cluster: int) -> int:
        """Byte of the file where the header of a cluster lies."""
        group, index = divmod(cluster, self.clusters_per_group)
        return self.group_offset + group * self.group_size + index * CLUSTER_HEADER_BYTES

    def items_at(self, cluster: Any, resource: Any) -> Any:
        """Byte of the file where a resource lies; numbers or arrays."""
        group, index = cluster // self.clusters_per_group, cluster % self.clusters_per_group
        items = self.group_offset + group * self.group_size + self.clusters_per_group * CLUSTER_HEADER_BYTES
        return items + (index * self.per_cluster + resource) * self.resource_size

    def cluster_total(self, cluster: int) -> int:
        """How many resources a cluster has: the last one may have fewer."""
        return min(self.per_cluster, self.total - cluster * self.per_cluster)


class ResourceFile:
    """`kind` is the type of the addresses that name its resources; `descriptor` and `map` are the file's own."""

    def __init__(
        self, lv: LogicalVolume, kind: AddressType, descriptor: Descriptor, mapped: FileMap, geometry: Geometry,
        block_size: int,
    ) -> None:  # fmt: skip
        self.lv, self.kind, self.descriptor, self.map, self.geometry = lv, kind, descriptor, mapped, geometry
        self.block_size = block_size
        self.per_cluster, self.total, self.size = geometry.per_cluster, geometry.total, geometry.resource_size
        self.clusters = geometry.clusters

    @property
    def lock_type(self) -> LockType | None:
        """None: second-level pointer blocks, of which no source says."""
        return LOCK_TYPES.get(self.kind)

    # places

    def locate(self, cluster: int, resource: int) -> int:
        """The byte of the volume where a resource begins. Raises CorruptVolume for one that the file does not have."""
        self.judge(cluster, resource)
        if not self.size:
            return (cluster * self.per_cluster + resource) * self.block_size
        return self.position(self.geometry.items_at(cluster, resource))

    def locate_many(self, clusters: Numbers, resources: Numbers) -> Numbers:
        """The same for many; -1 for those that the file does not have."""
        numbers = clusters * self.per_cluster + resources
        good = (resources >= 0) & (resources < self.per_cluster) & (numbers >= 0) & (numbers < self.total)
        if not self.size:
            return np.where(good, numbers * self.block_size, -1)
        return np.where(good, self.map.positions(self.geometry.items_at(clusters, resources)), -1)

    def judge(self, cluster: int, resource: int) -> None:
        if not (0 <= resource < self.per_cluster and 0 <= cluster * self.per_cluster + resource < self.total):
            last = divmod(self.total - 1, self.per_cluster)
            name = describe(self.descriptor.address)
            raise CorruptVolume(
                self.lv.name, self.descriptor.position, f"resource of {name}",
                f"one up to {last[0]}/{last[1]}, {self.per_cluster} in a cluster", f"{cluster}/{resource}",
            )  # fmt: skip

    def position(self, offset: int) -> int:
        """The byte of the volume that is this byte of the file. Raises CorruptVolume for a hole."""
        place = self.map.position(offset)
        if place < 0:
            raise self.descriptor.wrong(
                "contents", f"block of {describe(self.descriptor.address)}, byte {offset}", "data", "a hole"
            )
        return place

    def cluster_position(self, cluster: int) -> int:
        """The byte of the volume where a cluster's header lies: its lock."""
        self.judge(cluster, 0)
        return self.position(self.geometry.header_at(cluster))

    # contents

    def bytes_at(self, offset: int, length: int) -> bytes:
        """Of the file. Raises CorruptVolume for a hole."""
        if offset % self.block_size + length <= self.block_size:
            return self.lv.bytes_at(self.position(offset), length)
        data = bytearray(length)
        self.read_into(offset, memoryview(data))
        return bytes(data)

    def read_into(self, offset: int, view: memoryview) -> None:
        done = 0
        for run in self.map.runs(offset, len(view)):
            if run.lun is None:
                self.position(offset + done)
                raise self.descriptor.wrong("length", "blocks of a resource file", f"{offset + len(view)} bytes", done)
            run.lun.read(run.offset, [view[done : done + run.length]])
            done += run.length

    def read(self, cluster: int, resource: int) -> bytes:
        """One resource."""
        self.judge(cluster, resource)
        return self.bytes_at(self.geometry.items_at(cluster, resource), self.size)

    def read_many(self, clusters: Numbers, resources: Numbers) -> NDArray[np.uint8]:
        """Many resources, (n, size), with few large reads. Raises CorruptVolume for one that the file does not have."""
        numbers = clusters * self.per_cluster + resources
        bad = np.flatnonzero((resources >= self.per_cluster) | (numbers >= self.total) | (numbers < 0))
        if len(bad):
            self.judge(int(clusters[bad[0]]), int(resources[bad[0]]))
        at = np.asarray(self.geometry.items_at(clusters, resources))
        out = np.empty((len(at), self.size), np.uint8)
        order = np.argsort(at, kind="stable")
        at = at[order]
        first = 0
        while first < len(at):
            reach = np.searchsorted(at, at[first] + SPAN_MAX - self.size, "right")
            gaps = np.flatnonzero(np.diff(at[first:reach]) > self.size + SPAN_GAP)
            end = first + int(gaps[0]) + 1 if len(gaps) else int(reach)
            out[order[first:end]] = self._span(at[first:end])
            first = end
        return out

    def _span(self, at: Numbers) -> NDArray[np.uint8]:
        """Resources at these bytes of the file, in ascending order, by one read."""
        start = int(at[0])
        span = np.empty(int(at[-1]) + self.size - start, np.uint8)
        self.read_into(start, span.data)
        relative = at - start
        if len(span) == len(at) * self.size:
            return span.reshape(-1, self.size)
        if not (relative % self.size).any():
            return span.reshape(-1, self.size)[relative // self.size]
        return np.stack([span[offset : offset + self.size] for offset in relative.tolist()])

    # headers of clusters

    def cluster(self, cluster: int) -> np.void:
        """A CLUSTER record that can be written to; it is a copy."""
        self.judge(cluster, 0)
        data = bytearray(CLUSTER_HEADER_BYTES)
        self.read_into(self.geometry.header_at(cluster), memoryview(data))
        return np.frombuffer(data, CLUSTER, 1)[0]

    def cluster_table(self, first: int = 0, count: int | None = None) -> NDArray[np.void]:
        """The CLUSTER records of all clusters, or of `count` from `first` on."""
        end = self.clusters if count is None else min(first + count, self.clusters)
        table = np.empty(max(end - first, 0), CLUSTER)
        raw = table.view(np.uint8).data
        per_group = self.geometry.clusters_per_group
        done = 0
        while first < end:
            step = min(end, (first // per_group + 1) * per_group) - first
            self.read_into(self.geometry.header_at(first), raw[done : done + step * CLUSTER_HEADER_BYTES])
            first, done = first + step, done + step * CLUSTER_HEADER_BYTES
        return table

    def free_map(self) -> NDArray[np.bool_]:
        """For every resource by number (cluster * R/C + resource): is it free?"""
        bits = np.unpackbits(self.cluster_table()["bitmap"], axis=1, bitorder="little")
        return bits[:, : self.per_cluster].reshape(-1)[: self.total].astype(np.bool_)


def read_geometry(lv: LogicalVolume, kind: AddressType, fd: Descriptor, raw: bytes, position: int) -> Geometry:
    """The header that lies at this byte of the volume, against the length of its file. Raises CorruptVolume."""
    header = HEADER.parse(raw.ljust(HEADER.sizeof(), b"\0"))
    name = describe(fd.address)

    def check(field: str, good: bool, expected: str) -> None:
        if not good:
            found = str(header[field])
            raise CorruptVolume(lv.name, position + OFFSETS[field], f"{field} of {name}", expected, found)

    check("resources_per_cluster", 0 < header.resources_per_cluster <= RESOURCES_MAX, f"1 to {RESOURCES_MAX}")
    expected = f"1 to {CLUSTERS_PER_GROUP_MAX}"
    check("clusters_per_group", 0 < header.clusters_per_group <= CLUSTERS_PER_GROUP_MAX, expected)
    check("group_offset", header.group_offset >= HEADER_BYTES, f"{HEADER_BYTES} or more")
    size = header.resource_size
    if kind in SIZES:
        check("resource_size", size == SIZES[kind], str(SIZES[kind]))
    else:
        good = SUB_BLOCK_MIN <= size <= SUB_BLOCK_MAX and not size & (size - 1)
        check("resource_size", good, f"a power of two from {SUB_BLOCK_MIN} to {SUB_BLOCK_MAX}")
    check("total", 0 < header.total <= FB_TOTAL_MAX, f"1 to {FB_TOTAL_MAX}")
    geometry = Geometry(
        header.resources_per_cluster, header.clusters_per_group, header.group_offset, size, header.group_size,
        header.total, header.groups,
    )  # fmt: skip
    group = geometry.clusters_per_group * (CLUSTER_HEADER_BYTES + geometry.per_cluster * size)
    if geometry.clusters > geometry.clusters_per_group:
        check("group_size", header.group_size == group, str(group))
    last = geometry.clusters - 1
    end = max(
        geometry.header_at(last) + CLUSTER_HEADER_BYTES,
        geometry.items_at(last, geometry.cluster_total(last) - 1) + size if size else 0,
    )
    check("total", end <= fd.length, f"as many as {fd.length} bytes have room for")
    return geometry
