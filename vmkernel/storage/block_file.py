"""An open file or block device of the host, read and written at byte offsets straight from and to buffers.

Files of other places are opened here too (see place.py), and are BlockFiles with other methods underneath. Whoever
needs more than bytes asks for `host_runs`: which descriptors of the host they lie in, and where.
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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from ringfence.errors import HostRefused
from vmkernel.storage.errors import CorruptImage, HostTrouble, Locked, MissingLink, OutOfSpace
from vmkernel.storage.place import Place, elsewhere

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]

VIEWS_MAX = os.sysconf("SC_IOV_MAX")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NEVER_AT_ONCE = (errno.EOPNOTSUPP, errno.ENOSYS)
KEEP_SIZE, PUNCH_HOLE = 0x01, 0x02  # linux/falloc.h
ZEROS = memoryview(bytes(1 << 20))  # a view: a part of it is no copy
COPY_BYTES = 4 << 20
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]

View = memoryview | bytes | bytearray
Call = Callable[[int, Sequence[View], int], int]


class HostRun(NamedTuple):
    """Bytes of a file that lie together in what the host has open as `fd`; None: nowhere, they are zeros."""

    fd: int | None
    offset: int
    length: int


class BlockFile:
    """`size` is in bytes, and is kept as this object changes it; `refresh` asks the host."""

    def __init__(self, fd: int, path: Place, *, writable: bool) -> None:
        self.fd, self.path, self.writable = fd, path, writable
        self.size = os.lseek(fd, 0, os.SEEK_END)
        self._lost = ""
        self._nowait = True  # until the file system says that it does not know RWF_NOWAIT

    @classmethod
    def open(cls, path: Place, *, writable: bool = False, lock: bool = True) -> BlockFile:
        """A regular file or block device; a FIFO is refused, not waited for. Raises MissingLink or HostRefused."""
        if (other := elsewhere(path)) is not None:
            return other.open_file(writable=writable, lock=lock)
        flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            fd = os.open(cast(Path, path), flags)
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
    def create(cls, path: Place, mode: int = 0o644) -> BlockFile:
        """A new file, locked for writing. Raises HostRefused where one of this name is there already."""
        if (other := elsewhere(path)) is not None:
            return other.create_file(mode)
        try:
            fd = os.open(cast(Path, path), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
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

    def lock(self, *, writable: bool) -> None:
        """Against others, from now on. Raises Locked."""
        take_lock(self.fd, self.path, writable=writable)

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
        try:
            data = os.pread(self.fd, length, offset)
            while len(data) < length and (more := os.pread(self.fd, length - len(data), offset + len(data))):
                data += more
        except OSError as error:
            raise self._trouble(offset, error) from error
        return data

    def read(self, offset: int, views: Sequence[memoryview]) -> None:
        """Fill the views. Raises HostTrouble where the file ends before."""
        wanted = sum(map(len, views))
        moved = self._move(os.preadv, offset, views)
        if moved < wanted:
            raise HostTrouble(self.path, offset + moved, f"the file ends here, {wanted - moved} bytes too early")

    def write(self, offset: int, views: Sequence[View]) -> None:
        length = sum(map(len, views))
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
            if not moved or (len(views) <= VIEWS_MAX and moved == sum(map(len, views))):
                break
            views = after(views, moved)
        return total

    def _trouble(self, offset: int, error: OSError) -> HostTrouble:
        kind = OutOfSpace if error.errno in FULL else HostTrouble
        return kind(self.path, offset, error.strerror or str(error))

    def read_at_once(self, offset: int, views: Sequence[memoryview]) -> int:
        """One preadv: how many bytes it moved, perhaps fewer than wanted, and 0 where the host refused it."""
        try:
            return os.preadv(self.fd, views, offset)
        except OSError:
            return 0

    def read_cached(self, offset: int, views: Sequence[memoryview]) -> int:
        """How many bytes the host gave without waiting for a device; 0 where it cannot tell."""
        return self._cached(self.fd, offset, views)

    def _cached(self, fd: int, offset: int, views: Sequence[memoryview]) -> int:
        if self._nowait:
            try:
                return os.preadv(fd, views, offset, os.RWF_NOWAIT)
            except OSError as error:
                self._nowait = error.errno not in NEVER_AT_ONCE
        return 0

    def write_cached(self, offset: int, views: Sequence[memoryview]) -> int:
        """How many bytes went over others into the host's page cache; 0 where it takes more than that."""
        if offset + sum(map(len, views)) > self.size:
            return 0
        try:
            return os.pwritev(self.fd, views, offset)
        except OSError:
            return 0

    # where the bytes are

    def host_runs(self, offset: int, length: int) -> list[HostRun]:
        """Where a range can be read, in order."""
        return [HostRun(self.fd, offset, length)]

    def located(self, offset: int, length: int) -> Iterator[tuple[BlockFile | None, int, int]]:
        """The same with the host's files, None for zeros: (file, offset, length)."""
        yield self, offset, length

    def places(self, offsets: Numbers, length: int) -> list[tuple[int, Numbers | slice, Numbers]]:
        """(fd, which of the offsets, where in fd) for those reads of `length` bytes that are one preadv each."""
        return [(self.fd, slice(None), offsets)]

    def next_data(self, at: int, end: int) -> int:
        """The first byte from `at` on that takes up space; `end` where there is none."""
        return min(seek(self.fd, at, os.SEEK_DATA, end), end)

    def next_hole(self, at: int, end: int) -> int:
        """The first byte from `at` on that takes up none; `end` where there is none."""
        return min(seek(self.fd, at, os.SEEK_HOLE, end), end)

    def copy_from(self, source: BlockFile, start: int, at: int, length: int) -> bool:
        """Copy bytes of another file inside the host, which may share the blocks. False: not between these files."""
        for run in source.host_runs(start, length):
            if run.fd is None or not self._copy_run(run.fd, run, at):
                return False
            at += run.length
        return True

    def _copy_run(self, fd: int, run: HostRun, at: int) -> bool:
        done = 0
        while done < run.length:
            try:
                moved = os.copy_file_range(fd, self.fd, run.length - done, run.offset + done, at + done)
            except OSError:
                return False
            if not moved:
                return False
            done += moved
        return True

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

    def make_room(self, end: int) -> None:
        """For a file that may be longer than what is used of it: writes up to here are to come."""

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


