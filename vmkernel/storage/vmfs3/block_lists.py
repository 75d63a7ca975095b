"""From a descriptor's addresses to the map of its file: direct ones, through pointer blocks, or two levels of them.

A pointer block that a file uses twice is damage, so what is read is never more than the volume has pointer blocks; a
hole of any size is one run.
Source: dissect.vmfs, descriptor.py; vmfs-tools, libvmfs/vmfs_inode.c.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vmkernel.storage.errors import Unsupported
from vmkernel.storage.vmfs3 import addresses
from vmkernel.storage.vmfs3.descriptor import BLOCKS_MAX, Descriptor
from vmkernel.storage.vmfs3.descriptor_spec import (
    ADDRESS,
    BLOCK_SHIFT,
    CONTENTS_AT,
    PER_POINTER_BLOCK,
    RESIDENT_MAX,
    TYPE_MASK,
    AddressType,
    FileBlockFlag,
    ZeroLevel,
)
from vmkernel.storage.vmfs3.errors import CorruptVolume
from vmkernel.storage.vmfs3.file_map import FileMap, Kind, MapBuilder
from vmkernel.storage.vmfs3.lvm import LogicalVolume
from vmkernel.storage.vmfs3.resources import ResourceFile

HOLE, TBZ, DATA = int(Kind.HOLE), int(Kind.TBZ), int(Kind.DATA)
FILE_BLOCK, TBZ_BIT = int(AddressType.FILE_BLOCK), int(FileBlockFlag.TBZ)
Words = NDArray[np.uint32]
Numbers = NDArray[np.int64]
Resources = Callable[[AddressType], ResourceFile]
KIND_BITS = TYPE_MASK.bit_length()
BATCH = 256  # pointer blocks that are read at once


class BlockLists:
    """Maps files of one volume. `resources` gives the resource file for a type of address, or raises."""

    def __init__(self, lv: LogicalVolume, block_size: int, resources: Resources, *, dense: bool = False) -> None:
        self.lv, self.block_size, self.resources, self.dense = lv, block_size, resources, dense
        self.pointer_kinds: tuple[AddressType, ...] = (AddressType.POINTER_BLOCK,)  # VMFS-5 adds another
        self.blocks = lv.size // block_size

    def map(self, fd: Descriptor) -> FileMap:
        """Raises CorruptVolume for what cannot be true, Unsupported for what has no bytes in the volume."""
        if fd.is_rdm:
            what = f"contents of {addresses.describe(fd.address)}"
            raise Unsupported(str(self.lv.name), what, "a file", "a raw device mapping")
        build = MapBuilder(self.lv)
        zla = fd.zla
        if zla == ZeroLevel.RESIDENT:
            self._resident(fd, build)
            return build.build()
        size = self._judge(fd)
        count = -(-fd.length // size)
        if zla == ZeroLevel.FILE_BLOCK:
            self._file_blocks(fd, build, fd.addresses[:count], fd.position + CONTENTS_AT)
        elif zla == ZeroLevel.SUB_BLOCK:
            self._sub_blocks(fd, build, fd.addresses[:count], size)
        elif zla != ZeroLevel.NONE:
            reach = PER_POINTER_BLOCK ** (2 if zla == ZeroLevel.DOUBLE else 1)
            words = fd.addresses[: -(-count // reach)]
            places = fd.position + CONTENTS_AT + np.arange(len(words), dtype=np.int64) * ADDRESS.itemsize
            level = self._double if zla == ZeroLevel.DOUBLE else self._pointer_blocks
            level(fd, build, words, places, count, set())
        return build.build()

    def _judge(self, fd: Descriptor) -> int:
        """The size of the file's blocks, once it and the length are possible."""
        zla = fd.zla
        size = self.resources(AddressType.SUB_BLOCK).size if zla == ZeroLevel.SUB_BLOCK else self.block_size
        if zla != ZeroLevel.NONE and fd.block_size != size:
            raise fd.wrong("block_size", f"block size of {addresses.describe(fd.address)}", str(size), fd.block_size)
        reach = BLOCKS_MAX[zla] * size
        if fd.length > reach:
            expected = f"up to {reach} with addresses of type {int(zla):#x}"
            raise fd.wrong("length", f"length of {addresses.describe(fd.address)}", expected, fd.length)
        return size

    def _resident(self, fd: Descriptor, build: MapBuilder) -> None:
        if fd.length > RESIDENT_MAX:
            raise fd.wrong("length", "length of contents in a descriptor", f"up to {RESIDENT_MAX}", fd.length)
        if fd.length:
            place = np.array([fd.position + CONTENTS_AT], np.int64)
            build.blocks(RESIDENT_MAX, np.array([DATA], np.uint8), place)

    def _file_blocks(self, fd: Descriptor, build: MapBuilder, words: Words, words_at: int) -> None:
        """The next blocks of the file, from words that lie one behind the other from this byte of the volume on."""
        used = words != 0
        kinds = np.where(used, np.where(words & TBZ_BIT, TBZ, DATA), HOLE).astype(np.uint8)
        numbers = words.astype(np.int64) >> BLOCK_SHIFT
        bad = used & ((words & TYPE_MASK != FILE_BLOCK) | (numbers >= self.blocks))
        if bad.any():
            index = int(np.flatnonzero(bad)[0])
            expected = f"a file block below {self.blocks}"
            raise self._bad_address(fd, words_at + index * ADDRESS.itemsize, int(words[index]), expected)
        build.blocks(self.block_size, kinds, numbers * self.block_size)

    def _sub_blocks(self, fd: Descriptor, build: MapBuilder, words: Words, size: int) -> None:
        file = self.resources(AddressType.SUB_BLOCK)
        for index, word in enumerate(words.tolist()):
            if not word:
                build.hole(size)
                continue
            offset = self._item(fd, file, word, fd.address_position(index))
            end = offset + size
            while offset < end:  # twice, where it lies across the border of file blocks
                step = min(end, (offset // self.block_size + 1) * self.block_size) - offset
                build.blocks(step, np.array([DATA], np.uint8), np.array([file.position(offset)], np.int64))
                offset += step

    def _item(self, fd: Descriptor, file: ResourceFile, word: int, word_at: int) -> int:
        """The byte of a resource file where what this address names begins."""
        cluster, resource = addresses.place(word, dense=self.dense)
        if word & TYPE_MASK != file.kind:
            raise self._bad_address(fd, word_at, word, f"one of type {int(file.kind)}")
        self._judge_resource(fd, file, word, word_at, cluster, resource)
        return int(file.geometry.items_at(cluster, resource))

    def _judge_resource(
        self, fd: Descriptor, file: ResourceFile, word: int, word_at: int, cluster: int, resource: int
    ) -> None:
        if resource >= file.per_cluster or cluster * file.per_cluster + resource >= file.total:
            expected = f"one of {file.total}, {file.per_cluster} in a cluster"
            raise self._bad_address(fd, word_at, word, expected)

    def _pointer_blocks(
        self, fd: Descriptor, build: MapBuilder, words: Words, words_at: Numbers, count: int, seen: set[int]
    ) -> None:
        """The next `count` blocks of the file, through pointer blocks; `words_at`: where each of the words lies."""
        per = PER_POINTER_BLOCK
        used = np.flatnonzero(words)
        done = 0  # pointer blocks
        for start in range(0, len(used), BATCH):
            chosen = used[start : start + BATCH]
            tables, at = self._read_pointers(fd, words[chosen], words_at[chosen], seen)
            for index, table, table_at in zip(chosen.tolist(), tables, at.tolist(), strict=True):
                build.hole((index - done) * per * self.block_size)
                self._file_blocks(fd, build, table[: min(count - index * per, per)], table_at)
                done = index + 1
        if done * per < count:
            build.hole((count - done * per) * self.block_size)

    def _double(
        self, fd: Descriptor, build: MapBuilder, words: Words, words_at: Numbers, count: int, seen: set[int]
    ) -> None:
        """The same through two levels: pointer blocks of pointer blocks."""
        per = PER_POINTER_BLOCK
        reach = per * per
        for index, word in enumerate(words.tolist()):
            blocks = min(count - index * reach, reach)
            if not word:
                build.hole(blocks * self.block_size)
                continue
            tables, at = self._read_pointers(fd, words[index : index + 1], words_at[index : index + 1], seen)
            table = tables[0][: -(-blocks // per)]
            places = at[0] + np.arange(len(table), dtype=np.int64) * ADDRESS.itemsize
            self._pointer_blocks(fd, build, table, places, blocks, seen)

    def _read_pointers(
        self, fd: Descriptor, words: Words, words_at: Numbers, seen: set[int]
    ) -> tuple[NDArray[np.uint32], Numbers]:
        """What these pointer blocks hold, (n, 1024), and where each lies. VMFS-5 has two files of them."""
        tables = np.empty((len(words), PER_POINTER_BLOCK), ADDRESS)
        at = np.empty(len(words), np.int64)
        kinds = words & TYPE_MASK
        for of in np.unique(kinds).tolist():
            chosen = np.flatnonzero(kinds == of)
            if of not in self.pointer_kinds:
                expected = f"a pointer block, type {' or '.join(map(str, map(int, self.pointer_kinds)))}"
                raise self._bad_address(fd, int(words_at[chosen[0]]), int(words[chosen[0]]), expected)
            file = self.resources(AddressType(of))
            self._judge_pointers(fd, file, words[chosen], words_at[chosen], seen)
            places = addresses.places(words[chosen], file.kind)
            tables[chosen] = file.read_many(*places).view(ADDRESS)
            at[chosen] = file.locate_many(*places)
        return tables, at

    def _judge_pointers(
        self, fd: Descriptor, file: ResourceFile, words: Words, words_at: Numbers, seen: set[int]
    ) -> None:
        clusters, resources = addresses.places(words, file.kind)
        numbers = clusters * file.per_cluster + resources
        beyond = np.flatnonzero((resources >= file.per_cluster) | (numbers >= file.total))
        if len(beyond):
            index = int(beyond[0])
            expected = f"one of {file.total} pointer blocks, {file.per_cluster} in a cluster"
            raise self._bad_address(fd, int(words_at[index]), int(words[index]), expected)
        for index, number in enumerate(numbers.tolist()):
            key = number << KIND_BITS | file.kind
            if key in seen:
                expected = "one that the file has not used yet"
                raise self._bad_address(fd, int(words_at[index]), int(words[index]), expected)
            seen.add(key)

    def _bad_address(self, fd: Descriptor, at: int, word: int, expected: str) -> CorruptVolume:
        found = addresses.describe(word, dense=self.dense)
        return CorruptVolume(self.lv.name, at, f"address in {addresses.describe(fd.address)}", expected, found)
