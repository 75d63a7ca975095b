"""An open file or block device of the host, read and written at byte offsets straight from and to buffers.

Locks: a writer holds flock(LOCK_EX) on the file, a reader LOCK_SH, both without waiting: one writes, or several read.
The lock goes with the descriptor, so it ends with the process. It is advisory, and another host that mounts the same
directory sees it only where the file system passes flock on.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from ringfence.errors import HostRefused
from vmkernel.storage.errors import CorruptImage, HostTrouble, Locked, MissingLink, OutOfSpace

VIEWS_MAX = os.sysconf("SC_IOV_MAX")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
KEEP_SIZE, PUNCH_HOLE = 0x01, 0x02  # linux/falloc.h
ZEROS = bytes(1 << 20)
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]

View = memoryview | bytes | bytearray
Call = Callable[[int, Sequence[View], int], int]


class BlockFile:
    """`size` is in bytes, and is kept as this object changes it; `refresh` asks the host."""

    def __init__(self, fd: int, path: Path, *, writable: bool) -> None:
        self.fd, self.path, self.writable = fd, path, writable
        self.size = os.lseek(fd, 0, os.SEEK_END)
        self._lost = ""

    @classmethod
    def open(cls, path: Path, *, writable: bool = False, lock: bool = True) -> BlockFile:
        """A regular file or block device; a FIFO is refused, not waited for. Raises MissingLink or HostRefused."""
        flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            fd = os.open(path, flags)
        except FileNotFoundError as error:
            raise MissingLink(str(path), "image", "a file", "none of this name") from error
        except (OSError, ValueError) as error:
            raise HostRefused(f"{path}: cannot open: {getattr(error, 'strerror', None) or error}") from error
        try:
            if not stat.S_ISREG(mode := os.fstat(fd).st_mode) and not stat.S_ISBLK(mode):
                raise HostRefused(f"{path}: cannot open: expected a regular file or a block device")
            if lock:
                take_lock(fd, path, writable=writable)
            return cls(fd, path, writable=writable)
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def create(cls, path: Path) -> BlockFile:
        """A new file, locked for writing. Raises HostRefused where one of this name is there already."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except (OSError, ValueError) as error:
            raise HostRefused(f"{path}: cannot create: {getattr(error, 'strerror', None) or error}") from error
        try:
            take_lock(fd, path, writable=True)
            return cls(fd, path, writable=True)
        except BaseException:
            os.close(fd)
            raise

    def __enter__(self) -> BlockFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def share(self) -> None:
        """Write no more, and let others read. Where the lock cannot be changed it stays as it is."""
        self.writable = False
        with contextlib.suppress(OSError):
            fcntl.flock(self.fd, fcntl.LOCK_SH | fcntl.LOCK_NB)

    @property
    def identity(self) -> tuple[int, int]:
        """The same for two names of one file."""
        status = os.fstat(self.fd)
        return status.st_dev, status.st_ino

    def refresh(self) -> int:
        self.size = os.lseek(self.fd, 0, os.SEEK_END)
        return self.size

    def allocated(self) -> int:
        """Bytes that the file takes up on the host."""
        return os.fstat(self.fd).st_blocks * 512

    # bytes

    def bytes_at(self, offset: int, length: int, what: str = "file") -> bytes:
        """All of them. Raises CorruptImage where the file ends before."""
        data = self.some_at(offset, length)
        if len(data) < length:
            raise CorruptImage(self.path, offset, what, f"{length} bytes", f"the end of the file at {self.size}")
        return data

    def some_at(self, offset: int, length: int) -> bytes:
        """As many as there are, up to `length`: never more memory than the file has bytes."""
        length = min(length, max(self.refresh() - offset, 0))
        data = bytearray(length)
        return bytes(data[: self._move(os.preadv, offset, [memoryview(data)])])

    def read(self, offset: int, views: Sequence[memoryview]) -> None:
        """Fill the views. Raises HostTrouble where the file ends before."""
        wanted = sum(len(view) for view in views)
        moved = self._move(os.preadv, offset, views)
        if moved < wanted:
            raise HostTrouble(self.path, offset + moved, f"the file ends here, {wanted - moved} bytes too early")

    def write(self, offset: int, views: Sequence[View]) -> None:
        length = sum(len(view) for view in views)
        if self._move(os.pwritev, offset, views) < length:
            raise HostTrouble(self.path, offset, "the host wrote less than it was given")
        self.size = max(self.size, offset + length)

    def _move(self, call: Call, offset: int, views: Sequence[View]) -> int:
        total = 0
        while views:
            try:
                moved = call(self.fd, views[:VIEWS_MAX] if len(views) > VIEWS_MAX else views, offset + total)
            except OSError as error:
                raise self._trouble(offset + total, error) from error
            total += moved
            views = after(views, moved)
            if not moved:
                break
        return total

    def _trouble(self, offset: int, error: OSError) -> HostTrouble:
        kind = OutOfSpace if error.errno in FULL else HostTrouble
        return kind(self.path, offset, error.strerror or str(error))

    # durability and space

    def sync(self) -> None:
        """After one failure the host may forget what it could not write, so every later flush fails too."""
        try:
            if not self._lost:
                os.fdatasync(self.fd)
        except OSError as error:
            self._lost = error.strerror or str(error)
        if self._lost:
            raise HostTrouble(self.path, 0, f"cannot flush: {self._lost}")

    def truncate(self, size: int) -> None:
        try:
            os.ftruncate(self.fd, size)
        except OSError as error:
            raise self._trouble(size, error) from error
        self.size = size

    def reserve(self, size: int) -> None:
        """Blocks for all bytes up to `size`, which read as zeros until they are written."""
        if not size:
            return
        try:
            os.posix_fallocate(self.fd, 0, size)
        except OSError as error:
            raise self._trouble(0, error) from error
        self.size = max(self.size, size)

    def zero(self, offset: int, length: int, *, punch: bool = False) -> None:
        """Make a range read as zeros; `punch` gives its blocks back where the host can."""
        if punch and offset + length <= self.size and not self._punch(offset, length):
            return
        for at in range(offset, offset + length, len(ZEROS)):
            self.write(at, [ZEROS[: offset + length - at]])

    def _punch(self, offset: int, length: int) -> int:
        return int(_libc.fallocate(self.fd, KEEP_SIZE | PUNCH_HOLE, offset, length))


