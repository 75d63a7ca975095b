"""A resource file as the allocator sees it: where its cluster headers and resources lie, and where free ones may be.

Source: vmfs-tools, libvmfs/vmfs_bitmap.c.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vmkernel.storage.vmfs3.errors import VolumeFull
from vmkernel.storage.vmfs3.resources import ResourceFile
from vmkernel.storage.vmfs3.volume_spec import LockType

WORDS = {
    LockType.FILE_BLOCKS: "file blocks", LockType.FILE_DESCRIPTORS: "file descriptors",
    LockType.POINTER_BLOCKS: "pointer blocks", LockType.SUB_BLOCKS: "sub-blocks",
}  # fmt: skip
UNKNOWN = -1


class Pool:
    """`hints` has how many resources of each cluster were free when it was last seen; UNKNOWN: it was not seen yet.

    `recent` has the bits of resources that were freed and are not yet free on the disk, by cluster.
    """

    def __init__(self, file: ResourceFile, start: int) -> None:
        lock_type = file.lock_type
        assert lock_type is not None
        self.file, self.lock_type = file, lock_type
        blocks = np.arange(-(-file.descriptor.length // file.block_size)) * file.block_size
        self._blocks: list[int] = file.map.positions(blocks).tolist()
        self._block_size = file.block_size
        self.hints = np.full(file.clusters, UNKNOWN, np.int32)
        self.recent: dict[int, int] = {}
        self.cursor = start % file.clusters

    @property
    def clusters(self) -> int:
        return self.file.clusters

    @property
    def per_cluster(self) -> int:
        return self.file.per_cluster

    def header_position(self, cluster: int) -> int:
        """The byte of the volume where a cluster's header lies."""
        return self._position(self.file.geometry.header_at(cluster))

    def item_position(self, cluster: int, resource: int) -> int:
        """The byte of the volume where a resource begins, one that does not lie across a border of file blocks."""
        return self._position(int(self.file.geometry.items_at(cluster, resource)))

    def item_pieces(self, cluster: int, resource: int) -> list[tuple[int, int]]:
        """(byte of the volume, length) of a resource's parts: two where it lies across a border of file blocks."""
        offset, left = int(self.file.geometry.items_at(cluster, resource)), self.file.size
        pieces: list[tuple[int, int]] = []
        while left:
            step = min(left, self._block_size - offset % self._block_size)
            at = self._position(offset)
            if pieces and sum(pieces[-1]) == at:
                pieces[-1] = pieces[-1][0], pieces[-1][1] + step
            else:
                pieces.append((at, step))
            offset, left = offset + step, left - step
        return pieces

    def _position(self, offset: int) -> int:
        block, rest = divmod(offset, self._block_size)
        return self._blocks[block] + rest

    def candidates(self, first: int | None = None) -> Iterator[int]:
        """Clusters that may have something free, from the cursor or another one on, round."""
        start = self.cursor if first is None else first
        if self.hints[start]:
            yield start
        behind = np.flatnonzero(self.hints[start + 1 :]) + start + 1
        before = np.flatnonzero(self.hints[:start])
        yield from behind.tolist()
        yield from before.tolist()

    def free(self) -> int:
        """How many are free, as far as this opening has seen."""
        if (self.hints == UNKNOWN).any():
            self.look()
        return int(self.hints.sum())

    def look(self) -> bool:
        """Read all headers anew: is there any that has something free?"""
        self.hints[:] = self.file.cluster_table()["free"]
        return bool(self.hints.any())

    def full(self) -> VolumeFull:
        return VolumeFull(self.file.lv.name, WORDS[self.lock_type], self.file.total)
