"""Operations on names: made, removed, moved; and on what a descriptor says besides its contents.

Each is one operation of a session: whole or not at all, also when the host dies in the middle.
Not modelled: hard links.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from typing import NamedTuple

from vmkernel.storage.vmfs3 import addresses
from vmkernel.storage.vmfs3.allocate import allocate_descriptor, free, free_addresses
from vmkernel.storage.vmfs3.block_words import get_words, set_block_size
from vmkernel.storage.vmfs3.descriptor_spec import (
    BLOCK_SHIFT,
    DIRECTORY_MODE,
    PER_POINTER_BLOCK,
    RDM_BLOCK_BYTES,
    RDM_MODE,
    SYMLINK_MODE,
    TYPE_MASK,
    AddressType,
    FileType,
    SystemFile,
    ZeroLevel,
)
from vmkernel.storage.vmfs3.directory_spec import NAME_MAX, PARENT, SELF
from vmkernel.storage.vmfs3.errors import (
    AlreadyThere,
    BadName,
    FileTooLarge,
    IsADirectory,
    LinkLoop,
    NoSuchFile,
    NotADirectory,
    NotEmpty,
    PathError,
    SystemFileRefused,
)
from vmkernel.storage.vmfs3.folders import Folder, Folders, Named
from vmkernel.storage.vmfs3.growing import Growth, Shape
from vmkernel.storage.vmfs3.operation import Operation
from vmkernel.storage.vmfs3.records import DescriptorRecord
from vmkernel.storage.vmfs3.volume import LINKS_MAX, Volume, split
from vmkernel.storage.vmfs3.volume_spec import SUB_BLOCK_BYTES

PERMISSIONS = 0o7777
ROOT = Named(FileType.DIRECTORY, SystemFile.ROOT, 1)


class Spot(NamedTuple):
    """A name in a directory that is there. `name` may be taken or not."""

    folder: Named
    name: bytes
    path: str


def encoded(name: str, path: str) -> bytes:
    """Raises BadName."""
    try:
        raw = name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadName(path) from error
    if not 1 <= len(raw) <= NAME_MAX or "/" in name or "\0" in name or name in (SELF, PARENT):
        raise BadName(path)
    return raw


class Names:
    """Of one volume that is open for writing."""

    def __init__(self, volume: Volume, folders: Folders, shape: Shape) -> None:
        self.volume, self.folders, self.shape = volume, folders, shape

    # paths

    def walk(self, path: str, *, follow: bool = True) -> Named:
        """What a path names. Raises NoSuchFile, NotADirectory, LinkLoop."""
        trail = [ROOT]
        parts = split(path)
        links = 0
        while parts:
            name = parts.pop()
            here = trail[-1]
            if here.type != FileType.DIRECTORY:
                raise NotADirectory(path)
            if name == PARENT:
                trail = trail[: max(len(trail) - 1, 1)]
                continue
            found = self.child(here, name, path)
            if found.type == FileType.SYMLINK and (parts or follow):
                links += 1
                if links > LINKS_MAX:
                    raise LinkLoop(path)
                target = self.volume.readlink(self.volume.descriptor(found.address))
                if target.startswith("/"):
                    trail, target = trail[:1], self.volume.within(target, path)
                parts += split(target)
                continue
            trail.append(found)
        if path.endswith("/") and trail[-1].type != FileType.DIRECTORY:
            raise NotADirectory(path)
        return trail[-1]

    def child(self, here: Named, name: str, path: str) -> Named:
        generation = None if here is ROOT else here.generation
        folder = self.folders.current(here.address, generation, path)
        found = folder.get(name.encode("utf-8", "surrogateescape"))
        if found is None:
            raise NoSuchFile(path)
        return found

    def spot(self, path: str) -> Spot:
        """The directory and the name that a path ends with. Raises BadName, NoSuchFile, NotADirectory."""
        trimmed = path.rstrip("/")
        above, _, name = trimmed.rpartition("/")
        if not trimmed:
            raise AlreadyThere(path)
        raw = encoded(name, path)
        folder = self.walk(above)
        if folder.type != FileType.DIRECTORY:
            raise NotADirectory(path)
        return Spot(folder, raw, path)

    def open_folder(self, operation: Operation, folder: Named, path: str) -> tuple[DescriptorRecord, Folder]:
        return self.folders.open(operation, folder.address, folder.generation, path)

    # making

    def create(self, operation: Operation, spot: Spot, kind: FileType, mode: int) -> DescriptorRecord:
        """A new file of this type without contents. Raises AlreadyThere, VolumeFull."""
        above, folder = self.open_folder(operation, spot.folder, spot.path)
        if spot.name in folder.names:
            raise AlreadyThere(spot.path)
        record = allocate_descriptor(operation)
        record.nlink, record.type, record.mode = 1, kind, mode
        record.mtime = record.ctime = record.atime = operation.seconds
        record.zla = ZeroLevel.SUB_BLOCK
        set_block_size(record, SUB_BLOCK_BYTES, reader_shift=self.shape.reader_shift)
        named = Named(kind, record.address, record.generation)
        self.folders.add(operation, above, folder, spot.name, named)
        return record

    def create_file(self, operation: Operation, path: str, mode: int) -> None:
        self.create(operation, self.spot(path), FileType.REGULAR, stat.S_IFREG | mode & PERMISSIONS)

    def make_folder(self, operation: Operation, path: str, mode: int = DIRECTORY_MODE) -> None:
        spot = self.spot(path)
        record = self.create(operation, spot, FileType.DIRECTORY, mode & PERMISSIONS)
        record.nlink = 2
        self.folders.create(operation, record, Named(FileType.DIRECTORY, spot.folder.address, spot.folder.generation))
        above = operation.descriptor(spot.folder.address)
        above.nlink = above.nlink + 1

    def make_link(self, operation: Operation, target: str, path: str) -> None:
        """A symbolic link. Raises PathError for a target that cannot be one."""
        try:
            contents = target.encode("utf-8")
        except UnicodeEncodeError as error:
            raise BadName(path, "expected a target that is UTF-8") from error
        if not 1 <= len(contents) <= SUB_BLOCK_BYTES or "\0" in target:
            raise PathError(path, f"expected a target of 1 to {SUB_BLOCK_BYTES} bytes, found {len(contents)}")
        record = self.create(operation, self.spot(path), FileType.SYMLINK, SYMLINK_MODE)
        Growth(operation, record, self.shape).write(0, [memoryview(contents)], path)

    def make_mapping(self, operation: Operation, path: str, identity: bytes, size: int) -> None:
        """A raw device mapping: `identity` is the LUN's disk id, `size` its bytes."""
        if size >= 1 << 64:
            raise FileTooLarge(path)
        record = self.create(operation, self.spot(path), FileType.RDM, RDM_MODE)
        record.zla, record.length = ZeroLevel.NONE, size
        set_block_size(record, RDM_BLOCK_BYTES, reader_shift=self.shape.reader_shift)
        record.contents = identity.ljust(len(record.contents), b"\0")

    # removing

    def remove(self, operation: Operation, path: str, *, folders: bool) -> bool:
        """A file, or an empty directory. False: it was only made shorter, and the rest is to be done.

        Raises NoSuchFile, IsADirectory, NotADirectory, NotEmpty, SystemFileRefused, FileLocked.
        """
        spot = self.spot(path)
        above, folder = self.open_folder(operation, spot.folder, path)
        named = folder.get(spot.name)
        if named is None:
            raise NoSuchFile(path)
        if named.type == FileType.DIRECTORY and not folders:
            raise IsADirectory(path)
        if named.type != FileType.DIRECTORY and folders:
            raise NotADirectory(path)
        if not self._unlink(operation, above, named, path):
            return False
        self.folders.remove(operation, above, folder, spot.name)
        return True

    def _unlink(self, operation: Operation, above: DescriptorRecord, named: Named, path: str) -> bool:
        """The file that a name in the directory `above` had is no more; False: it was too large to go at once."""
        if named.type == FileType.SYSTEM:
            raise SystemFileRefused(path)
        record = operation.descriptor(named.address, named.generation, path)
        operation.refuse_open(record.position)
        if named.type == FileType.DIRECTORY:
            _, contents = self.folders.open(operation, named.address, named.generation, path)
            if not contents.is_empty:
                raise NotEmpty(path)
            above.nlink = above.nlink - 1
            self.folders.known.pop(named.address, None)
        growth = Growth(operation, record, self.shape)
        words = self._all_words(operation, record)
        if self._clusters(words) > operation.clusters_max:
            keep = -(-record.length // self.shape.block_size) // 2
            growth.shorten(keep * self.shape.block_size)
            return False
        if record.zla == ZeroLevel.POINTER_BLOCK:
            words += record.addresses[record.addresses != 0].tolist()
        free_addresses(operation, words)
        free(operation, AddressType.FILE_DESCRIPTOR, [addresses.place(record.address)])
        record.ctime = operation.seconds
        operation.dead(record)
        return True

    def _all_words(self, operation: Operation, record: DescriptorRecord) -> list[int]:
        """Addresses of everything that holds the file's contents."""
        if record.zla == ZeroLevel.NONE:
            return []
        if record.zla != ZeroLevel.POINTER_BLOCK:
            return [word for word in record.addresses.tolist() if word]
        count = -(-record.length // (self.shape.block_size * PER_POINTER_BLOCK)) * PER_POINTER_BLOCK
        words = get_words(operation, record, 0, count)
        return list(words[words != 0].tolist())

    def _clusters(self, words: Sequence[int]) -> int:
        per_cluster = self.volume.fbb.per_cluster
        return len({
            (word >> BLOCK_SHIFT) // per_cluster for word in words if word & TYPE_MASK == AddressType.FILE_BLOCK
        })  # fmt: skip

    # moving

    def rename(self, operation: Operation, old: str, new: str) -> None:
        """Also over what has the new name already, which is gone then."""
        source, target = self.spot(old), self.spot(new)
        moved = self.child(source.folder, source.name.decode(), old)
        across = source.folder.address != target.folder.address
        if moved.type == FileType.DIRECTORY and across:
            operation.descriptor(SystemFile.ROOT)  # who moves directories between directories does it alone
            self._refuse_loop(moved, target)
        above, folder = self.open_folder(operation, source.folder, old)
        below, into = self.open_folder(operation, target.folder, new)
        named = folder.get(source.name)
        if named != moved:
            raise NoSuchFile(old)
        if moved.type == FileType.SYSTEM:
            raise SystemFileRefused(old)
        there = into.get(target.name)
        if there is not None:
            if there.address == moved.address:
                return
            if (there.type == FileType.DIRECTORY) != (moved.type == FileType.DIRECTORY):
                raise (IsADirectory if there.type == FileType.DIRECTORY else NotADirectory)(new)
            if not self._unlink(operation, below, there, new):
                raise FileTooLarge(new, "in too many pieces to be replaced at once: remove it first")
        self.folders.add(operation, below, into, target.name, moved)
        self.folders.remove(operation, above, folder, source.name)
        record = operation.descriptor(moved.address, moved.generation, old)
        record.ctime = operation.seconds
        if moved.type == FileType.DIRECTORY and across:
            above.nlink, below.nlink = above.nlink - 1, below.nlink + 1
            _, contents = self.folders.open(operation, moved.address, moved.generation, old)
            contents.put(PARENT.encode(), Named(FileType.DIRECTORY, below.address, below.generation))

    def _refuse_loop(self, moved: Named, target: Spot) -> None:
        """A directory does not go into itself. Raises PathError."""
        here = target.folder
        while here.address != SystemFile.ROOT:
            if here.address == moved.address:
                raise PathError(target.path, "a directory cannot be moved into itself")
            here = self.child(here, PARENT, target.path)

    # what a descriptor says

    def change(
        self, operation: Operation, path: str, *, mode: int | None = None, uid: int | None = None,
        gid: int | None = None, mtime: int | None = None, atime: int | None = None,
    ) -> None:  # fmt: skip
        named = self.walk(path)
        record = operation.descriptor(named.address, None if named is ROOT else named.generation, path)
        if record.type == FileType.SYSTEM:
            raise SystemFileRefused(path)
        for name, value in (("uid", uid), ("gid", gid), ("mtime", mtime), ("atime", atime)):
            if value is not None:
                setattr(record, name, value & 0xFFFFFFFF)
        if mode is not None:
            record.mode = record.mode & ~PERMISSIONS | mode & PERMISSIONS
        record.ctime = operation.seconds
