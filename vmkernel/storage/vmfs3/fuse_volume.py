"""A FUSE mount of a volume: its files as the host's programs see them.

The methods are what the binding mfusepy calls, from several threads at once; this file does without it. What goes wrong
is an OSError with the host's number. Owners are shown as whoever mounted it: on the volume all is root's, of ESX. A
volume that is only read is believed for a second to be what it was, for `ls -l` asks for each name.
Not modelled: hard links, device files, extended attributes, which VMFS-3 does not have.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from vmkernel.storage.fuse_requests import Numbers, Requests, refusal
from vmkernel.storage.vmfs3 import errors
from vmkernel.storage.vmfs3.descriptor import Descriptor
from vmkernel.storage.vmfs3.directory_spec import NAME_MAX
from vmkernel.storage.vmfs3.volume import Volume
from vmkernel.storage.vmfs3.walk import listing

NANOSECONDS = 10**9
SECTOR_BYTES = 512
BELIEVED_NS = NANOSECONDS
DIRECTORIES_MAX = 64  # that are kept in memory
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2  # sys/stat.h
Attributes = dict[str, int]
NUMBERS: Numbers = (
    (errors.NoSuchFile, errno.ENOENT), (errors.NotADirectory, errno.ENOTDIR), (errors.IsADirectory, errno.EISDIR),
    (errors.AlreadyThere, errno.EEXIST), (errors.NotEmpty, errno.ENOTEMPTY), (errors.BadName, errno.EINVAL),
    (errors.SystemFileRefused, errno.EPERM), (errors.FileTooLarge, errno.EFBIG), (errors.LinkLoop, errno.ELOOP),
    (errors.ReadOnlyVolume, errno.EROFS), (errors.VolumeFull, errno.ENOSPC),
)  # fmt: skip


class Contents(Protocol):
    """An open file, to be read; a writer has more."""

    @property
    def size(self) -> int: ...
    def read(self, offset: int, views: list[memoryview]) -> int | None: ...


@dataclass(slots=True)
class OpenFile:
    """A file that somebody has open, once for all who have. `writer`: the same object, where it is open for writing."""

    contents: Contents
    writer: Any = None
    users: int = 0


@dataclass(frozen=True, slots=True)
class Known:
    """What was read of a directory, and when."""

    at_ns: int
    files: dict[str, Descriptor]


class VolumeFolder:
    """`started` is called once it is mounted. After `close` every request is an error. `clock` counts nanoseconds."""

    use_ns = True

    def __init__(self, volume: Any, *, started: Callable[[], None], clock: Callable[[], int]) -> None:
        """`volume` is a Volume, or a WritableVolume to be written too."""
        self.volume, self._started, self._clock = volume, started, clock
        self.is_writable = bool(volume.writable)
        self._lock = threading.RLock()
        self._directories: dict[str, Known] = {}
        self._open: dict[int, OpenFile] = {}
        self._requests = Requests(NUMBERS)

    def close(self) -> None:
        """The volume is no more used when this returns; files that somebody has open are closed."""
        self._requests.close()
        for one in self._open.values():
            if one.writer is not None:
                one.writer.close()
        self._open.clear()

    # what the binding calls

    def init(self, path: str) -> None:
        self._started()

    def getattr(self, path: str, fh: int | None = None) -> Attributes:
        with self._using():
            return self._attributes(self._descriptor(path))

    def readdir(self, path: str, fh: int) -> list[str]:
        with self._using():
            return [".", "..", *self._names(path)]

    def readlink(self, path: str) -> str:
        with self._using():
            fd = self._descriptor(path)
            if not fd.is_symlink:
                raise refusal(errno.EINVAL)
            return str(self.volume.readlink(fd))

    def open(self, path: str, flags: int) -> int:
        writes = flags & os.O_ACCMODE != os.O_RDONLY
        with self._using(writes=writes):
            return self._opened(path, writes=writes)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        with self._using():
            contents = self._open[fh].contents
            data = bytearray(max(min(size, contents.size - offset), 0))
            contents.read(offset, [memoryview(data)])
            return bytes(data)

    def release(self, path: str, fh: int) -> int:
        with self._using(), self._lock:
            one = self._open[fh]
            one.users -= 1
            if not one.users:
                del self._open[fh]
                if one.writer is not None:
                    one.writer.close()
        return 0

    def statfs(self, path: str) -> Attributes:
        with self._using():
            counts = self.volume.statistics()
        total, free = counts["file_block"]
        files, free_files = counts["file_descriptor"]
        size = self.volume.block_size
        return {
            "f_bsize": size, "f_frsize": size, "f_blocks": total, "f_bfree": free, "f_bavail": free,
            "f_files": files, "f_ffree": free_files, "f_favail": free_files, "f_namemax": NAME_MAX,
        }  # fmt: skip

    # writing

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        with self._writing():
            self.volume.create(path, stat.S_IMODE(mode))
            return self._opened(path, writes=True)

    def mknod(self, path: str, mode: int, dev: int) -> int:
        if not stat.S_ISREG(mode):
            raise refusal(errno.EPERM)
        with self._writing():
            self.volume.create(path, stat.S_IMODE(mode))
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        with self._writing():
            self.volume.mkdir(path)
            self.volume.chmod(path, stat.S_IMODE(mode))
        return 0

    def unlink(self, path: str) -> int:
        with self._writing():
            self.volume.remove(path)
        return 0

    def rmdir(self, path: str) -> int:
        with self._writing():
            self.volume.rmdir(path)
        return 0

    def rename(self, old: str, new: str) -> int:
        with self._writing():
            self.volume.rename(old, new)
        return 0

    def symlink(self, target: str, source: str) -> int:
        """The binding names them the other way round: `target` is the new link, `source` what it says."""
        with self._writing():
            self.volume.symlink(source, target)
        return 0

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        with self._using(writes=True):
            self._writer(fh).write(offset, [memoryview(data)])
            return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        with self._writing():
            number = self._opened(path, writes=True)
            try:
                self._writer(number).truncate(length)
            finally:
                self.release(path, number)
        return 0

    def chmod(self, path: str, mode: int) -> int:
        with self._writing():
            self.volume.chmod(path, stat.S_IMODE(mode))
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        """Owners are shown as the user who mounted it, and stay root's."""
        with self._writing():
            self._descriptor(path)
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        now = self._clock()
        atime, mtime = (now, now) if times is None else times
        with self._writing():
            self.volume.set_times(path, atime=atime // NANOSECONDS, mtime=mtime // NANOSECONDS)
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        with self._using():
            one = self._open.get(fh)
            if one is not None and one.writer is not None:
                one.writer.sync()
        return 0

    # what they share

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Names change, one after the other."""
        with self._using(writes=True), self._lock:
            yield

    def _writer(self, fh: int) -> Any:
        writer = self._open[fh].writer
        if writer is None:
            raise refusal(errno.EBADF)
        return writer

    def _opened(self, path: str, *, writes: bool) -> int:
        """A number for it: that of its descriptor, so whoever opens a file has the same one."""
        with self._lock:
            fd = self._descriptor(path)
            if fd.is_directory:
                raise refusal(errno.EISDIR)
            one = self._open.get(fd.address)
            if writes and (one is None or one.writer is None):
                writer = self.volume.open_for_write(path)
                one = self._open.setdefault(fd.address, OpenFile(writer))
                one.contents = one.writer = writer
            elif one is None:
                one = self._open[fd.address] = OpenFile(self.volume.open_file(fd))
            one.users += 1
            return fd.address

    def _descriptor(self, path: str) -> Descriptor:
        if self.is_writable:
            with self._lock:
                return self._volume.lookup(path, follow=False)
        if path == "/":
            return self._volume.root
        folder, name = posixpath.split(path)
        found = self._directory(folder).get(name)
        if found is None:
            raise errors.NoSuchFile(path)
        return found

    def _names(self, path: str) -> list[str]:
        """What is in a directory."""
        if not self.is_writable:
            return [*self._directory(path)]
        with self._lock:
            return [entry.name for entry in self._volume.entries(self._volume.lookup(path, follow=False), relaxed=True)]

    def _directory(self, path: str) -> dict[str, Descriptor]:
        """The same with descriptors, of a volume that is only read."""
        now = self._clock()
        with self._lock:
            known = self._directories.get(path)
        if known is not None and 0 <= now - known.at_ns < BELIEVED_NS:
            return known.files
        fd = self._descriptor(path)
        if not fd.is_directory:
            raise errors.NotADirectory(path)
        known = Known(now, {one.name: one.fd for one in listing(self._volume, path, fd, 0, lambda text: None)})
        with self._lock:
            while len(self._directories) >= DIRECTORIES_MAX:
                del self._directories[next(iter(self._directories))]
            self._directories[path] = known
        return known.files

    @property
    def _volume(self) -> Volume:
        volume: Volume = self.volume
        return volume

    def _attributes(self, fd: Descriptor) -> Attributes:
        one = self._open.get(fd.address)
        size = fd.length if one is None or one.writer is None else one.writer.size
        bits = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
        mode = fd.mode if self.is_writable else fd.mode & ~bits
        return {
            "st_ino": fd.address, "st_mode": mode, "st_nlink": fd.nlink, "st_uid": os.geteuid(), "st_gid": os.getegid(),
            "st_size": size, "st_blocks": fd.num_blocks * fd.block_size // SECTOR_BYTES,
            "st_blksize": self.volume.block_size, "st_atime": fd.atime * NANOSECONDS,
            "st_mtime": fd.mtime * NANOSECONDS, "st_ctime": fd.ctime * NANOSECONDS,
        }  # fmt: skip

    @contextmanager
    def _using(self, *, writes: bool = False) -> Iterator[None]:
        if writes and not self.is_writable:
            raise refusal(errno.EROFS)
        with self._requests.request():
            yield
