"""The two ends of a copy: files of the host, and files of a volume, as what is read and as where copies go.

On the host nothing that is there is followed or written over: folders are made new, files are opened so that they must
be. A file that is to be replaced is so when its copy is complete.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from ringfence.errors import HostRefused, RingfenceError
from vmkernel.storage.errors import HostTrouble, OutOfSpace
from vmkernel.storage.vmfs3.descriptor import Descriptor
from vmkernel.storage.vmfs3.errors import AlreadyThere
from vmkernel.storage.vmfs3.file_map import Kind as RunKind
from vmkernel.storage.vmfs3.reader import FileReader
from vmkernel.storage.vmfs3.tree_copy import Content, Kind, Node, Output, Segment
from vmkernel.storage.vmfs3.volume import Volume
from vmkernel.storage.vmfs3.walk import Complain, listing
from vmkernel.storage.vmfs3.writable import WritableVolume
from vmkernel.storage.vmfs3.writing import FileWriter

MODE_BITS = 0o7777
SAFE_BITS = 0o1777  # set-user-id and set-group-id are not brought to the host
NANOSECONDS = 10**9
HOST_GRAIN = 1 << 16
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def host_errors(path: Path) -> Iterator[None]:
    """Raises HostRefused, or OutOfSpace."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise OutOfSpace(path, 0, error.strerror or "no room") from error
        raise HostRefused(f"{path}: {error.strerror or error}") from error


# the host


class HostContent:
    """An open file of the host; its holes are not read."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path, self.fd = path, fd
        self.size = os.fstat(fd).st_size

    def segments(self) -> Iterator[Segment]:
        offset = 0
        while offset < self.size:
            try:
                start = os.lseek(self.fd, offset, os.SEEK_DATA)
                end = os.lseek(self.fd, start, os.SEEK_HOLE)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return
                start, end = offset, self.size
            yield start, min(end, self.size) - start
            offset = end

    def read(self, offset: int, view: memoryview) -> None:
        done = 0
        while done < len(view):
            with host_errors(self.path):
                count = os.preadv(self.fd, [view[done:]], offset + done)
            if not count:
                raise HostTrouble(self.path, offset + done, "the file became shorter while it was copied")
            done += count


class HostNode:
    """A file, folder or link of the host."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.name or path.resolve().name
        with host_errors(path):
            self._status = path.lstat()
        self.mode = stat.S_IMODE(self._status.st_mode)
        self.mtime_s = int(self._status.st_mtime)
        self.identity: object = (self._status.st_dev, self._status.st_ino)

    def __str__(self) -> str:
        return str(self.path)

    @property
    def kind(self) -> Kind:
        mode = self._status.st_mode
        for test, kind in ((stat.S_ISREG, Kind.FILE), (stat.S_ISDIR, Kind.FOLDER), (stat.S_ISLNK, Kind.LINK)):
            if test(mode):
                return kind
        return Kind.OTHER

    def children(self) -> list[Node]:
        with host_errors(self.path):
            return [HostNode(path) for path in sorted(self.path.iterdir())]

    def target(self) -> str:
        with host_errors(self.path):
            return os.readlink(self.path)

    @contextmanager
    def content(self) -> Iterator[Content]:
        with host_errors(self.path):
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            yield HostContent(self.path, fd)
        finally:
            os.close(fd)

    def data_bytes(self) -> int:
        return min(self._status.st_blocks * 512, self._status.st_size)


class HostOutput:
    """A new file of the host."""

    grain, seeks_zeros = HOST_GRAIN, False

    def __init__(self, path: Path, fd: int) -> None:
        self.path, self.fd = path, fd

    def write(self, offset: int, view: memoryview) -> None:
        done = 0
        with host_errors(self.path):
            while done < len(view):
                done += os.pwrite(self.fd, view[done:], offset + done)

    def finish(self, size: int) -> None:
        with host_errors(self.path):
            os.ftruncate(self.fd, size)