def take_lock(fd: int, path: Place, *, writable: bool) -> None:
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if writable else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno == errno.EWOULDBLOCK:
            raise Locked(f"{path}: another process has it open{'' if writable else ' for writing'}") from error
        raise HostRefused(f"{path}: cannot lock: {error.strerror}") from error


def seek(fd: int, at: int, whence: int, end: int) -> int:
    """The next data or hole; `end` where there is none, and all data where the host cannot tell."""
    try:
        return os.lseek(fd, at, whence)
    except OSError as error:
        return at if whence == os.SEEK_DATA and error.errno != errno.ENXIO else end


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
    if not start and sum(map(len, views)) == length:
        return views
    taken = []
    for view in views:
        if start >= len(view):
            start -= len(view)
            continue
        if length <= 0:
            break
        taken.append(view[start : start + length] if start or len(view) > length else view)
        length -= len(taken[-1])
        start = 0
    return taken


def fill_zeros(views: Sequence[memoryview]) -> None:
    for view in views:
        for at in range(0, len(view), len(ZEROS)):
            piece = view[at : at + len(ZEROS)]
            piece[:] = ZEROS[: len(piece)]


def replace_file(path: Place, data: bytes) -> None:
    """New contents under an old name, all or nothing, also after a power failure. Raises HostRefused."""
    if (other := elsewhere(path)) is not None:
        other.replace_contents(data)
        return
    path = cast(Path, path)
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


def copy_file(source: Place, target: Place, mode: int = 0o644) -> None:
    """A new file with the same contents and holes, durable. Raises MissingLink, HostRefused and HostTrouble."""
    with BlockFile.open(source, lock=False) as old, BlockFile.create(target, mode) as new:
        new.truncate(old.size)
        buffer = memoryview(bytearray(min(COPY_BYTES, old.size)))
        at = old.next_data(0, old.size)
        while at < old.size:
            end = old.next_hole(at, old.size)
            while at < end:
                part = buffer[: min(len(buffer), end - at)]
                old.read(at, [part])
                new.write(at, [part])
                at += len(part)
            at = old.next_data(at, old.size)
        new.sync()


def sync_folder(folder: Place) -> None:
    """The names in a directory survive a power failure from here on."""
    if (other := elsewhere(folder)) is not None:
        other.sync_names()
        return
    fd = os.open(cast(Path, folder), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
