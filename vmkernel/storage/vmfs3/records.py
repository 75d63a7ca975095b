"""On-disk structures that are changed in memory: bytes at a place of the volume, and which of their sectors differ.

Fields are declared by the layouts of the spec files; a field that is set marks its sectors as changed.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmkernel.storage.vmfs3.descriptor_spec import ADDRESS, ADDRESSES, CONTENTS_AT, DESCRIPTOR, POINTER_BLOCK_BYTES
from vmkernel.storage.vmfs3.lvm_spec import SECTOR_BYTES
from vmkernel.storage.vmfs3.resource_spec import BITMAP_BYTES, CLUSTER
from vmkernel.storage.vmfs3.volume_spec import HEARTBEAT, HOLDER, HOLDERS, LOCK, LockMode

CODES = {1: "<B", 2: "<H", 4: "<I", 8: "<Q"}


def place(layout: np.dtype[Any], name: str) -> tuple[int, int]:
    """(offset, size) of a field."""
    assert layout.fields is not None
    kind, offset = layout.fields[name][:2]
    return offset, kind.itemsize


def number(layout: np.dtype[Any], name: str) -> Any:
    """A property: an unsigned little-endian field."""
    offset, size = place(layout, name)
    code = struct.Struct(CODES[size])
    sectors = sector_bits(offset, size)

    def get(record: Record) -> int:
        return int(code.unpack_from(record.raw, offset)[0])

    def put(record: Record, value: int) -> None:
        code.pack_into(record.raw, offset, value)
        record.dirty |= sectors

    return property(get, put)


def string(layout: np.dtype[Any], name: str) -> Any:
    """A property: a field of bytes, all of it."""
    offset, size = place(layout, name)
    sectors = sector_bits(offset, size)

    def get(record: Record) -> bytes:
        return bytes(record.raw[offset : offset + size])

    def put(record: Record, value: bytes) -> None:
        assert len(value) == size
        record.raw[offset : offset + size] = value
        record.dirty |= sectors

    return property(get, put)


def sector_bits(offset: int, size: int) -> int:
    """A bit for each sector that a field touches."""
    first, last = offset // SECTOR_BYTES, (offset + size - 1) // SECTOR_BYTES
    return (1 << last + 1) - (1 << first)


class Record:
    """`raw` begins at byte `position` of the volume; bit n of `dirty`: its sector n was changed."""

    __slots__ = ("dirty", "position", "raw")

    def __init__(self, position: int, raw: bytearray) -> None:
        self.position, self.raw = position, raw
        self.dirty = 0

    def flush_into(self, sectors: dict[int, bytes]) -> None:
        """Hand over the changed sectors, by their place in the volume."""
        dirty, at = self.dirty, 0
        while dirty:
            if dirty & 1:
                sectors[self.position + at] = bytes(self.raw[at : at + SECTOR_BYTES])
            dirty >>= 1
            at += SECTOR_BYTES
        self.dirty = 0


class LockRecord(Record):
    """What begins with a lock: the lock alone, a descriptor, a cluster header."""

    __slots__ = ()
    lock_type = number(LOCK, "type")
    lock_position = number(LOCK, "position")
    hb_position = number(LOCK, "hb_position")
    hb_generation = number(LOCK, "hb_generation")
    token = number(LOCK, "token")
    lock_mode = number(LOCK, "mode")
    owner = string(LOCK, "owner")
    lock_mtime = number(LOCK, "mtime")
    num_holders = number(LOCK, "num_holders")
    holder_bytes = string(LOCK, "holders")

    @property
    def holders(self) -> NDArray[np.void]:
        """A copy of the holders in use."""
        return np.frombuffer(self.holder_bytes, HOLDER)[: min(self.num_holders, HOLDERS)].copy()

    @holders.setter
    def holders(self, rows: NDArray[np.void]) -> None:
        self.num_holders = len(rows)
        self.holder_bytes = rows.tobytes().ljust(HOLDERS * HOLDER.itemsize, b"\0")

    def set_free(self, now_us: int) -> None:
        """Released: who had it last stays."""
        self.lock_mode, self.owner, self.lock_mtime = LockMode.FREE, bytes(16), now_us
        self.holders = np.empty(0, HOLDER)


class DescriptorRecord(LockRecord):
    """A file descriptor."""

    __slots__ = ()
    address = number(DESCRIPTOR, "address")
    generation = number(DESCRIPTOR, "generation")
    nlink = number(DESCRIPTOR, "nlink")
    type = number(DESCRIPTOR, "type")
    flags = number(DESCRIPTOR, "flags")
    length = number(DESCRIPTOR, "length")
    block_size = number(DESCRIPTOR, "block_size")
    num_blocks = number(DESCRIPTOR, "num_blocks")
    mtime = number(DESCRIPTOR, "mtime")
    ctime = number(DESCRIPTOR, "ctime")
    atime = number(DESCRIPTOR, "atime")
    uid = number(DESCRIPTOR, "uid")
    gid = number(DESCRIPTOR, "gid")
    mode = number(DESCRIPTOR, "mode")
    zla = number(DESCRIPTOR, "zla")
    tbz = number(DESCRIPTOR, "tbz")
    block_offset_shift = number(DESCRIPTOR, "block_offset_shift")
    contents = string(DESCRIPTOR, "contents")

    @property
    def addresses(self) -> NDArray[np.uint32]:
        """The words themselves; who sets one says so by `addresses_changed`."""
        return np.frombuffer(self.raw, ADDRESS, ADDRESSES, CONTENTS_AT)

    def addresses_changed(self, first: int, count: int = 1) -> None:
        self.dirty |= sector_bits(CONTENTS_AT + first * ADDRESS.itemsize, count * ADDRESS.itemsize)


class PointerBlockRecord(Record):
    """A pointer block: 1024 addresses."""

    __slots__ = ()

    @property
    def addresses(self) -> NDArray[np.uint32]:
        return np.frombuffer(self.raw, ADDRESS, POINTER_BLOCK_BYTES // ADDRESS.itemsize)

    def addresses_changed(self, first: int, count: int = 1) -> None:
        self.dirty |= sector_bits(first * ADDRESS.itemsize, count * ADDRESS.itemsize)


class ClusterRecord(LockRecord):
    """A resource cluster's header. Bit n of `free_bits`: resource n is free."""

    __slots__ = ()
    cluster = number(CLUSTER, "number")
    total = number(CLUSTER, "total")
    free = number(CLUSTER, "free")
    next_free = number(CLUSTER, "next_free")
    bitmap = string(CLUSTER, "bitmap")
    last_generation = number(CLUSTER, "type_data")

    @property
    def free_bits(self) -> int:
        return int.from_bytes(self.bitmap, "little")

    @free_bits.setter
    def free_bits(self, bits: int) -> None:
        self.bitmap = bits.to_bytes(BITMAP_BYTES, "little")
        self.free = bits.bit_count()


class HeartbeatRecord(Record):
    """A heartbeat slot."""

    __slots__ = ()
    magic = number(HEARTBEAT, "magic")
    own_position = number(HEARTBEAT, "position")
    generation = number(HEARTBEAT, "generation")
    stamp = number(HEARTBEAT, "stamp")
    owner = string(HEARTBEAT, "owner")
    journal = number(HEARTBEAT, "journal")
    driver_major = number(HEARTBEAT, "driver_major")
    driver_minor = number(HEARTBEAT, "driver_minor")
