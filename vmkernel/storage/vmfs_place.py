"""A name inside a VMFS volume as a Place: what pathlib.Path is for a file of the host.

It is read and changed as the volume says; what goes wrong with a name is the OSError that the host would raise.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ringfence.errors import BadInput, HostRefused, RingfenceError
from vmkernel.storage.block_file import BlockFile
from vmkernel.storage.errors import MissingLink
from vmkernel.storage.luns import lun_name
from vmkernel.storage.vmfs3.descriptor import Descriptor
from vmkernel.storage.vmfs3.errors import (
    AlreadyThere,
    BadName,
    IsADirectory,
    LinkLoop,
    NoContents,
    NoSuchFile,
    NotADirectory,
    NotEmpty,
    ReadOnlyVolume,
    SystemFileRefused,
    VolumeFull,
)
from vmkernel.storage.vmfs_file import VolumeFile
from vmkernel.storage.vmfs_mapping import open_mapped
from vmkernel.storage.vmfs_store import JOINT, ROOT, HeldFile, Store, store_of

SECTOR_BYTES = 512
LINKS_MAX = 40
FILE_MODE, UMASK = 0o600, 0o022
NUMBERS: tuple[tuple[type[RingfenceError], int], ...] = (
    (NoSuchFile, errno.ENOENT), (NotADirectory, errno.ENOTDIR), (IsADirectory, errno.EISDIR), (LinkLoop, errno.ELOOP),
    (AlreadyThere, errno.EEXIST), (NotEmpty, errno.ENOTEMPTY), (BadName, errno.EINVAL), (VolumeFull, errno.ENOSPC),
    (ReadOnlyVolume, errno.EROFS), (SystemFileRefused, errno.EPERM),
)  # fmt: skip


def place_in(devices: Sequence[Path], inside: str, name: str = "") -> VolumePlace:
    """A file or folder of a volume. `name` is that of a datastore. Raises BadInput and HostRefused."""
    prefix = f"[{name}] " if name else f"{JOINT.join(map(str, devices))}:/"
    return VolumePlace(store_of(devices), ROOT / posixpath.normpath("/" + inside.lstrip("/")), prefix)


@dataclass(frozen=True, slots=True)
class Facts:
    """What vmkernel.storage.place calls a Status."""

    st_dev: int
    st_ino: int
    st_mode: int
    st_size: int
    st_blocks: int
    st_mtime: int


@contextmanager
def as_host(path: object) -> Iterator[None]:
    """What a volume says of a name as the host would say it."""
    try:
        yield
    except RingfenceError as error:
        for kind, number in NUMBERS:
            if isinstance(error, kind):
                raise OSError(number, os.strerror(number), str(path)) from error
        raise


class VolumePlace:
    """What vmkernel.storage.place calls a Place, and Elsewhere. `prefix` is how its volume is written."""

    def __init__(self, store: Store, path: PurePosixPath, prefix: str) -> None:
        self.store, self.path, self.prefix = store, path, prefix

    def _other(self, path: PurePosixPath) -> VolumePlace:
        return VolumePlace(self.store, path, self.prefix)

    def __str__(self) -> str:
        return f"{self.prefix}{str(self.path).lstrip('/')}".rstrip()

    def __repr__(self) -> str:
        return f"VolumePlace({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VolumePlace) and self.store is other.store and self.path == other.path

    def __hash__(self) -> int:
        return hash((id(self.store), self.path))

    def __lt__(self, other: Any) -> bool:
        return bool(self.path < other.path) if isinstance(other, VolumePlace) else str(self) < str(other)

    # names

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def stem(self) -> str:
        return self.path.stem

    @property
    def suffix(self) -> str:
        return self.path.suffix

    @property
    def parent(self) -> VolumePlace:
        return self._other(self.path.parent)

    @property
    def parts(self) -> tuple[str, ...]:
        return self.path.parts

    def __truediv__(self, name: str) -> VolumePlace:
        return self._other(self.store.inside(self.path / name))

    def joinpath(self, *names: str) -> VolumePlace:
        return self._other(self.store.inside(self.path.joinpath(*names)))

    def with_name(self, name: str) -> VolumePlace:
        return self._other(self.path.with_name(name))

    def with_suffix(self, suffix: str) -> VolumePlace:
        return self._other(self.path.with_suffix(suffix))

    def is_relative_to(self, folder: Any) -> bool:
        return isinstance(folder, VolumePlace) and folder.store is self.store and self.path.is_relative_to(folder.path)

    def relative_to(self, folder: Any) -> PurePosixPath:
        return self.path.relative_to(folder.path)

    def absolute(self) -> VolumePlace:
        return self

    def resolve(self) -> VolumePlace:
        """Without `..` and symbolic links, as far as the names are there."""
        done, left, links = ROOT, list(self.path.parts[1:]), 0
        while left:
            name = left.pop(0)
            if name == "..":
                done = done.parent
                continue
            target = self._target(done / name)
            if target is None:
                done /= name
                continue
            links += 1
            if links > LINKS_MAX:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(self))
            path = self.store.inside(PurePosixPath(target))
            done = ROOT if path.is_absolute() else done
            left = [*path.parts[path.is_absolute() :], *left]
        return self._other(done)

    def _target(self, path: PurePosixPath) -> str | None:
        """Of a symbolic link."""
        with suppress(OSError), as_host(path):
            fd = self.store.volume.lookup(str(path), follow=False)
            if fd.is_symlink:
                return self.store.volume.readlink(fd)
        return None

    # what is there

    def descriptor(self, *, follow: bool = True) -> Descriptor:
        """As it is now. Raises FileNotFoundError and other OSErrors, and CorruptVolume."""
        path = self.resolve() if follow else self._beside()
        with as_host(self):
            return self.store.volume.lookup(str(path.path), follow=False)

    def stat(self) -> Facts:
        """A raw device mapping is a device: what its guest wrote into it is not taken for a descriptor."""
        fd = self.descriptor()
        dev, ino = self.store.identity(fd)
        mode = stat.S_IFBLK | stat.S_IMODE(fd.mode) if fd.is_rdm else fd.mode
        return Facts(dev, ino, mode, fd.length, fd.num_blocks * fd.block_size // SECTOR_BYTES, fd.mtime)

    def exists(self) -> bool:
        try:
            self.descriptor()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def _is(self, what: str, *, follow: bool = True) -> bool:
        try:
            return bool(getattr(self.descriptor(follow=follow), what))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def is_file(self) -> bool:
        return self._is("is_file")

    def is_dir(self) -> bool:
        return self._is("is_directory")

    def is_symlink(self) -> bool:
        return self._is("is_symlink", follow=False)

    def samefile(self, other: Any) -> bool:
        if not isinstance(other, VolumePlace):
            return False
        ours, theirs = self.stat(), other.stat()
        return (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)

    def iterdir(self) -> Iterator[VolumePlace]:
        with as_host(self):
            rows = self.store.volume.entries(self.descriptor())
        for row in rows:
            yield self._other(self.path / row.name)

    def read_bytes(self) -> bytes:
        with self.open_file(writable=False, lock=False) as file:
            return file.some_at(0, file.size)

    # opening

    def open_file(self, *, writable: bool, lock: bool) -> BlockFile:
        try:
            path = str(self.resolve().path)
            store, shown = self.store, str(self)
            opened = store.open_to_write(path) if writable else store.open_to_read(path, shown, lock=lock)
        except (NoSuchFile, NotADirectory) as error:
            raise MissingLink(str(self), "image", "a file", "none of this name") from error
        except (IsADirectory, SystemFileRefused) as error:
            raise HostRefused(f"{self}: cannot open: expected a regular file") from error
        except NoContents:
            return open_mapped(self, writable=writable, lock=lock)
        except OSError as error:
            raise HostRefused(f"{self}: cannot open: {error.strerror}") from error
        return VolumeFile(opened, self, writable=writable)

    def create_file(self, mode: int) -> BlockFile:
        try:
            with as_host(self):
                return VolumeFile(self.store.create(self._own(), mode), self, writable=True)
        except OSError as error:
            reason = "File exists" if error.errno == errno.EEXIST else error.strerror
            raise HostRefused(f"{self}: cannot create: {reason}") from error

    def replace_contents(self, data: bytes) -> None:
        try:
            with as_host(self):
                self.store.replace(str(self.resolve().path), data, FILE_MODE)
        except OSError as error:
            raise HostRefused(f"{self}: cannot write: {error.strerror}") from error

    def map_device(self, disk_id: bytes, size: int) -> None:
        with as_host(self):
            self.store.to_write().create_rdm(self._own(), disk_id, size)

    def mapped_lun(self) -> str | None:
        fd = self.descriptor()
        return lun_name(fd.disk_id) if fd.is_rdm else None

    def hold(self) -> HeldFile:
        try:
            return self.store.hold(str(self.resolve().path))
        except (NoSuchFile, NotADirectory) as error:
            raise BadInput(str(self), "no such file", "a file", "nothing") from error

    def holder_pid(self) -> int:
        try:
            return self.store.holder_pid(str(self.resolve().path))
        except (NoSuchFile, NotADirectory):
            return 0

    # changes

    def _own(self) -> str:
        """Where the name itself is, be it a symbolic link."""
        return str(self._beside().path)

    def _beside(self) -> VolumePlace:
        return self.parent.resolve() / self.name if self.name else self

    def mkdir(self, mode: int = 0o777) -> None:
        with as_host(self):
            self.store.to_write().mkdir(self._own(), mode & ~UMASK)

    def rmdir(self) -> None:
        with as_host(self):
            self.store.to_write().rmdir(self._own())

    def unlink(self, missing_ok: bool = False) -> None:
        with suppress(FileNotFoundError) if missing_ok else nullcontext(), as_host(self):
            self.store.to_write().remove(self._own())

    def rename(self, target: Any) -> None:
        """Over what has that name, as on a host."""
        self.move_together([(self, target)])

    def replace(self, target: Any) -> None:
        self.move_together([(self, target)])

    def symlink_to(self, target: Any) -> None:
        with as_host(self):
            self.store.to_write().symlink(str(target), self._own())

    def move_together(self, moves: Sequence[tuple[Any, Any]]) -> None:
        if any(not isinstance(end, VolumePlace) or end.store is not self.store for move in moves for end in move):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(self))
        with as_host(self):
            self.store.to_write().rename_all([(old._own(), new._own()) for old, new in moves])

    def sync_names(self) -> None:
        self.store.sync()

    def free_bytes(self) -> int:
        return self.store.free_bytes()
