"""Many small reads of one disk at once: all are looked up together, then each is one pread into its place.

What numpy finds to lie together in a file, or nowhere, is done here; the rest goes through the disk's `read`.
"""

from __future__ import annotations

import os
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from ringfence.errors import MediaError
from vmkernel.storage.block_file import BlockFile
from vmkernel.storage.chain import Chain
from vmkernel.storage.disk import SECTOR_BYTES, Extent
from vmkernel.storage.errors import DamagedGrain
from vmkernel.storage.vmdk.flat import FlatExtent
from vmkernel.storage.vmdk.grain_extent import GrainExtent
from vmkernel.storage.vmdk.grain_tables import ABSENT, ZERO
from vmkernel.storage.vmdk.sesparse import SeSparseExtent

Numbers = NDArray[np.int64]
Truths = NDArray[np.bool_]
GRAINS_MAX = 64  # of one request, that are looked up together


def read_batch(disk: Chain, offsets: Numbers, length: int, out: memoryview) -> None:
    """`length` bytes from each of the offsets, all in multiples of 512, one behind the other into `out`.

    Raises MediaError like `read`; what `out` holds then is not said.
    """
    count = length // SECTOR_BYTES
    sectors = np.asarray(offsets, np.int64) // SECTOR_BYTES
    if (
        length % SECTOR_BYTES
        or count < 1
        or (sectors * SECTOR_BYTES != offsets).any()
        or len(out) < len(sectors) * length
    ):
        raise ValueError(f"a batch of {len(sectors)} reads of {length} bytes into {len(out)}: not whole sectors")
    beyond = (sectors < 0) | (sectors > disk.sectors - count)
    if beyond.any():
        raise MediaError(int(sectors[beyond][0]), count)
    search = Search(disk, sectors, count)
    rows = np.frombuffer(out[: len(sectors) * length], np.uint64).reshape(len(sectors), length // 8)
    rows[search.zeros] = 0
    left = np.ones(len(sectors), np.bool_)
    left[search.zeros] = False
    for number, file in enumerate(search.files):
        found = np.flatnonzero(search.file == number)
        for fd, which, places in file.places(search.place[found], length):
            read_rows(fd, found[which], places, length, out, left)
    for index in np.flatnonzero(left).tolist():
        disk.read(int(sectors[index]) * SECTOR_BYTES, [out[index * length : (index + 1) * length]])


def read_rows(
    fd: int, requests: Numbers, places: Numbers, length: int, out: memoryview, left: Truths
) -> None:
    """One preadv each; those that were answered in full are no longer `left`."""
    starts = requests * length
    slices = map(slice, starts.tolist(), (starts + length).tolist())
    views = zip(map(out.__getitem__, slices))  # each in a tuple
    try:
        moved = list(map(os.preadv, repeat(fd), views, places.tolist()))
    except OSError:
        return
    left[requests] = False if moved.count(length) == len(moved) else np.array(moved) != length


class Search:
    """Where each request's data lies: `place` is a byte of `files[file]`; `zeros` and `slow` say which have none."""

    def __init__(self, disk: Chain, sectors: Numbers, count: int) -> None:
        self.count = count
        self.place = np.zeros(len(sectors), np.int64)
        self.file = np.full(len(sectors), -1, np.int64)
        self.slow = np.zeros(len(sectors), np.bool_)
        self.files: list[BlockFile] = []
        left = np.arange(len(sectors))
        for link in reversed(disk.links):
            starts = np.array(link.starts, np.int64)
            numbers = np.searchsorted(starts, sectors[left], "right") - 1
            absent = []
            for number in np.unique(numbers).tolist():
                chosen = left[numbers == number]
                absent.append(self._in_extent(link.extents[number], chosen, sectors[chosen] - starts[number]))
            left = np.concatenate(absent) if absent else left[:0]
        self.zeros = left

    def _in_extent(self, extent: Extent, chosen: Numbers, sectors: Numbers) -> Numbers:
        """Settle these requests as far as the extent has them; those that it has not."""
        inside = sectors + self.count <= extent.sectors
        self.slow[chosen[~inside]] = True
        chosen, sectors = chosen[inside], sectors[inside]
        if isinstance(extent, FlatExtent) and not extent.missing_sectors:
            self._found(extent.file, chosen, extent.offset + sectors)
            return chosen[:0]
        if not isinstance(extent, GrainExtent | SeSparseExtent):
            self.slow[chosen] = True
            return chosen[:0]
        grains, skips = np.divmod(sectors, extent.grain_sectors)
        try:
            entries = extent.tables.lookup(grains)
            together, absent = self._together(extent, grains, skips, entries)
        except DamagedGrain:
            self.slow[chosen] = True
            return chosen[:0]
        places = entries + skips
        stored = together & (entries >= extent.data_start) & (places + self.count <= extent.file_sectors)
        self._found(extent.file, chosen[stored], places[stored])
        self.slow[chosen[~stored & ~absent]] = True
        return chosen[absent]

    def _together(
        self, extent: GrainExtent | SeSparseExtent, grains: Numbers, skips: Numbers, entries: Numbers
    ) -> tuple[Truths, Truths]:
        """Which requests lie together in the file, and of which it has nothing, by the entries of their first grains.

        Raises DamagedGrain.
        """
        size = extent.grain_sectors
        together, absent = entries > ZERO, entries == ABSENT
        many = np.flatnonzero(skips + self.count > size)
        most = (self.count + size - 2) // size + 1
        if not len(many):
            return together, absent
        if most > GRAINS_MAX:
            together[many] = absent[many] = False
            return together, absent
        steps = np.minimum(np.arange(most), (skips[many] + self.count - 1)[:, np.newaxis] // size)
        found = extent.tables.lookup((grains[many, np.newaxis] + steps).ravel()).reshape(steps.shape)
        together[many] &= (found == found[:, :1] + steps * size).all(1)
        absent[many] &= ~found.any(1)
        return together, absent

    def _found(self, file: BlockFile, chosen: Numbers, sectors: Numbers) -> None:
        if file not in self.files:
            self.files.append(file)
        self.file[chosen] = self.files.index(file)
        self.place[chosen] = sectors * SECTOR_BYTES
