"""Directories that are changed: their entries in memory, found by name, and the sectors that hold them.

What is known of a directory stays true until somebody takes the lock of its descriptor, which raises the lock's token.
Entries are appended; a removed one is replaced by the last, for there are no gaps. A directory begins in a sub-block
and moves to file blocks when it has outgrown that.
Source: vmfs-tools, libvmfs/vmfs_dirent.c; VMware, "VMFS sub-blocks".
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

from vmkernel.storage.vmfs3 import addresses
from vmkernel.storage.vmfs3.allocate import allocate_block, allocate_sub_block, free_addresses
from vmkernel.storage.vmfs3.block_words import set_block_size
from vmkernel.storage.vmfs3.descriptor import judge, parse
from vmkernel.storage.vmfs3.descriptor_spec import (
    ADDRESSES,
    FD_BYTES,
    FileType,
    ZeroLevel,
)
from vmkernel.storage.vmfs3.directory_spec import ENTRY, ENTRY_BYTES, NAME_BYTES, PARENT, SELF
from vmkernel.storage.vmfs3.errors import CorruptVolume, NoSuchFile, NotADirectory, VolumeFull
from vmkernel.storage.vmfs3.locks import Locks
from vmkernel.storage.vmfs3.lvm_spec import SECTOR_BYTES
from vmkernel.storage.vmfs3.operation import Operation
from vmkernel.storage.vmfs3.pools import Pool
from vmkernel.storage.vmfs3.records import DescriptorRecord, Record
from vmkernel.storage.vmfs3.volume import Volume
from vmkernel.storage.vmfs3.volume_spec import SUB_BLOCK_BYTES, LockMode

PACK = struct.Struct(f"<III{NAME_BYTES}s")
assert PACK.size == ENTRY_BYTES
DOTS = (SELF.encode(), PARENT.encode())
TRIES = 20  # to read a directory that others are changing


class Named(NamedTuple):
    """What an entry names."""

    type: int
    address: int
    generation: int


class Folder(Record):
    """One directory's contents. `pieces`: (byte of the volume, length) of where they lie, as long as its blocks are."""

    __slots__ = ("changed", "descriptor_position", "generation", "names", "pieces", "token")

    def __init__(self, record: DescriptorRecord, raw: bytearray, pieces: list[tuple[int, int]]) -> None:
        super().__init__(pieces[0][0], raw)
        self.descriptor_position, self.pieces = record.position, pieces
        self.generation, self.token = int(record.generation), int(record.token)
        self.changed: set[int] = set()
        rows = np.frombuffer(raw, ENTRY, len(raw) // ENTRY_BYTES)
        self.names: dict[bytes, int] = dict(zip(rows["name"].tolist(), range(len(rows)), strict=True))

    @property
    def room(self) -> int:
        return sum(length for _, length in self.pieces)

    @property
    def is_empty(self) -> bool:
        return len(self.raw) <= len(DOTS) * ENTRY_BYTES

    def get(self, name: bytes) -> Named | None:
        index = self.names.get(name)
        if index is None:
            return None
        kind, address, generation, _ = PACK.unpack_from(self.raw, index * ENTRY_BYTES)
        return Named(kind, address, generation)

    def put(self, name: bytes, named: Named) -> None:
        """Add an entry, for which there must be room, or change what it names."""
        index = self.names.get(name)
        if index is None:
            index = len(self.raw) // ENTRY_BYTES
            self.raw += bytes(ENTRY_BYTES)
            self.names[name] = index
        PACK.pack_into(self.raw, index * ENTRY_BYTES, *named, name)
        self._changed(index)

    def remove(self, name: bytes) -> None:
        index = self.names.pop(name)
        last = len(self.raw) - ENTRY_BYTES
        if index * ENTRY_BYTES != last:
            moved = bytes(self.raw[last:])
            self.raw[index * ENTRY_BYTES : (index + 1) * ENTRY_BYTES] = moved
            self.names[PACK.unpack(moved)[3].rstrip(b"\0")] = index
            self._changed(index)
        del self.raw[last:]

    def _changed(self, index: int) -> None:
        first = index * ENTRY_BYTES // SECTOR_BYTES
        self.changed.add(first)
        self.changed.add(((index + 1) * ENTRY_BYTES - 1) // SECTOR_BYTES)

    def all_changed(self) -> None:
        self.changed.update(range(-(-len(self.raw) // SECTOR_BYTES)))

    def flush_into(self, sectors: dict[int, bytes]) -> None:
        for number in self.changed:
            at = number * SECTOR_BYTES
            if at < len(self.raw):
                data = bytes(self.raw[at : at + SECTOR_BYTES])
                sectors[self._place(at)] = data.ljust(SECTOR_BYTES, b"\0")
        self.changed.clear()

    def _place(self, at: int) -> int:
        for position, length in self.pieces:
            if at < length:
                return position + at
            at -= length
        raise AssertionError("a directory's entries lie in its blocks")


class Folders:
    """The directories that this opening knows."""

    def __init__(self, volume: Volume, locks: Locks, sub_blocks: Pool, *, reader_shift: bool) -> None:
        self.volume, self.locks, self.sub_blocks, self.reader_shift = volume, locks, sub_blocks, reader_shift
        self.known: dict[int, Folder] = {}

    # looking

    def current(self, address: int, generation: int | None, path: str) -> Folder:
        """As it is now. Raises NoSuchFile, NotADirectory, CorruptVolume."""
        known = self.known.get(address)
        position = self.volume.fdc.locate(*addresses.place(address)) if known is None else known.descriptor_position
        held = self.locks.held.get(position)
        if held is not None:
            if known is not None and known.token == held.record.token and generation in (known.generation, None):
                return known
            return self.locked(self._read(position), path)
        for _ in range(TRIES):
            record = self._read(position)
            if generation not in (record.generation, None):
                raise NoSuchFile(path)
            known = self.known.get(address)
            if known is not None and (known.generation, known.token) == (record.generation, record.token):
                return known
            folder = self._load(record, path)
            if self._read(position).token == record.token:
                if record.lock_mode == LockMode.FREE:
                    self.known[address] = folder
                return folder
        return folder

    def _read(self, position: int) -> DescriptorRecord:
        return DescriptorRecord(position, bytearray(self.volume.lv.bytes_at(position, FD_BYTES)))

    def locked(self, record: DescriptorRecord, path: str) -> Folder:
        """Of a descriptor that is locked for us: what is known is true when nobody else had the lock since."""
        known = self.known.get(record.address)
        if known is not None and known.generation == record.generation and record.token - known.token in (0, 1):
            known.token = record.token
            return known
        folder = self.known[record.address] = self._load(record, path)
        return folder

    def _load(self, record: DescriptorRecord, path: str) -> Folder:
        if record.type != FileType.DIRECTORY or not record.nlink:
            raise NotADirectory(path)
        volume = self.volume
        fd = judge(parse(bytes(record.raw), record.position, volume.name), record.address)
        raw = bytearray(volume.directory_table(fd).tobytes())
        pieces = self._pieces(record)
        if not pieces or len(raw) > sum(length for _, length in pieces):
            what = "blocks of a directory"
            raise CorruptVolume(volume.name, record.position, what, f"room for {len(raw)} bytes", f"{pieces}")
        return Folder(record, raw, pieces)

    def _pieces(self, record: DescriptorRecord) -> list[tuple[int, int]]:
        words = [word for word in record.addresses.tolist() if word]
        if record.zla == ZeroLevel.SUB_BLOCK:
            return self.sub_blocks.item_pieces(*addresses.place(words[0])) if words else []
        size = self.volume.block_size
        return [(addresses.block_number(word) * size, size) for word in words]

    # changing

    def open(self, operation: Operation, address: int, generation: int, path: str) -> tuple[DescriptorRecord, Folder]:
        """A directory, locked for us, to be changed. Raises NoSuchFile, NotADirectory."""
        record = operation.descriptor(address, generation, path)
        folder = self.locked(record, path)
        operation.touch(folder)
        operation.on_discard.append(lambda: self.forget(address))
        return record, folder

    def forget(self, address: int) -> None:
        self.known.pop(address, None)

    def create(self, operation: Operation, record: DescriptorRecord, parent: Named) -> Folder:
        """The contents of a new directory: `.` and `..`. Raises VolumeFull."""
        volume = self.volume
        try:
            word = allocate_sub_block(operation)
            pieces = self.sub_blocks.item_pieces(*addresses.place(word))
            size, zla = SUB_BLOCK_BYTES, ZeroLevel.SUB_BLOCK
        except VolumeFull:
            number = allocate_block(operation)
            word, size, zla = addresses.file_block(number), volume.block_size, ZeroLevel.FILE_BLOCK
            pieces = [(number * size, size)]
        record.zla, record.num_blocks = zla, 1
        set_block_size(record, size, reader_shift=self.reader_shift)
        record.addresses[0] = word
        record.addresses_changed(0)
        folder = Folder(record, bytearray(), pieces)
        folder.put(DOTS[0], Named(FileType.DIRECTORY, record.address, record.generation))
        folder.put(DOTS[1], parent)
        record.length = len(folder.raw)
        self.known[record.address] = folder
        operation.touch(folder)
        operation.on_discard.append(lambda: self.forget(record.address))
        return folder

    def add(self, operation: Operation, record: DescriptorRecord, folder: Folder, name: bytes, named: Named) -> None:
        """One more entry, or another file under a name. Raises VolumeFull."""
        if name not in folder.names and len(folder.raw) + ENTRY_BYTES > folder.room:
            self._grow(operation, record, folder)
        folder.put(name, named)
        self.stamp(operation, record, folder)

    def remove(self, operation: Operation, record: DescriptorRecord, folder: Folder, name: bytes) -> None:
        folder.remove(name)
        self.stamp(operation, record, folder)

    @staticmethod
    def stamp(operation: Operation, record: DescriptorRecord, folder: Folder) -> None:
        record.length = len(folder.raw)
        record.mtime = record.ctime = operation.seconds

    def _grow(self, operation: Operation, record: DescriptorRecord, folder: Folder) -> None:
        size = self.volume.block_size
        words = record.addresses
        used = record.num_blocks
        if record.zla == ZeroLevel.FILE_BLOCK and used >= ADDRESSES:
            raise VolumeFull(self.volume.name, "blocks of a directory", ADDRESSES)
        number = allocate_block(operation)
        if record.zla == ZeroLevel.SUB_BLOCK:
            free_addresses(operation, [int(words[0])])
            folder.pieces, used = [], 0
            record.zla = ZeroLevel.FILE_BLOCK
            set_block_size(record, size, reader_shift=self.reader_shift)
            folder.position = number * size
            folder.all_changed()
            operation.touch(folder)
        words[used] = addresses.file_block(number)
        record.addresses_changed(used)
        record.num_blocks = used + 1
        folder.pieces.append((number * size, size))
