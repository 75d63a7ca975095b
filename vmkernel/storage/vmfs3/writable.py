"""A volume that is open for writing, as a host with a heartbeat slot and a journal of its own.

What was changed is seen at once by this opening, by other hosts when they take the lock of what was changed, and is
durable after `sync`, `close`, or some seconds. Reading goes the way of every volume.
Not modelled: VMFS-5, hard links.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ringfence.errors import RingfenceError
from vmkernel.storage.errors import Locked, Unsupported
from vmkernel.storage.vmfs3.clock import Clock
from vmkernel.storage.vmfs3.descriptor import Descriptor
from vmkernel.storage.vmfs3.descriptor_spec import DIRECTORY_MODE, AddressType, FileType
from vmkernel.storage.vmfs3.errors import IsADirectory, NoContents, PathError, SystemFileRefused, VolumeFull
from vmkernel.storage.vmfs3.extend import (
    add_devices,
    grow_file_blocks,
    lacks_file_blocks,
    put_label,
    refuse_others,
    take_back,
)
from vmkernel.storage.vmfs3.file_map import FileMap
from vmkernel.storage.vmfs3.folders import Folders
from vmkernel.storage.vmfs3.growing import Shape
from vmkernel.storage.vmfs3.host import Host
from vmkernel.storage.vmfs3.lun import Lun
from vmkernel.storage.vmfs3.lvm import LogicalVolume
from vmkernel.storage.vmfs3.lvm_spec import DISK_ID
from vmkernel.storage.vmfs3.names import Names
from vmkernel.storage.vmfs3.new_devices import Placement
from vmkernel.storage.vmfs3.operation import Operation
from vmkernel.storage.vmfs3.overlay import OverlaidLun, lay_over
from vmkernel.storage.vmfs3.reader import FileReader
from vmkernel.storage.vmfs3.session import Session
from vmkernel.storage.vmfs3.volume import Volume
from vmkernel.storage.vmfs3.volume_spec import LockMode
from vmkernel.storage.vmfs3.writing import FileWriter, HeldDescriptor, open_descriptor


def open_for_writing(
    paths: Sequence[Path], host: Host | None = None, *, clock: Clock | None = None, background: bool = True
) -> WritableVolume:
    """The devices in any order. `background`: a thread beats; without it the caller calls `session.tick`.

    Raises NotVmfs, IncompleteVolume, CorruptVolume, Unsupported, Locked, HostRefused, VolumeFull.
    """
    lv = logical_volume(paths)
    try:
        volume = WritableVolume(lv)
        if volume.version != 3:
            raise Unsupported(volume.name, "writing", "a VMFS-3 volume", f"VMFS-{volume.version}, which is only read")
        volume.begin(host or Host(), clock or Clock(), background=background)
        if lacks_file_blocks(volume):
            with suppress(Locked, VolumeFull):  # it is as good as it was
                volume.finish_extension()
        return volume
    except BaseException:
        lv.close()
        raise


def logical_volume(paths: Sequence[Path]) -> LogicalVolume:
    """Of LUNs over which changes can be laid."""
    luns: list[Lun] = []
    try:
        for path in paths:
            luns.append(OverlaidLun.over(Lun.open(Path(path), writable=True)))
        lv = LogicalVolume.open(luns)
        lv.judge_whole()
        if lv.ahead:
            with lv.reserve():  # whoever extends it at this moment comes to an end first
                lv = LogicalVolume.open(luns)
                take_back(lv)
            lv = LogicalVolume.open(luns)
        return lv
    except BaseException:
        for lun in luns:
            lun.close()
        raise


class WritableVolume(Volume):
    """`session` is this host; `begin` makes it one."""

    session: Session

    def begin(self, host: Host, clock: Clock, *, background: bool) -> None:
        sectors: dict[int, bytes] = {}
        lay_over(self.lv, sectors)
        root = self.root
        self.shape = Shape(self.lv, self.block_size, reader_shift=root.block_offset_shift != 0)
        self.session = Session(self, sectors, host, clock, background=background)
        self.folders = Folders(
            self, self.session.locks, self.session.pools[AddressType.SUB_BLOCK], reader_shift=self.shape.reader_shift
        )
        self.names = Names(self, self.folders, self.shape)
        self.session.begin()

    def close(self) -> None:
        """Everything durable, the journal freed, the heartbeat slot given back. Open files are closed by it."""
        try:
            self.session.end()
        finally:
            super().close()

    def abandon(self) -> None:
        """Close without writing anything more, as if the host had died: for tests, and for what cannot be written."""
        self.session.abandon()
        super().close()

    def sync(self) -> None:
        """Everything so far is durable."""
        self.session.sync()

    def settle(self) -> None:
        """The same, and other hosts can have every lock but those of open files."""
        self.session.settle()

    # reading by what this opening knows

    def lookup(self, path: str, *, follow: bool = True) -> Descriptor:
        return self.descriptor(self.names.walk(path, follow=follow).address)

    def open_file(self, fd: Descriptor, *, lock: str | None = None) -> FileReader:
        """`lock` "read": nobody can write it until the reader is closed; several may read. Raises FileLocked."""
        if lock is None:
            return super().open_file(fd)
        if fd.is_rdm:
            raise NoContents(f"descriptor {fd.address:#x}")
        if lock != "read":
            raise PathError(f"descriptor {fd.address:#x}", f"expected the lock read or none, found {lock}")
        what = f"descriptor {fd.address:#x}"
        self.session.operate(lambda operation: operation.share(fd.address, LockMode.READ_ONLY), what)
        held = HeldDescriptor(self.session, fd.address)
        current = self.descriptor(fd.address)
        return LockedReader(held, current, self.map(current))

    # files

    def create(self, path: str, mode: int = 0o600) -> None:
        """An empty file. Raises AlreadyThere, BadName, NoSuchFile, NotADirectory, VolumeFull, FileLocked."""
        self.session.operate(lambda operation: self.names.create_file(operation, path, mode), path)

    def mkdir(self, path: str, mode: int = DIRECTORY_MODE) -> None:
        """The same for a directory."""
        self.session.operate(lambda operation: self.names.make_folder(operation, path, mode), path)

    def symlink(self, target: str, path: str) -> None:
        """A symbolic link at `path` that says `target`."""
        self.session.operate(lambda operation: self.names.make_link(operation, target, path), path)

    def create_rdm(self, path: str, lun_identity: bytes, size: int) -> None:
        """A raw device mapping to the LUN that this disk id (78 bytes) names, of `size` bytes."""
        if len(lun_identity) != DISK_ID.sizeof():
            raise PathError(path, f"expected a disk id of {DISK_ID.sizeof()} bytes, found {len(lun_identity)}")
        self.session.operate(lambda operation: self.names.make_mapping(operation, path, lun_identity, size), path)

    def remove(self, path: str) -> None:
        """A file, link or mapping. Raises NoSuchFile, IsADirectory, SystemFileRefused, FileLocked."""
        while not self.session.operate(lambda operation: self.names.remove(operation, path, folders=False), path):
            pass

    def rmdir(self, path: str) -> None:
        """An empty directory. Raises NoSuchFile, NotADirectory, NotEmpty."""
        self.session.operate(lambda operation: self.names.remove(operation, path, folders=True), path)

    def rename(self, old: str, new: str) -> None:
        """Over a file of the new name too. Raises as `create` and `remove`."""
        self.rename_all([(old, new)])

    def rename_all(self, moves: Sequence[tuple[str, str]]) -> None:
        """One after the other, all or none of them. Raises as `rename`."""

        def change(operation: Operation) -> None:
            for old, new in moves:
                self.names.rename(operation, old, new)

        self.session.operate(change, moves[0][0] if moves else "")

    def open_for_write(self, path: str, *, shared: bool = False) -> FileWriter:
        """Nobody else can write or remove it until it is closed. `shared`: other hosts may write it as well, if they
        share it too (multi-writer); then only blocks that it has are written.

        Raises NoSuchFile, IsADirectory, NoContents, SystemFileRefused, FileLocked.
        """
        mode = LockMode.MULTI_WRITER if shared else LockMode.EXCLUSIVE

        def change(operation: Operation) -> FileWriter:
            named = self.names.walk(path)
            if named.type == FileType.DIRECTORY:
                raise IsADirectory(path)
            if named.type == FileType.RDM:
                raise NoContents(path)
            if named.type != FileType.REGULAR:
                raise SystemFileRefused(path)
            if shared:
                operation.share(named.address, mode)
            else:
                open_descriptor(operation, named.address, named.generation, path)
            return FileWriter(self.session, named.address, path, self.shape, mode)

        return self.session.operate(change, path).load()

    def hold(self, path: str, *, shared: bool) -> HeldDescriptor:
        """A file's lock alone, for reading with others or for writing: of one whose contents are elsewhere.

        Raises NoSuchFile, FileLocked.
        """

        def change(operation: Operation) -> int:
            named = self.names.walk(path)
            if shared:
                operation.share(named.address, LockMode.READ_ONLY)
            else:
                open_descriptor(operation, named.address, named.generation, path)
            return named.address

        return HeldDescriptor(self.session, self.session.operate(change, path))

    def free_bytes(self) -> int:
        """Of file blocks."""
        return self.statistics()["file_block"][1] * self.block_size

    # what descriptors and the volume say

    def set_times(self, path: str, *, mtime: int | None = None, atime: int | None = None) -> None:
        """In seconds since 1970."""
        self.session.operate(lambda operation: self.names.change(operation, path, mtime=mtime, atime=atime), path)

    def chmod(self, path: str, mode: int) -> None:
        self.session.operate(lambda operation: self.names.change(operation, path, mode=mode), path)

    def chown(self, path: str, uid: int, gid: int) -> None:
        self.session.operate(lambda operation: self.names.change(operation, path, uid=uid, gid=gid), path)

    def set_label(self, label: str) -> None:
        """Raises BadOption for one that does not fit."""
        put_label(self, label)

    def extend(
        self, paths: Sequence[Path], *, placement: Placement = Placement.NEW_PARTITION, force: bool = False
    ) -> None:  # fmt: skip
        """Add devices, whose contents are lost. No file of the volume may be open, and no other host have it.

        Raises BadInput, BadOption, Locked.
        """
        known = [lun.path for lun in self.lv.luns]
        try:
            every = add_devices(self, paths, placement=placement, force=force)
        except RingfenceError:
            if self.session.closed:
                super().close()
                self._begin_again(known)
            raise
        self._begin_again(every)
        grow_file_blocks(self)
        self.close()
        self._begin_again(every)

    def finish_extension(self) -> None:
        """Of a host that died between its devices and their file blocks. Raises Locked where another has the volume."""
        refuse_others(self)
        known = [lun.path for lun in self.lv.luns]
        grow_file_blocks(self)
        self.close()
        self._begin_again(known)

    def _begin_again(self, paths: Sequence[Path]) -> None:
        """On these devices, as the same host."""
        session = self.session
        Volume.__init__(self, logical_volume(paths))
        self.begin(session.host, session.clock, background=session.background)


class LockedReader(FileReader):
    """A file that nobody writes while it is open."""

    def __init__(self, held: HeldDescriptor, descriptor: Descriptor, mapped: FileMap) -> None:
        super().__init__(descriptor, mapped)
        self._held = held

    def close(self) -> None:
        self._held.close()


