"""A folder of a FUSE mount that shows a disk as raw files: `disk`, and `p1`, `p2` ... for its partitions.

The methods are what the binding mfusepy calls, from several threads at once; this file does without it. What goes wrong
is an OSError with the host's number. A partition and the disk are two files to the host, each with a cache of its own:
whoever writes through one does not read through the other.
Not modelled: new files, other names, sizes that change.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable

from vmkernel.storage.block_file import KEEP_SIZE, PUNCH_HOLE
from vmkernel.storage.byte_access import DiskBytes
from vmkernel.storage.disk import Disk
from vmkernel.storage.fuse_requests import Requests, refusal
from vmkernel.storage.partitions import Partition

ZERO_RANGE = 0x10  # linux/falloc.h
BLOCK_BYTES = 4096
NANOSECONDS = 10**9
WHOLE_DISK = "disk"
Attributes = dict[str, int]


class DiskFolder:
    """`started` is called once it is mounted. After `close` every request is an error."""

    use_ns = True

    def __init__(
        self, disk: Disk, parts: list[Partition], *, whole: bool, started: Callable[[], None], now_ns: int
    ) -> None:
        self.disk, self._started, self._now_ns = disk, started, now_ns
        lock = threading.Lock()
        self.files = {f"p{part.number}": DiskBytes(disk, part.start, part.length, lock) for part in parts}
        if whole:
            self.files[WHOLE_DISK] = DiskBytes(disk, 0, disk.size_bytes, lock)
        self._requests = Requests()

    def close(self) -> None:
        """The disk is no more used when this returns."""
        self._requests.close()

    # what the binding calls

    def init(self, path: str) -> None:
        self._started()

    def getattr(self, path: str, fh: int | None = None) -> Attributes:
        attributes = {
            "st_uid": os.geteuid(), "st_gid": os.getegid(), "st_blksize": BLOCK_BYTES,
            "st_atime": self._now_ns, "st_mtime": self._now_ns, "st_ctime": self._now_ns,
        }  # fmt: skip
        mode = 0o600 if self.disk.writable else 0o400
        if path == "/":
            return attributes | {"st_mode": stat.S_IFDIR | mode | stat.S_IXUSR, "st_nlink": 2}
        size = self._file(path).length
        return attributes | {"st_mode": stat.S_IFREG | mode, "st_nlink": 1, "st_size": size, "st_blocks": size // 512}

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *sorted(self.files)]

    def open(self, path: str, flags: int) -> int:
        self._file(path)
        if flags & os.O_ACCMODE != os.O_RDONLY and not self.disk.writable:
            raise refusal(errno.EROFS)
        return 0

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        """Programs that write a file anew ask for it; a disk keeps its size."""
        self._file(path)
        if not self.disk.writable:
            raise refusal(errno.EROFS)
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        file = self._file(path)
        with self._requests.request():
            return file.read(offset, size)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        file = self._file(path)
        with self._requests.request():
            if not (written := file.write(offset, data)):
                raise refusal(errno.ENOSPC)
            return written

    def fallocate(self, path: str, mode: int, offset: int, size: int, fh: int) -> int:
        file = self._file(path)
        if mode not in {KEEP_SIZE | PUNCH_HOLE, ZERO_RANGE, ZERO_RANGE | KEEP_SIZE} or offset + size > file.length:
            raise refusal(errno.EOPNOTSUPP)
        with self._requests.request():
            file.zero(offset, size)
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        with self._requests.request():
            self.disk.flush()
        return 0

    def statfs(self, path: str) -> Attributes:
        return {"f_bsize": BLOCK_BYTES, "f_frsize": BLOCK_BYTES, "f_blocks": self.disk.size_bytes // BLOCK_BYTES}

    def _file(self, path: str) -> DiskBytes:
        file = self.files.get(path.removeprefix("/"))
        if file is None:
            raise refusal(errno.ENOENT)
        return file
