"""What a file of a volume is made of, changed within an operation: blocks for a range, a length, fewer blocks.

Contents of a new block are in place before the file has it: what others read of it was never somebody else's, but for
`thick` blocks, which ESX gives as they are too.
Source: vmkfstools manual, "Supported Disk Formats"; VMware, "VMFS sub-blocks".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from vmkernel.storage.block_file import cut
from vmkernel.storage.vmfs3 import addresses, zeroing
from vmkernel.storage.vmfs3.allocate import (
    allocate_block,
    allocate_blocks,
    allocate_sub_block,
    free_addresses,
)
from vmkernel.storage.vmfs3.block_words import (
    Words,
    get_words,
    make_room,
    put_words,
    reach,
    set_block_size,
    use_pointer_blocks,
)
from vmkernel.storage.vmfs3.descriptor_spec import (
    ADDRESS,
    ADDRESSES,
    BLOCK_SHIFT,
    PER_POINTER_BLOCK,
    AddressType,
    FileBlockFlag,
    ZeroLevel,
)
from vmkernel.storage.vmfs3.errors import FileTooLarge, VolumeFull
from vmkernel.storage.vmfs3.lvm import LogicalVolume
from vmkernel.storage.vmfs3.operation import Operation
from vmkernel.storage.vmfs3.records import DescriptorRecord
from vmkernel.storage.vmfs3.volume_spec import SUB_BLOCK_BYTES

BLOCKS_MAX = 512  # that one operation gives to a file
FREE_BLOCKS_MAX = 4096  # that one operation takes from it
LENGTH_MAX = (2 << 40) - 512  # of a file: a disk of ESX 3 is no larger


class Provision(StrEnum):
    """How blocks are reserved that have not been written."""

    THIN = "thin"
    THICK = "thick"
    ZEROED_THICK = "zeroedthick"
    EAGER_ZEROED_THICK = "eagerzeroedthick"


@dataclass(frozen=True, slots=True)
class Shape:
    """What the files of a volume have in common."""

    lv: LogicalVolume
    block_size: int
    reader_shift: bool

    @property
    def length_max(self) -> int:
        return min(ADDRESSES * PER_POINTER_BLOCK * self.block_size, LENGTH_MAX)


class Growth:
    """One file, locked for us, in one operation."""

    def __init__(self, operation: Operation, record: DescriptorRecord, shape: Shape) -> None:
        self.operation, self.record, self.shape = operation, record, shape
        self.lv, self.block_size = shape.lv, shape.block_size
        self.changed: list[tuple[int, int]] = []  # (first block, count) whose words are others now

    @property
    def is_small(self) -> bool:
        return bool(self.record.zla == ZeroLevel.SUB_BLOCK)

    # the kind of file

    def fit(self, end: int, path: str) -> None:
        """Make it of the kind that reaches up to this byte. Raises FileTooLarge, VolumeFull."""
        record = self.record
        if end > self.shape.length_max:
            raise FileTooLarge(path, f"expected at most {self.shape.length_max} bytes, found {end}")
        if self.is_small and end <= SUB_BLOCK_BYTES:
            return
        if self.is_small:
            self.leave_sub_block()
        if -(-end // self.block_size) > reach(record.zla):
            use_pointer_blocks(self.operation, record)

    def leave_sub_block(self) -> None:
        """From a sub-block to a file block, with its contents."""
        record, word = self.record, int(self.record.addresses[0])
        contents = b""
        if word:
            contents = b"".join(self.lv.bytes_at(at, length) for at, length in self.sub_block_pieces(word))
            block = allocate_block(self.operation)
            zeroing.zero(self.lv, block * self.block_size, self.block_size)
            self.write_at(block * self.block_size, [memoryview(contents)[: record.length]])
            free_addresses(self.operation, [word])
            record.addresses[0] = addresses.file_block(block)
            record.addresses_changed(0)
            self.changed.append((0, 1))
        record.zla = ZeroLevel.FILE_BLOCK
        set_block_size(record, self.block_size, reader_shift=self.shape.reader_shift)

    def sub_block_pieces(self, word: int) -> list[tuple[int, int]]:
        return self.operation.pools[AddressType.SUB_BLOCK].item_pieces(*addresses.place(word))

    # writing

    def write(self, offset: int, views: Sequence[memoryview], path: str) -> int:
        """As much of it as one operation can; how many bytes. Raises FileTooLarge, VolumeFull."""
        length = sum(map(len, views))
        self.fit(offset + length, path)
        if self.is_small:
            try:
                self._write_small(offset, views)
            except VolumeFull as full:
                if full.what != "sub-blocks":
                    raise
                self.leave_sub_block()
        if not self.is_small:
            length = self._write_blocks(offset, views, length)
        record = self.record
        record.length = max(record.length, offset + length)
        record.mtime = self.operation.seconds
        return length

    def _write_small(self, offset: int, views: Sequence[memoryview]) -> None:
        record = self.record
        word = int(record.addresses[0])
        gap = record.length
        if not word:
            word, gap = allocate_sub_block(self.operation), 0
            record.addresses[0] = word
            record.addresses_changed(0)
            record.num_blocks = 1
        pieces = self.sub_block_pieces(word)
        if offset > gap:
            self._into(pieces, gap, [memoryview(bytes(offset - gap))])
        self._into(pieces, offset, views)

    def _into(self, pieces: list[tuple[int, int]], offset: int, views: Sequence[memoryview]) -> None:
        """Bytes into parts of the volume that are one behind the other in a file."""
        left, done = sum(map(len, views)), 0
        for at, length in pieces:
            step = min(max(length - offset, 0), left)
            if step:
                self.write_at(at + offset, cut(views, done, step))
                left, done = left - step, done + step
            offset = max(offset - length, 0)

    def _write_blocks(self, offset: int, views: Sequence[memoryview], length: int) -> int:
        size = self.block_size
        first = offset // size
        count = min(-(-(offset + length) // size) - first, BLOCKS_MAX)
        length = min(length, (first + count) * size - offset)
        words, fresh = self._blocks(first, count)
        count = len(words)
        length = min(length, (first + count) * size - offset)
        end = offset + length
        unwritten = fresh | (words & FileBlockFlag.TBZ != 0)
        words &= ~np.uint32(FileBlockFlag.TBZ)
        if unwritten[0]:
            zeroing.zero(self.lv, place(words[0], size), offset - first * size)
        if unwritten[-1]:
            last_end = (first + count) * size
            zeroing.zero(self.lv, place(words[-1], size) + end - (last_end - size), last_end - end)
        self._zero_gap(offset, None if unwritten[0] else first)
        done = 0
        for at, step in joined_places(words, size, offset - first * size, length):
            self.write_at(at, cut(views, done, step))
            done += step
        self._set(first, words, fresh, unwritten)
        return length

    def _blocks(self, first: int, count: int) -> tuple[Words, np.ndarray]:
        """(words of these blocks, which of them are new), fewer where one operation cannot have them all."""
        record = self.record
        make_room(self.operation, record, first, count)
        words = get_words(self.operation, record, first, count)
        holes = np.flatnonzero(words == 0)
        fresh = np.zeros(count, bool)
        if len(holes):
            numbers = allocate_blocks(self.operation, len(holes), self._behind(first, words, int(holes[0])))
            if len(numbers) < len(holes):
                count = int(holes[len(numbers)])
                words, fresh, holes = words[:count], fresh[:count], holes[: len(numbers)]
            words[holes] = np.array(numbers, ADDRESS) << BLOCK_SHIFT | AddressType.FILE_BLOCK
            fresh[holes] = True
        return words, fresh

    def _behind(self, first: int, words: Words, hole: int) -> int | None:
        """The number of the block before the first new one."""
        before = int(words[hole - 1]) if hole else 0
        if not hole and first:
            before = int(get_words(self.operation, self.record, first - 1, 1)[0])
        return addresses.block_number(before) if before else None

    def _set(self, first: int, words: Words, fresh: np.ndarray, unwritten: np.ndarray) -> None:
        """These blocks have been written."""
        record = self.record
        put_words(self.operation, record, first, words)
        self.changed.append((first, len(words)))
        record.num_blocks = record.num_blocks + int(fresh.sum())
        record.tbz = record.tbz - int((unwritten & ~fresh).sum())

    def _zero_gap(self, offset: int, up_to_block: int | None) -> None:
        """What lies behind the old end of the file in a block that it has, before the file reaches past it."""
        record, size = self.record, self.block_size
        length = record.length
        if offset <= length or not length % size:
            return
        block = length // size
        word = int(get_words(self.operation, record, block, 1)[0])
        if not word or word & FileBlockFlag.TBZ or (up_to_block is None and block == offset // size):
            return
        end = min(offset, (block + 1) * size)
        zeroing.zero(self.lv, place(word, size) + length - block * size, end - length)
        self.operation.transactions.wrote()

    def write_at(self, at: int, views: Sequence[memoryview]) -> None:
        """File data at a byte of the volume."""
        self.lv.write(at, views)
        self.operation.transactions.wrote()

    def touch(self) -> None:
        """It was written in place."""
        self.record.mtime = self.operation.seconds

    # lengths

    def lengthen(self, size: int, path: str) -> None:
        """What is new is a hole. Raises FileTooLarge, VolumeFull."""
        record = self.record
        self.fit(size, path)
        if self.is_small:
            word = int(record.addresses[0])
            if word:
                self._into(self.sub_block_pieces(word), record.length, [memoryview(bytes(size - record.length))])
        else:
            self._zero_gap(size, -1)
        record.length = size
        record.mtime = record.ctime = self.operation.seconds

    def shorten(self, size: int) -> bool:
        """Give blocks back from the end on, as many as one operation can. False: there is more to do."""
        record = self.record
        done = True
        if self.is_small:
            if not size and record.addresses[0]:
                free_addresses(self.operation, [int(record.addresses[0])])
                record.addresses[0] = 0
                record.addresses_changed(0)
                record.num_blocks = 0
            record.length = size
        else:
            keep = -(-size // self.block_size)
            have = min(-(-record.length // self.block_size), reach(record.zla))
            first = max(keep, have - FREE_BLOCKS_MAX)
            first = max(first, self._first_within_reach(first, have))
            done = first <= keep
            self._drop(first, have - first)
            record.length = size if done else first * self.block_size
        record.mtime = record.ctime = self.operation.seconds
        return done

    def _first_within_reach(self, first: int, end: int) -> int:
        """The first block so that what is behind it lies in no more clusters than one operation may change."""
        words = get_words(self.operation, self.record, first, end - first)
        clusters = (words >> BLOCK_SHIFT) // self.operation.pools[AddressType.FILE_BLOCK].per_cluster
        clusters = np.where(words == 0, 0, clusters + 1)[::-1]
        _, seen = np.unique(clusters, return_index=True)
        most = self.operation.clusters_max
        if len(seen) <= most:
            return first
        return end - int(np.sort(seen)[most])

    def _drop(self, first: int, count: int) -> None:
        """These blocks become holes; pointer blocks that have no other are given back."""
        if count <= 0:
            return
        record = self.record
        words = get_words(self.operation, record, first, count)
        free_addresses(self.operation, words.tolist())
        record.num_blocks = record.num_blocks - int((words != 0).sum())
        record.tbz = record.tbz - int((words & FileBlockFlag.TBZ != 0).sum())
        put_words(self.operation, record, first, np.zeros(count, ADDRESS))
        if record.zla == ZeroLevel.POINTER_BLOCK:
            self._drop_pointer_blocks(-(-first // PER_POINTER_BLOCK))

    def _drop_pointer_blocks(self, first: int) -> None:
        record = self.record
        words = record.addresses[first:]
        free_addresses(self.operation, words.tolist())
        record.addresses[first:] = 0
        record.addresses_changed(first, ADDRESSES - first)

    # blocks that are not written

    def cover(self, size: int, path: str) -> None:
        """At least so long."""
        if size > self.record.length:
            self.lengthen(size, path)

    def reserve(self, first: int, total: int, kind: Provision) -> int:
        """Blocks from this one on, as many as one operation can; the first that has not been seen to."""
        record, size = self.record, self.block_size
        count = min(total - first, BLOCKS_MAX)
        words, fresh = self._blocks(first, count)
        unwritten = fresh | (words & FileBlockFlag.TBZ != 0)
        if kind is Provision.ZEROED_THICK:
            words[fresh] |= np.uint32(FileBlockFlag.TBZ)
            record.tbz = record.tbz + int(fresh.sum())
            unwritten[:] = False
        elif kind is Provision.EAGER_ZEROED_THICK:
            for at, step in joined_places(words[unwritten] & ~np.uint32(FileBlockFlag.TBZ), size):
                zeroing.zero(self.lv, at, step)
                self.operation.transactions.wrote()
            words &= ~np.uint32(FileBlockFlag.TBZ)
        else:
            unwritten[:] = False
        self._set(first, words, fresh, unwritten)
        return first + len(words)

    def reserve_small(self) -> None:
        """The sub-block of a small file, zeroed."""
        if not self.record.addresses[0]:
            length = self.record.length
            self._write_small(0, [memoryview(bytes(length))])


def place(word: int | np.uint32, block_size: int) -> int:
    """The byte of the volume where a file block begins."""
    return addresses.block_number(int(word)) * block_size


def joined_places(words: Words, block_size: int, skip: int = 0, length: int | None = None) -> list[tuple[int, int]]:
    """(byte of the volume, length) of file blocks, neighbours joined, without the first `skip` bytes."""
    left = len(words) * block_size - skip if length is None else length
    found: list[tuple[int, int]] = []
    for number in (words >> BLOCK_SHIFT).tolist():
        if left <= 0:
            break
        at, step = number * block_size + skip, min(block_size - skip, left)
        if found and sum(found[-1]) == at:
            found[-1] = found[-1][0], found[-1][1] + step
        else:
            found.append((at, step))
        left, skip = left - step, 0
    return found
