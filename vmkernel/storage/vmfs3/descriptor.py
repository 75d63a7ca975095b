"""A file descriptor as it was read: its fields, and what must be true of them before they are used.

Not modelled: copy-on-write, which ESX 3 does not use on files.
"""

from __future__ import annotations

import stat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmkernel.storage.vmfs3 import addresses
from vmkernel.storage.vmfs3.descriptor_spec import (
    ADDRESS,
    ADDRESSES,
    CONTENTS_AT,
    DESCRIPTOR,
    PER_POINTER_BLOCK,
    RESIDENT_MAX,
    FileType,
    ZeroLevel,
)
from vmkernel.storage.vmfs3.errors import CorruptVolume
from vmkernel.storage.vmfs3.identity import parse_disk_id
from vmkernel.storage.vmfs3.layout import offsets
from vmkernel.storage.vmfs3.volume_spec import LockType

OFFSETS = offsets(DESCRIPTOR)
TYPE_BITS = {
    FileType.DIRECTORY: stat.S_IFDIR, FileType.REGULAR: stat.S_IFREG, FileType.SYMLINK: stat.S_IFLNK,
    FileType.SYSTEM: stat.S_IFREG, FileType.RDM: stat.S_IFREG,
}  # fmt: skip
IN_USE = int(LockType.FILE_DESCRIPTOR)
TYPES = range(FileType.DIRECTORY, FileType.RDM + 1)
ZERO_LEVELS = frozenset(map(int, ZeroLevel))
BLOCKS_MAX = {  # of a file, by its zla
    ZeroLevel.NONE: 0, ZeroLevel.FILE_BLOCK: ADDRESSES, ZeroLevel.SUB_BLOCK: ADDRESSES,
    ZeroLevel.POINTER_BLOCK: ADDRESSES * PER_POINTER_BLOCK, ZeroLevel.POINTER_BLOCK_2: ADDRESSES * PER_POINTER_BLOCK,
    ZeroLevel.DOUBLE: ADDRESSES * PER_POINTER_BLOCK**2,
}  # fmt: skip


class Descriptor:
    """`raw` is the record as it lies at byte `position` of the volume. It is not read again."""

    def __init__(self, raw: np.void, position: int, volume: object) -> None:
        self.raw, self.position, self.volume = raw, position, volume

    def __repr__(self) -> str:
        return f"<{addresses.describe(self.address)} {self.type.name.lower()} of {self.length} bytes>"

    def _number(self, name: str) -> int:
        return int(self.raw[name])

    @property
    def address(self) -> int:
        return self._number("address")

    @property
    def generation(self) -> int:
        return self._number("generation")

    @property
    def nlink(self) -> int:
        return self._number("nlink")

    @property
    def type(self) -> FileType:
        return FileType(self._number("type"))

    @property
    def flags(self) -> int:
        return self._number("flags")

    @property
    def length(self) -> int:
        return self._number("length")

    @property
    def block_size(self) -> int:
        return self._number("block_size")

    @property
    def num_blocks(self) -> int:
        return self._number("num_blocks")

    @property
    def mtime(self) -> int:
        return self._number("mtime")

    @property
    def ctime(self) -> int:
        return self._number("ctime")

    @property
    def atime(self) -> int:
        return self._number("atime")

    @property
    def uid(self) -> int:
        return self._number("uid")

    @property
    def gid(self) -> int:
        return self._number("gid")

    @property
    def stored_mode(self) -> int:
        return self._number("mode")

    @property
    def mode(self) -> int:
        """As stat gives it: the stored type bits where there are any, else those of the type."""
        stored = self.stored_mode
        return stored if stat.S_IFMT(stored) else stored | self.type_bits

    @property
    def type_bits(self) -> int:
        """S_IFDIR and so on. VMFS-5 keeps a directory (.sdd.sf) as a system file."""
        if self.type == FileType.SYSTEM and stat.S_ISDIR(self.stored_mode):
            return stat.S_IFDIR
        return TYPE_BITS.get(self.type, 0)

    @property
    def zla(self) -> ZeroLevel:
        return ZeroLevel(self._number("zla"))

    @property
    def tbz(self) -> int:
        return self._number("tbz")

    @property
    def cow(self) -> int:
        return self._number("cow")

    @property
    def block_offset_shift(self) -> int:
        return self._number("block_offset_shift")

    @property
    def lock(self) -> Any:
        """A LOCK record."""
        return self.raw["lock"]

    @property
    def addresses(self) -> NDArray[np.uint32]:
        """All 256 words. They are no addresses in a raw device mapping or with ZeroLevel.RESIDENT."""
        return np.asarray(self.raw["contents"], ADDRESS)

    @property
    def resident(self) -> bytes:
        """The contents, with ZeroLevel.RESIDENT."""
        return self.addresses.tobytes()[: min(self.length, RESIDENT_MAX)]

    @property
    def disk_id(self) -> Any:
        """Of a raw device mapping: which LUN."""
        return parse_disk_id(self.addresses.tobytes())

    @property
    def is_directory(self) -> bool:
        return self.type == FileType.DIRECTORY or (self.type == FileType.SYSTEM and stat.S_ISDIR(self.stored_mode))

    @property
    def is_file(self) -> bool:
        return self.type in (FileType.REGULAR, FileType.SYSTEM) and not self.is_directory

    @property
    def is_symlink(self) -> bool:
        return self.type == FileType.SYMLINK

    @property
    def is_rdm(self) -> bool:
        return self.type == FileType.RDM

    def address_position(self, index: int) -> int:
        """The byte of the volume where an address lies."""
        return self.position + CONTENTS_AT + index * ADDRESS.itemsize

    def wrong(self, name: str, what: str, expected: str, found: object) -> CorruptVolume:
        """An error about one field. `what` says of which file."""
        return CorruptVolume(self.volume, self.position + OFFSETS[name], what, expected, str(found))


def parse(raw: bytes, position: int, volume: object) -> Descriptor:
    """From 2048 bytes. Nothing is judged."""
    return Descriptor(np.frombuffer(raw, DESCRIPTOR, 1)[0], position, volume)


def judge(fd: Descriptor, address: int, *, deleted: bool = False) -> Descriptor:
    """The same, when it can be that of this address. `deleted`: one without links too. Raises CorruptVolume."""

    def name() -> str:
        return addresses.describe(address)

    lock_type = int(fd.lock["type"])
    if lock_type != IN_USE:
        raise fd.wrong("lock", f"lock type of {name()}", f"{IN_USE:#x}", f"{lock_type:#x}, no descriptor in use")
    if fd.address != address:
        raise fd.wrong("address", "address of a descriptor", f"{address:#x}, {name()}", f"{fd.address:#x}")
    if not fd.nlink and not deleted:
        raise fd.wrong("nlink", f"links to {name()}", "1 or more", "0, a deleted file")
    kind, zla = int(fd.raw["type"]), int(fd.raw["zla"])
    if kind not in TYPES:
        raise fd.wrong("type", f"type of {name()}", f"{TYPES.start} to {TYPES.stop - 1}", kind)
    if zla not in ZERO_LEVELS:
        raise fd.wrong("zla", f"zero-level address type of {name()}", "1, 2, 3, or one of VMFS-5", f"{zla:#x}")
    return fd