def take_lock(fd: int, path: Path, *, writable: bool) -> None:
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if writable else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno == errno.EWOULDBLOCK:
            raise Locked(f"{path}: another process has it open{'' if writable else ' for writing'}") from error
        raise HostRefused(f"{path}: cannot lock: {error.strerror}") from error


def after(views: Sequence[View], length: int) -> Sequence[View]:
    """The views without their first `length` bytes."""
    for index, view in enumerate(views):
        if length < len(view):
            return [view[length:] if isinstance(view, memoryview) else memoryview(view)[length:], *views[index + 1 :]]
        length -= len(view)
    return ()


def cut(views: Sequence[memoryview], start: int, length: int) -> Sequence[memoryview]:
    """`length` bytes of the views, from byte `start` of them on."""
    if len(views) == 1:
        return views if not start and len(views[0]) == length else [views[0][start : start + length]]
    taken = []
    for view in views:
        if start >= len(view):
            start -= len(view)
            continue
        if length <= 0:
            break
        taken.append(view[start : start + length])
        length -= len(taken[-1])
        start = 0
    return taken


def fill_zeros(views: Sequence[memoryview]) -> None:
    for view in views:
        for at in range(0, len(view), len(ZEROS)):
            piece = view[at : at + len(ZEROS)]
            piece[:] = ZEROS[: len(piece)]


def replace_file(path: Path, data: bytes) -> None:
    """New contents under an old name, all or nothing, also after a power failure. Raises HostRefused."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o644
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        with os.fdopen(fd, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise HostRefused(f"{path}: cannot write: {error.strerror}") from error


def sync_folder(folder: Path) -> None:
    """The names in a directory survive a power failure from here on."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
