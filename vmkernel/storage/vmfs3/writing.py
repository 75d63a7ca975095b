"""An open file of a volume that is written: its descriptor's lock is ours until it is closed.

Bytes in blocks that have been written before go straight to their places. What needs a block, a length or a field of
the descriptor goes through an operation. `sync` makes data and metadata durable.
Several threads may read and write at once; who shortens a file sees to it that nobody writes meanwhile.
A file that is opened for several writers (multi-writer mode) has all its blocks already; nothing else about it changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from vmkernel.storage.block_file import View, cut, fill_zeros
from vmkernel.storage.errors import HostTrouble, Locked
from vmkernel.storage.vmfs3 import addresses
from vmkernel.storage.vmfs3.block_words import Words, get_words
from vmkernel.storage.vmfs3.descriptor import Descriptor
from vmkernel.storage.vmfs3.descriptor_spec import (
    ADDRESS,
    PER_POINTER_BLOCK,
    AddressType,
    FileBlockFlag,
    ZeroLevel,
)
from vmkernel.storage.vmfs3.errors import PathError
from vmkernel.storage.vmfs3.file_map import FileMap
from vmkernel.storage.vmfs3.growing import Growth, Provision, Shape, joined_places
from vmkernel.storage.vmfs3.locks import Lease
from vmkernel.storage.vmfs3.operation import Operation
from vmkernel.storage.vmfs3.records import DescriptorRecord
from vmkernel.storage.vmfs3.volume_spec import LockMode

if TYPE_CHECKING:
    from vmkernel.storage.vmfs3.session import Session

Answer = TypeVar("Answer")


class FileWriter:
    """`size` is the file's length. `path` names it in errors."""

    def __init__(self, session: Session, address: int, path: str, shape: Shape, mode: LockMode) -> None:
        """The descriptor is locked for us in this mode."""
        self.session, self.address, self.path, self.shape, self.mode = session, address, path, shape, mode
        self.lv, self.block_size = shape.lv, shape.block_size
        self.position = session.volume.fdc.locate(*addresses.place(address))
        self.size = 0
        self._words: Words | None = None  # None: in a sub-block
        self._small: list[tuple[int, int]] = []
        self._stale_mtime = self._closed = False

    def load(self) -> FileWriter:
        """Find out where the blocks are. The lock is ours now, so they stay there."""
        with self.session.mutex:
            fd = self.descriptor
            if fd.zla == ZeroLevel.SUB_BLOCK:
                pool = self.session.pools[AddressType.SUB_BLOCK]
                word = int(fd.addresses[0])
                self._set_state(fd.length, pool.item_pieces(*addresses.place(word)) if word else [], [])
            else:
                self._set_state(fd.length, None, [(0, self._read_words(fd))])
        return self

    def _read_words(self, fd: Descriptor) -> Words:
        total = -(-fd.length // self.block_size)
        if fd.zla == ZeroLevel.FILE_BLOCK:
            return fd.addresses[:total].copy()
        words = np.zeros(total, ADDRESS)
        pointers = fd.addresses[: -(-total // PER_POINTER_BLOCK)]
        used = np.flatnonzero(pointers)
        places = addresses.places(pointers[used], AddressType.POINTER_BLOCK)
        rows = self.session.volume.pbc.read_many(*places).view(ADDRESS)
        for table, row in zip(used.tolist(), rows, strict=True):
            at = table * PER_POINTER_BLOCK
            words[at : at + PER_POINTER_BLOCK] = row[: total - at]
        return words

    @property
    def descriptor(self) -> Descriptor:
        """As it is now."""
        return self.session.volume.descriptor(self.address)

    def reload(self) -> bool:
        """Nobody else changes the file: what is known of it is right."""
        return False

    def judge_alive(self) -> None:
        """Before bytes are written to the places that `map` tells. Raises HeartbeatLost."""
        self._judge()
        self.session.judge_alive()
        self._stale_mtime = True

    def __enter__(self) -> FileWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # reading

    def read(self, offset: int, views: Sequence[memoryview]) -> int:
        """Fill the views as far as the file reaches; how many bytes that is. Raises HostTrouble."""
        length = min(sum(map(len, views)), max(self.size - offset, 0))
        words = self._words
        if words is None:
            return self._read_small(offset, views, length)
        size, done = self.block_size, 0
        first = offset // size
        for at, step in pieces(words[first : -(-(offset + length) // size)], size, offset - first * size, length):
            piece = cut(views, done, step)
            if at < 0:
                fill_zeros(piece)
            else:
                self.lv.read(at, piece)
            done += step
        if done < length:
            fill_zeros(cut(views, done, length - done))
        return length

    def _read_small(self, offset: int, views: Sequence[memoryview], length: int) -> int:
        done = 0
        for at, step in self._small_pieces(offset, length):
            self.lv.read(at, cut(views, done, step))
            done += step
        fill_zeros(cut(views, done, length - done))
        return length

    def bytes_at(self, offset: int, length: int) -> bytes:
        """Fewer at the end of the file."""
        data = bytearray(max(min(length, self.size - offset), 0))
        self.read(offset, [memoryview(data)])
        return bytes(data)

    def map(self) -> FileMap:
        """Where the bytes lie now: valid until something is written where nothing was, or the length changes."""
        return self.session.volume.map(self.descriptor)

    # writing

    def write(self, offset: int, views: Sequence[View]) -> None:
        """Raises FileTooLarge, VolumeFull, HeartbeatLost, HostTrouble. Of a write that fails, any part may be there."""
        self._judge()
        whole = [memoryview(view) for view in views]
        left, done = sum(map(len, whole)), 0
        while left:
            chunk = cut(whole, done, left) if done else whole
            step = self._write_in_place(offset, chunk, left) or self._change(self._writing(offset, chunk))
            offset, done, left = offset + step, done + step, left - step

    def _write_in_place(self, offset: int, views: Sequence[memoryview], length: int) -> int:
        """Into blocks that are there, from the start; how many bytes."""
        words, size = self._words, self.block_size
        length = min(length, self.size - offset)
        if words is None or length <= 0:
            return 0
        first = offset // size
        wanted = words[first : -(-(offset + length) // size)]
        missing = np.flatnonzero((wanted == 0) | (wanted & FileBlockFlag.TBZ != 0))
        if len(missing):
            length = (first + int(missing[0])) * size - offset
            wanted = wanted[: missing[0]]
        if length <= 0:
            return 0
        self.session.judge_alive()
        done = 0
        for at, step in joined_places(wanted, size, offset - first * size, length):
            self.lv.write(at, cut(views, done, step))
            done += step
        self.session.transactions.wrote()
        self._stale_mtime = True
        return length

    def _writing(self, offset: int, views: Sequence[memoryview]) -> Callable[[Growth], int]:
        return lambda growth: growth.write(offset, views, self.path)

    def truncate(self, size: int) -> None:
        """Shorter, or longer by a hole. Raises FileTooLarge, VolumeFull."""
        self._judge()

        def change(growth: Growth) -> bool:
            if size < growth.record.length:
                return growth.shorten(size)
            if size > growth.record.length:
                growth.lengthen(size, self.path)
            return True

        while not self._change(change):
            pass

    def reserve(self, size: int, kind: Provision | str) -> None:
        """At least so long, with blocks for all bytes up to there. Raises VolumeFull, having taken what there was."""
        self._judge()
        kind = Provision(kind)
        self._change(lambda growth: growth.cover(size, self.path))
        if kind is Provision.THIN or not size:
            return
        first, total = 0, -(-size // self.block_size)

        def change(growth: Growth) -> int:
            if growth.is_small:
                growth.reserve_small()
                return total
            return growth.reserve(first, total, kind)

        while first < total:
            first = self._change(change)

    # durability

    def sync(self) -> None:
        """What was written is durable, and can be found."""
        self._judge()
        if self._stale_mtime:
            self._touch()
        self.session.transactions.wrote()
        self.session.sync()

    def _touch(self) -> None:
        self._stale_mtime = False
        if self.mode is LockMode.EXCLUSIVE:
            self._change(lambda growth: growth.touch())

    def close(self) -> None:
        """The lock is given back. What was not synced becomes durable soon, or with the next `sync` of the volume."""
        if self._closed:
            return
        self._closed = True
        with self.session.mutex:
            if self.session.failed is None and not self.session.closed:
                if self._stale_mtime:
                    self._touch()
                self.session.operate(lambda operation: close_descriptor(operation, self.address), self.path)

    def _judge(self) -> None:
        if self._closed:
            raise HostTrouble(self.path, 0, "the file was closed")

    # operations

    def _change(self, change: Callable[[Growth], Answer]) -> Answer:
        """An operation on the file, after which what is known of its blocks is right again."""
        if self.mode is not LockMode.EXCLUSIVE:
            raise PathError(self.path, "opened for several writers: only blocks that it has can be written")

        def run(operation: Operation) -> Answer:
            growth = Growth(operation, operation.descriptor(self.address), self.shape)
            answer = change(growth)
            state = self._state(growth)
            operation.on_finish.append(lambda: self._set_state(*state))
            return answer

        return self.session.operate(run, self.path)

    def _state(self, growth: Growth) -> tuple[int, list[tuple[int, int]] | None, list[tuple[int, Words]]]:
        """(length, parts of the sub-block or None, words that are others now)."""
        record = growth.record
        if growth.is_small:
            word = int(record.addresses[0])
            return record.length, growth.sub_block_pieces(word) if word else [], []
        total = -(-record.length // self.block_size)
        changed = [(first, min(count, total - first)) for first, count in growth.changed if first < total]
        return record.length, None, [
            (first, get_words(growth.operation, record, first, count)) for first, count in changed
        ]  # fmt: skip

    def _set_state(
        self, length: int, small: list[tuple[int, int]] | None, changed: list[tuple[int, Words]]
    ) -> None:  # fmt: skip
        if small is None:
            total = -(-length // self.block_size)
            words = self._words
            if words is None or len(words) != total:
                old = np.zeros(0, ADDRESS) if words is None else words[:total]
                words = np.concatenate([old, np.zeros(total - len(old), ADDRESS)])
            for first, some in changed:
                words[first : first + len(some)] = some
            self._words = words
        self._small = small or []
        self.size = length

    def _small_pieces(self, offset: int, length: int) -> list[tuple[int, int]]:
        found = []
        for at, size in self._small:
            if offset < size and length > 0:
                step = min(size - offset, length)
                found.append((at + offset, step))
                length -= step
            offset = max(offset - size, 0)
        return found


def pieces(words: Words, block_size: int, skip: int, length: int) -> list[tuple[int, int]]:
    """(byte of the volume, length) of file blocks without the first `skip` bytes; -1 for what reads as zeros."""
    blank = (words == 0) | (words & FileBlockFlag.TBZ != 0)
    edges = np.flatnonzero(np.diff(blank)) + 1
    found: list[tuple[int, int]] = []
    for part in np.split(words, edges):
        if not len(part) or length <= 0:
            break
        step = min(len(part) * block_size - skip, length)
        if part[0] == 0 or part[0] & FileBlockFlag.TBZ:
            found.append((-1, step))
        else:
            found += joined_places(part, block_size, skip, step)
        length, skip = length - step, 0
    return found


def open_descriptor(operation: Operation, address: int, generation: int, path: str) -> DescriptorRecord:
    """Keep the lock of a file's descriptor until `close_descriptor`. Raises NoSuchFile, FileLocked."""
    record = operation.descriptor(address, generation, path)
    held = operation.locks.held.get(record.position)
    assert held is not None
    if held.users:
        raise operation.busy_here(record.position)

    def keep() -> None:
        held.users = 1
        if held.lease is Lease.TRANSACTION:
            held.lease = Lease.OPEN

    if held.lease is Lease.BORN:
        operation.locks.claim_born(record)
    operation.on_finish.append(keep)
    return record


def close_descriptor(operation: Operation, address: int) -> None:
    """One open file less. With the last reader a shared lock is free at once, for who only looks cannot ask for it."""
    position = operation.descriptor_position(address)
    held = operation.locks.held.get(position)
    if held is None:
        return
    if held.lease is Lease.BORN:
        operation.descriptor(address).set_free(operation.clock.now_us())

    def let_go() -> None:
        held.users -= 1
        if held.lease is Lease.OPEN and not held.users:
            held.lease = Lease.TRANSACTION
            if held.mode is LockMode.READ_ONLY:
                with suppress(Locked):  # the device is reserved: it goes with those of the transaction
                    operation.locks.give_back_unchanged(position)

    operation.on_finish.append(let_go)


class HeldDescriptor:
    """The lock of a file that is in use, until `close`; what is in the file is nobody's matter here."""

    def __init__(self, session: Session, address: int) -> None:
        self._session, self._address = session, address
        self._closed = False

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            with suppress(PathError):
                self._session.operate(lambda operation: close_descriptor(operation, self._address))
