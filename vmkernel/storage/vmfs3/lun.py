"""A LUN: the VMFS partition of an image file or block device, or a whole one that has no partition table.

Opening takes a shared flock on the file, whoever opens: hosts share a LUN, and tools that want it for themselves do
not get it meanwhile. A SCSI reservation is an open-file-description lock on the first byte of the partition: each
opening has its own, so two hosts are kept apart whether they are processes or two openings in one.
Not modelled: reservations that another machine sees; partitions within an extended partition's own table are found.
"""

from __future__ import annotations

import errno
import fcntl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast
from uuid import UUID

from vmkernel.storage.block_file import BlockFile, View, take_lock
from vmkernel.storage.disk import SECTOR_BYTES
from vmkernel.storage.errors import HostTrouble, Locked
from vmkernel.storage.partitions import Partition, partitions
from vmkernel.storage.vmfs3 import lvm_spec, volume_spec
from vmkernel.storage.vmfs3.errors import NotVmfs

RESERVE_TRIES_S = 10.0
RESERVE_STEP_S = 0.005
SIZE_MAX = 1 << 50  # a partition that is larger is none
FLOCK = struct.Struct("hhqqi4x")  # struct flock of 64-bit hosts
LVM_MAGIC, FS_MAGICS = (
    lvm_spec.MAGIC.to_bytes(4, "little"),
    tuple(magic.to_bytes(4, "little") for magic in (volume_spec.MAGIC, volume_spec.MAGIC_LOCAL)),
)
MBR_KIND = f"{lvm_spec.PARTITION_TYPE:02x}"
GPT_KIND = UUID(lvm_spec.PARTITION_GUID).bytes_le.hex()


class Lun:
    """Byte offsets are relative to the partition, which begins at byte `base` of the file and has `size` bytes.

    `is_bare`: it has no LVM, and is the logical volume itself. An image that was cut short ends before `size`: who
    reads what is not there gets a HostTrouble.
    """

    def __init__(self, file: BlockFile, base: int, size: int, *, is_bare: bool = False) -> None:
        self.file, self.base, self.size, self.is_bare = file, base, size, is_bare
        self._reserved = 0
        self._threads = threading.RLock()

    @classmethod
    def open(cls, path: Path, *, writable: bool = False) -> Lun:
        """Raises NotVmfs where there is no VMFS partition, Locked, or what BlockFile.open raises."""
        file = BlockFile.open(path, writable=writable, lock=False)
        try:
            take_lock(file.fd, path, writable=False)
            return find(file)
        except BaseException:
            file.close()
            raise

    def __enter__(self) -> Lun:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __str__(self) -> str:
        return str(self.path)

    @property
    def path(self) -> Path:
        return cast(Path, self.file.path)

    @property
    def fd(self) -> int:
        return self.file.fd

    @property
    def writable(self) -> bool:
        return self.file.writable

    def claim(self, size: int) -> None:
        """Its own header says that it is larger than the file, which no partition table has told."""
        if not self.base:
            self.size = max(self.size, size)

    def close(self) -> None:
        self.file.close()

    # bytes

    def read(self, offset: int, views: Sequence[memoryview]) -> None:
        """Fill the views. Raises HostTrouble, also past the partition's end."""
        self._judge(offset, views)
        self.file.read(self.base + offset, views)

    def write(self, offset: int, views: Sequence[View]) -> None:
        self._judge(offset, views)
        self.file.write(self.base + offset, views)

    def bytes_at(self, offset: int, length: int) -> bytes:
        data = bytearray(length)
        self.read(offset, [memoryview(data)])
        return bytes(data)

    def sync(self) -> None:
        self.file.sync()

    def _judge(self, offset: int, views: Sequence[View]) -> None:
        length = sum(map(len, views))
        if offset < 0 or offset + length > self.size:
            raise HostTrouble(self.path, self.base + offset, f"{length} bytes here reach past the end of the partition")
        if self.base + offset + length > self.file.size and self.base + offset + length > self.file.refresh():
            raise HostTrouble(self.path, self.base + offset, f"the image ends before, after {self.file.size} bytes")

    # SCSI RESERVE and RELEASE

    @contextmanager
    def reserve(self) -> Iterator[None]:
        """No other host writes metadata meanwhile. May be nested. Raises Locked where another keeps it too long."""
        with self._threads:
            if not self._reserved:
                self._take(fcntl.F_WRLCK)
            self._reserved += 1
            try:
                yield
            finally:
                self._reserved -= 1
                if not self._reserved and self.fd >= 0:
                    self._lock(fcntl.F_UNLCK)

    def _take(self, how: int, clock: Callable[[], float] = time.monotonic) -> None:
        end = clock() + RESERVE_TRIES_S
        while not self._lock(how):
            if clock() > end:
                raise Locked(f"{self.path}: another host has kept the device reserved for {RESERVE_TRIES_S:.0f} s")
            time.sleep(RESERVE_STEP_S)

    def _lock(self, how: int) -> bool:
        try:
            fcntl.fcntl(self.fd, fcntl.F_OFD_SETLK, FLOCK.pack(how, 0, self.base, 1, 0))
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise HostTrouble(self.path, self.base, f"cannot reserve: {error.strerror}") from error
        return True


class Sectors:
    """What a partition table's reader needs of a file. Zeros follow its end: a partition may reach past it."""

    size_bytes = SIZE_MAX

    def __init__(self, file: BlockFile) -> None:
        self.file = file

    def read(self, offset: int, views: Sequence[memoryview]) -> None:
        done = 0
        for view in views:
            view[:] = self.file.some_at(offset + done, len(view)).ljust(len(view), b"\0")
            done += len(view)


def find(file: BlockFile) -> Lun:
    """The whole, or the first partition of VMFS's type that holds one, or else of any type. Raises NotVmfs."""
    whole = lun_at(file, 0, file.size)
    if whole is not None:
        return whole
    table = table_of(file)
    for partition in sorted(table, key=lambda entry: entry.kind not in (MBR_KIND, GPT_KIND)):
        found = lun_at(file, partition.start, partition.length)
        if found is not None:
            return found
    seen = ", ".join(f"{entry.number} of type {entry.kind}" for entry in table[:8]) or "no partition within them"
    raise NotVmfs(
        str(file.path), "contents", f"LVM's magic number at byte {lvm_spec.HEADER_AT:#x} of it or of a partition",
        f"{file.size} bytes, {seen}",
    )  # fmt: skip


def table_of(file: BlockFile) -> list[Partition]:
    return partitions(Sectors(file)) if file.size >= SECTOR_BYTES else []  # type: ignore[arg-type]


def lun_at(file: BlockFile, base: int, size: int) -> Lun | None:
    """None where no VMFS begins there."""
    if file.some_at(base + lvm_spec.HEADER_AT, len(LVM_MAGIC)) == LVM_MAGIC:
        return Lun(file, base, size)
    if file.some_at(base + volume_spec.SUPERBLOCK_AT, len(LVM_MAGIC)) in FS_MAGICS:
        return Lun(file, base, size, is_bare=True)
    return None
