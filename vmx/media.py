"""What is in the drives: files and block devices of the host, and files of volumes, as numbered blocks.

    open_disk     a raw disk image or a host's disk    512 bytes   locked against a second machine
    open_disc     an ISO image or a host's CD drive    2048 bytes  read-only
    open_floppy   an image of a 3.5-inch diskette      512 bytes   locked likewise

Requests go to the host by preadv and pwritev straight from and to guest memory, in the calling thread: an optical drive
that has to spin up holds the vCPU that asked. Whatever the host does not do is a MediaError, whose reason is kept in
`trouble`; what it wrote but could not flush counts as lost for ever.
Source: ECMA-119, 8.4 (primary volume descriptor) and ECMA-130, 14 (sectors of 2352 bytes).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import cast

from hw.fdc_spec import BY_BLOCKS
from hw.ide.ata_spec import HEADS, SECTORS_PER_TRACK
from ringfence.errors import BadInput, HostRefused, MediaError, RingfenceError
from vmkernel.storage.block_file import BlockFile, cut
from vmkernel.storage.errors import HostTrouble
from vmkernel.storage.place import Place, elsewhere

SECTOR_BYTES, DISC_BLOCK_BYTES = 512, 2048
CYLINDER_BYTES = HEADS * SECTORS_PER_TRACK * SECTOR_BYTES
DISC_BLOCKS_MAX = 1 << 32
VIEWS_MAX = os.sysconf("SC_IOV_MAX")
NO_FD = -1

RAW_SECTOR_BYTES = 2352
RAW_SYNC = b"\x00" + b"\xff" * 10 + b"\x00"
VOLUME_DESCRIPTOR, DESCRIPTOR_ID = 16 * DISC_BLOCK_BYTES, b"\x01CD001"
VOLUME_BLOCKS_AT, VOLUME_BLOCKS_BYTES = 80, 4

VHD_MAGIC = b"conectix"  # also in the last sector, which is all that a fixed one has
# Image formats that a guest would overwrite or misread if they were taken for raw sectors.
CONTAINERS = {
    b"KDMV": "a sparse VMDK extent",
    b"COWD": "a VMDK redo log",
    b"# Disk DescriptorFile": "a VMDK descriptor",
    b"QFI\xfb": "a qcow image",
    VHD_MAGIC: "a VHD image",
    b"vhdxfile": "a VHDX image",
    b"<<< ": "a VDI image",
}


class HostBlocks:
    """An open file or block device of the host as blocks: a hw.wiring.BlockDevice. `close` gives it back."""

    def __init__(self, fd: int, path: Place, block_size: int, size: int, *, writable: bool) -> None:
        self.fd, self.path, self.writable = fd, path, writable
        self.block_size = block_size
        self.bytes = size
        self.notice = ""  # what a person should know of this medium
        self.trouble = ""  # the host's latest reason for a MediaError
        self._lost = False

    @property
    def blocks(self) -> int:
        """A last block that the file does not fill is there, zeros behind its end."""
        return -(-self.bytes // self.block_size)

    def read(self, block: int, views: list[memoryview]) -> None:
        self._move(os.preadv, block, views)

    def write(self, block: int, views: list[memoryview]) -> None:
        if not self.writable:
            raise self._error(block, views, "it is read-only")
        self._move(os.pwritev, block, views)

    def flush(self) -> None:
        """After one failure the host may forget what it could not write, so every later flush fails too."""
        try:
            if self.writable and not self._lost:
                os.fdatasync(self.fd)
        except OSError as error:
            self._lost = True
            self.trouble = f"{self.path}: {error.strerror}"
        if self._lost:
            raise MediaError(0, self.blocks)

    def close(self) -> None:
        os.close(self.fd)

    def head(self, at: int, length: int) -> bytes:
        """Bytes as they are, fewer at the end. Raises HostRefused."""
        return read_at(self.fd, at, length, str(self.path))

    def _move(self, call: Callable[[int, list[memoryview], int], int], block: int, views: list[memoryview]) -> None:
        at, left = block * self.block_size, list(views)
        while left:
            try:
                moved = call(self.fd, left[:VIEWS_MAX], at)
            except OSError as error:
                raise self._error(at // self.block_size, views, error.strerror) from error
            if not moved:
                self._past_end(at, left, views, reading=call is os.preadv)
                return
            at += moved
            left = after(left, moved)

    def _past_end(self, at: int, left: list[memoryview], views: list[memoryview], *, reading: bool) -> None:
        """The rest of a last block that the file does not fill reads as zeros; anything else is an error."""
        rest = sum(len(view) for view in left)
        if not reading or at < self.bytes or at + rest > self.blocks * self.block_size:
            raise self._error(at // self.block_size, views, f"it ends at byte {at}, and had {self.bytes}")
        for view in left:
            view[:] = bytes(len(view))

    def _error(self, block: int, views: list[memoryview], reason: str | None) -> MediaError:
        self.trouble = f"{self.path}: block {block}: {reason}"
        return MediaError(block, sum(len(view) for view in views) // self.block_size)


class VolumeBlocks(HostBlocks):
    """The same of a file that is on a volume."""

    def __init__(self, file: BlockFile, block_size: int) -> None:
        super().__init__(NO_FD, file.path, block_size, file.size, writable=file.writable)
        self.file = file

    def read(self, block: int, views: list[memoryview]) -> None:
        at = block * self.block_size
        inside = min(sum(map(len, views)), max(self.bytes - at, 0))
        try:
            self.file.read(at, cut(views, 0, inside))
        except HostTrouble as error:
            raise self._error(block, views, error.reason) from error
        if inside < sum(map(len, views)):
            self._past_end(at + inside, list(cut(views, inside, sum(map(len, views)))), views, reading=True)

    def write(self, block: int, views: list[memoryview]) -> None:
        at = block * self.block_size
        if not self.writable or at + sum(map(len, views)) > self.bytes:
            raise self._error(block, views, "it is read-only" if not self.writable else "it ends before")
        try:
            self.file.write(at, views)
        except RingfenceError as error:
            raise self._error(block, views, str(error)) from error

    def flush(self) -> None:
        try:
            if self.writable:
                self.file.sync()
        except RingfenceError as error:
            self.trouble = str(error)
            raise MediaError(0, self.blocks) from error

    def close(self) -> None:
        self.file.close()

    def head(self, at: int, length: int) -> bytes:
        return self.file.some_at(at, length)


def after(views: list[memoryview], length: int) -> list[memoryview]:
    """The views without their first `length` bytes."""
    for index, view in enumerate(views):
        if length < len(view):
            return [view[length:], *views[index + 1 :]]
        length -= len(view)
    return []


def open_host(path: Place, flags: int, what: str) -> tuple[int, os.stat_result]:
    """Open a regular file or block device; a FIFO or terminal is refused, not waited for. Raises HostRefused."""
    try:
        fd = os.open(cast(Path, path), flags | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise HostRefused(f"{path}: cannot open {what}: {getattr(error, 'strerror', None) or error}") from error
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISBLK(status.st_mode):
        os.close(fd)
        raise HostRefused(f"{path}: cannot open {what}: expected a regular file or a block device")
    return fd, status


def lock(fd: int, path: Place, *, writable: bool) -> None:
    """One machine writes, or several read; the lock goes with the descriptor. Raises HostRefused, `fd` closed."""
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if writable else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        if error.errno == errno.EWOULDBLOCK:
            raise HostRefused(f"{path}: another machine has it open") from error
        raise HostRefused(f"{path}: cannot lock: {error.strerror}") from error


def size_of(fd: int) -> int:
    """Bytes, of a device too."""
    return os.lseek(fd, 0, os.SEEK_END)


def open_disk(path: Place, *, read_only: bool = False) -> HostBlocks:
    """A hard disk from an image of bare sectors. Raises HostRefused or BadInput."""
    fd, _ = open_host(path, os.O_RDONLY if read_only else os.O_RDWR, "disk image")
    lock(fd, path, writable=not read_only)
    size = size_of(fd)
    try:
        refuse_container(fd, path, size)
        if size % SECTOR_BYTES:
            raise BadInput(str(path), "size", f"a multiple of {SECTOR_BYTES} bytes", f"{size}")
        if size < CYLINDER_BYTES:
            raise BadInput(str(path), "size", f"at least one cylinder, {CYLINDER_BYTES} bytes", f"{size}")
    except (BadInput, HostRefused):
        os.close(fd)
        raise
    return HostBlocks(fd, path, SECTOR_BYTES, size, writable=not read_only)


def open_floppy(path: Place, *, read_only: bool = False) -> HostBlocks:
    """A diskette; one whose file cannot be written is write-protected. Raises HostRefused or BadInput."""
    if elsewhere(path) is not None:
        diskette = VolumeBlocks(BlockFile.open(path, writable=not read_only), SECTOR_BYTES)
        if not is_diskette(diskette.bytes):
            diskette.close()
            raise no_diskette(path, diskette.bytes)
        return diskette
    read_only = read_only or not may_write(path)
    fd, _ = open_host(path, os.O_RDONLY if read_only else os.O_RDWR, "floppy image")
    lock(fd, path, writable=not read_only)
    size = size_of(fd)
    if not is_diskette(size):
        os.close(fd)
        raise no_diskette(path, size)
    return HostBlocks(fd, path, SECTOR_BYTES, size, writable=not read_only)


def is_diskette(size: int) -> bool:
    return size % SECTOR_BYTES == 0 and size // SECTOR_BYTES in BY_BLOCKS


def no_diskette(path: Place, size: int) -> BadInput:
    known = ", ".join(str(blocks * SECTOR_BYTES) for blocks in sorted(BY_BLOCKS))
    return BadInput(str(path), "size of a floppy image", f"one of {known} bytes", f"{size}")


def may_write(path: Place) -> bool:
    """False only for a file that is there and must not be written."""
    host = cast(Path, path)
    try:
        return os.access(host, os.W_OK) or not os.access(host, os.R_OK)
    except ValueError:  # no file has such a name, which opening it will say
        return True


def open_disc(path: Place) -> HostBlocks:
    """A disc from an image of 2048-byte blocks. Raises HostRefused or BadInput."""
    if elsewhere(path) is not None:
        disc: HostBlocks = VolumeBlocks(BlockFile.open(path, lock=False), DISC_BLOCK_BYTES)
    else:
        fd, _ = open_host(path, os.O_RDONLY, "CD image")
        disc = HostBlocks(fd, path, DISC_BLOCK_BYTES, size_of(fd), writable=False)
    try:
        check_disc(disc)
    except (BadInput, HostRefused):
        disc.close()
        raise
    return disc


def check_disc(disc: HostBlocks) -> None:
    """Refuse what is not an image of 2048-byte blocks; notice one that is shorter than it says."""
    path, size = str(disc.path), disc.bytes
    if not size:
        raise BadInput(path, "CD image", "blocks of 2048 bytes", "an empty file")
    head = disc.head(0, len(RAW_SYNC))
    if head == RAW_SYNC:
        raise BadInput(path, "CD image", "blocks of 2048 bytes (ISO)", f"raw sectors of {RAW_SECTOR_BYTES} bytes")
    if disc.blocks > DISC_BLOCKS_MAX:
        raise BadInput(path, "CD image", f"at most {DISC_BLOCKS_MAX} blocks", f"{disc.blocks}")
    descriptor = disc.head(VOLUME_DESCRIPTOR, VOLUME_BLOCKS_AT + VOLUME_BLOCKS_BYTES)
    if descriptor.startswith(DESCRIPTOR_ID):
        claimed = int.from_bytes(descriptor[VOLUME_BLOCKS_AT:], "little")
        if claimed > disc.blocks:
            disc.notice = f"{path}: its volume has {claimed} blocks, the file only {disc.blocks}"


def refuse_container(fd: int, path: Place, size: int) -> None:
    """Raises BadInput for an image that is more than bare sectors."""
    head = read_at(fd, 0, max(map(len, CONTAINERS)), str(path))
    tail = read_at(fd, max(size - SECTOR_BYTES, 0), len(VHD_MAGIC), str(path))
    for magic, name in CONTAINERS.items():
        if head.startswith(magic) or tail == magic == VHD_MAGIC:
            raise BadInput(str(path), "disk image", "bare sectors", name)


def read_at(fd: int, at: int, length: int, path: str) -> bytes:
    try:
        return os.pread(fd, length, at)
    except OSError as error:
        raise HostRefused(f"{path}: cannot read: {error.strerror}") from error