class HostFolder:
    """A folder of the host that was there, or was made."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def make_folder(self, name: str) -> HostFolder:
        path = self._place(name)
        with host_errors(path):
            path.mkdir(mode=0o700)
        return HostFolder(path)

    def make_link(self, name: str, target: str, node: Node) -> None:
        path = self._place(name)
        with host_errors(path):
            path.symlink_to(target)

    @contextmanager
    def make_file(self, name: str, node: Node, *, replace: bool) -> Iterator[Output]:
        """What is replaced is gone only when the copy is complete. An incomplete copy does not stay."""
        path = self._place(name)
        if not replace and os.path.lexists(path):
            raise HostRefused(f"{path}: is there already")
        if path.is_dir() and not path.is_symlink():
            raise HostRefused(f"{path}: is a folder")
        made = path if not replace else path.with_name(f".{os.urandom(6).hex()}.copy")
        with host_errors(path):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(made, flags, 0o600)
        try:
            yield HostOutput(path, fd)
            with host_errors(path):
                os.fchmod(fd, node.mode & SAFE_BITS)
                os.utime(fd, ns=(node.mtime_s * NANOSECONDS, node.mtime_s * NANOSECONDS))
                if made != path:
                    made.replace(path)
        except BaseException:
            with suppress(OSError):
                made.unlink()
            raise
        finally:
            os.close(fd)

    def finish(self, node: Node) -> None:
        with host_errors(self.path):
            self.path.chmod(node.mode & SAFE_BITS)
            os.utime(self.path, (node.mtime_s, node.mtime_s))

    def _place(self, name: str) -> Path:
        if not name or name in (".", "..") or "/" in name or "\0" in name:
            raise HostRefused(f"{self.path}: {name!r} is no name of a file")
        return self.path / name


# a volume


class VolumeContent:
    """An open file of a volume; holes and blocks that were never written are not read."""

    def __init__(self, reader: FileReader) -> None:
        self._reader, self.size = reader, reader.size

    def segments(self) -> Iterator[Segment]:
        one = self._reader.map()
        data = one.kind == RunKind.DATA
        for start, length in zip(one.file_offset[data].tolist(), one.length[data].tolist(), strict=True):
            if start < self.size:
                yield start, min(length, self.size - start)

    def read(self, offset: int, view: memoryview) -> None:
        self._reader.read(offset, [view])


class VolumeNode:
    """A file, folder or link of a volume. With `complain`, damage below is told and passed over."""

    def __init__(
        self, volume: Volume, path: str, name: str, fd: Descriptor, complain: Complain | None = None
    ) -> None:
        self.volume, self.path, self.name, self.fd, self._complain = volume, path, name, fd, complain
        self.mode = fd.stored_mode & MODE_BITS
        self.mtime_s = fd.mtime
        self.identity: object = fd.address

    def __str__(self) -> str:
        return f"{self.volume.name}:{self.path}"

    @property
    def kind(self) -> Kind:
        if self.fd.is_directory:
            return Kind.FOLDER
        if self.fd.is_symlink:
            return Kind.LINK
        return Kind.FILE if self.fd.is_file else Kind.OTHER

    def children(self) -> list[Node]:
        """Without the system's own files, which every volume has."""
        return [
            VolumeNode(self.volume, one.path, one.name, one.fd, self._complain)
            for one in listing(self.volume, self.path, self.fd, 0, self._complain) if not is_system(one.fd)
        ]  # fmt: skip

    def target(self) -> str:
        return self.volume.readlink(self.fd)

    @contextmanager
    def content(self) -> Iterator[Content]:
        yield VolumeContent(self.volume.open_file(self.fd))

    def data_bytes(self) -> int:
        one = self.volume.map(self.fd)
        inside = np.minimum(one.length, np.maximum(self.fd.length - one.file_offset, 0))
        return int(inside[one.kind == RunKind.DATA].sum())


def is_system(fd: Descriptor) -> bool:
    return bool(fd.raw["type"] == 5)


class VolumeOutput:
    """A new file of a volume."""

    seeks_zeros = True

    def __init__(self, writer: FileWriter, grain: int) -> None:
        self._writer, self.grain = writer, grain

    def write(self, offset: int, view: memoryview) -> None:
        self._writer.write(offset, [view])

    def finish(self, size: int) -> None:
        if self._writer.size != size:
            self._writer.truncate(size)


class VolumeFolder:
    """A folder of a volume that is open for writing."""

    def __init__(self, volume: WritableVolume, path: str) -> None:
        self.volume, self.path = volume, path

    def __str__(self) -> str:
        return f"{self.volume.name}:{self.path}"

    def make_folder(self, name: str) -> VolumeFolder:
        path = posixpath.join(self.path, name)
        self.volume.mkdir(path)
        return VolumeFolder(self.volume, path)

    def make_link(self, name: str, target: str, node: Node) -> None:
        self.volume.symlink(target, posixpath.join(self.path, name))

    @contextmanager
    def make_file(self, name: str, node: Node, *, replace: bool) -> Iterator[Output]:
        """What is replaced is gone only when the copy is complete. An incomplete copy does not stay."""
        path = posixpath.join(self.path, name)
        if not replace and self.volume.exists(path):
            raise AlreadyThere(path)
        made = path if not replace else posixpath.join(self.path, f".{os.urandom(6).hex()}.copy")
        self.volume.create(made, node.mode & MODE_BITS)
        try:
            writer = self.volume.open_for_write(made)
            try:
                yield VolumeOutput(writer, self.volume.block_size)
            finally:
                writer.close()
            self.volume.set_times(made, mtime=node.mtime_s)
            if made != path:
                self.volume.rename(made, path)
        except BaseException:
            with suppress(RingfenceError):
                self.volume.remove(made)
            raise

    def finish(self, node: Node) -> None:
        self.volume.chmod(self.path, node.mode & MODE_BITS)
        self.volume.set_times(self.path, mtime=node.mtime_s)
