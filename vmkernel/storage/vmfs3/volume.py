"""A VMFS volume: opened from its devices, its files found by path, listed and read. VMFS-5 is read too.

How it starts: the superblock says how large a file block is and where descriptors begin; the first descriptors are the
root directory and the resource files, by which everything else is found.
Opening for reading never writes a byte: no heartbeat, no lock, no time of access. Nothing is kept that another host may
change: every descriptor and directory is read anew.
Not modelled: VMFS-6; writing VMFS-5.
Source: dissect.vmfs, vmfs.py; vmfs-tools, libvmfs/vmfs_fs.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vmkernel.storage.errors import Unsupported
from vmkernel.storage.vmfs3 import addresses, directory
from vmkernel.storage.vmfs3.block_lists import BlockLists
from vmkernel.storage.vmfs3.descriptor import Descriptor, judge, parse
from vmkernel.storage.vmfs3.descriptor_spec import (
    ADDRESS,
    DESCRIPTOR,
    FD_BYTES,
    AddressType,
    FileType,
    SystemFile,
    ZeroLevel,
)
from vmkernel.storage.vmfs3.directory import Entry
from vmkernel.storage.vmfs3.directory_spec import PARENT, SELF
from vmkernel.storage.vmfs3.errors import CorruptVolume, LinkLoop, NoContents, NoSuchFile, NotADirectory
from vmkernel.storage.vmfs3.file_map import FileMap
from vmkernel.storage.vmfs3.identity import uuid_text
from vmkernel.storage.vmfs3.lun import Lun
from vmkernel.storage.vmfs3.lvm import LogicalVolume
from vmkernel.storage.vmfs3.reader import FileReader
from vmkernel.storage.vmfs3.resource_spec import CLUSTER_HEADER_BYTES, HEADER
from vmkernel.storage.vmfs3.resources import ResourceFile, read_geometry
from vmkernel.storage.vmfs3.superblock import Superblock, read_superblock

SYSTEM_DESCRIPTORS = 6
LINKS_MAX = 40
LINK_BYTES_MAX = 1 << 16
VOLUMES = "/vmfs/volumes/"
RESOURCE_FILES = {  # in the order of opening: those of VMFS-5 may be found through pointer blocks
    AddressType.POINTER_BLOCK: SystemFile.PBC, AddressType.FILE_DESCRIPTOR: SystemFile.FDC,
    AddressType.SUB_BLOCK: SystemFile.SBC, AddressType.FILE_BLOCK: SystemFile.FBB,
}  # fmt: skip


class Volume:
    """`fdc`, `fbb`, `pbc`, `sbc` are its resource files; `pb2` is VMFS-5's, None where there is none."""

    def __init__(self, lv: LogicalVolume) -> None:
        """Takes the logical volume over. Raises CorruptVolume or Unsupported."""
        self.lv = lv
        self.superblock: Superblock = read_superblock(lv)
        self._resources: dict[AddressType, ResourceFile] = {}
        self.block_lists = BlockLists(lv, self.block_size, self.resource_file, dense=self.superblock.dense)
        self._start()

    @classmethod
    def open(cls, paths: Sequence[Path], *, writable: bool = False) -> Self:
        """The devices in any order.

        Raises NotVmfs, IncompleteVolume, CorruptVolume, Unsupported, Locked, HostRefused.
        """
        luns: list[Lun] = []
        try:
            for path in paths:
                luns.append(Lun.open(Path(path), writable=writable))
            volume = cls(LogicalVolume.open(luns))
            if writable:
                volume.lv.judge_whole()
            if writable and volume.version != 3:
                raise Unsupported(volume.name, "writing", "a VMFS-3 volume", "VMFS-5, which is only read")
            return volume
        except BaseException:
            for lun in luns:
                lun.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.lv.close()

    # what it is

    @property
    def name(self) -> str:
        """Of its devices, for errors."""
        return self.lv.name

    @property
    def block_size(self) -> int:
        return self.superblock.block_size

    @property
    def version(self) -> int:
        """3 or 5."""
        return self.superblock.version

    @property
    def label(self) -> str:
        return self.superblock.label

    @property
    def uuid(self) -> bytes:
        return self.superblock.uuid

    @property
    def writable(self) -> bool:
        return self.lv.writable

    @property
    def fdc(self) -> ResourceFile:
        return self._resources[AddressType.FILE_DESCRIPTOR]

    @property
    def fbb(self) -> ResourceFile:
        return self._resources[AddressType.FILE_BLOCK]

    @property
    def pbc(self) -> ResourceFile:
        return self._resources[AddressType.POINTER_BLOCK]

    @property
    def sbc(self) -> ResourceFile:
        return self._resources[AddressType.SUB_BLOCK]

    @property
    def pb2(self) -> ResourceFile | None:
        return self._resources.get(AddressType.POINTER_BLOCK_2)

    def resource_file(self, kind: AddressType) -> ResourceFile:
        """That of this type of address. Raises CorruptVolume where the volume has none, or not yet."""
        found = self._resources.get(kind)
        if found is None:
            expected = f"one for addresses of type {int(kind)}"
            raise CorruptVolume(self.name, 0, "resource file", expected, "none that is usable")
        return found

    # opening

    def _start(self) -> None:
        """The resource files, each of which may need those before it."""
        head = self.superblock
        fdc_at = head.fdc_block * self.block_size
        first = fdc_at + head.fdc_group_offset + head.fdc_clusters_per_group * CLUSTER_HEADER_BYTES
        if first > fdc_at + self.block_size - FD_BYTES * SYSTEM_DESCRIPTORS:
            found = f"{head.fdc_clusters_per_group} from byte {head.fdc_group_offset} on"
            raise CorruptVolume(self.name, fdc_at, "cluster headers of .fdc.sf", "some within its first block", found)
        if self.version == 5 and head.pb2_position and head.pb2_address:
            self._add(AddressType.POINTER_BLOCK_2, self._read_system(head.pb2_address, head.pb2_position))
            self.block_lists.pointer_kinds += (AddressType.POINTER_BLOCK_2,)
        for kind, address in RESOURCE_FILES.items():
            self._add(kind, self._read_system(address, first + addresses.place(address)[1] * FD_BYTES))

    def _read_system(self, address: int, position: int) -> Descriptor:
        if position + FD_BYTES > self.lv.size:
            what = f"place of {addresses.describe(address)}"
            raise CorruptVolume(self.name, position, what, f"one below {self.lv.size:#x}", f"{position:#x}")
        fd = judge(parse(self.lv.bytes_at(position, FD_BYTES), position, self.name), address)
        if fd.type != FileType.SYSTEM:
            raise fd.wrong("type", f"type of {addresses.describe(address)}", "5, a system file", int(fd.type))
        return fd

    def _add(self, kind: AddressType, fd: Descriptor) -> None:
        name = addresses.describe(fd.address)
        if self.version == 3 and fd.zla != ZeroLevel.FILE_BLOCK:
            raise fd.wrong("zla", f"zero-level address type of {name}", "1, file blocks", int(fd.zla))
        mapped = self.block_lists.map(fd)
        position = int(mapped.positions(np.zeros(1, np.int64))[0])
        if fd.length < HEADER.sizeof() or position < 0:
            raise fd.wrong("length", f"contents of {name}", "a header", f"{fd.length} bytes, none in its first block")
        geometry = read_geometry(self.lv, kind, fd, self.lv.bytes_at(position, HEADER.sizeof()), position)
        if kind == AddressType.FILE_DESCRIPTOR:
            self._judge_fdc(fd, geometry.group_offset, geometry.clusters_per_group)
        self._resources[kind] = ResourceFile(self.lv, kind, fd, mapped, geometry, self.block_size)

    def _judge_fdc(self, fd: Descriptor, group_offset: int, clusters_per_group: int) -> None:
        ours = (self.superblock.fdc_group_offset, self.superblock.fdc_clusters_per_group)
        if (group_offset, clusters_per_group) != ours:
            what = "group offset and clusters per group of .fdc.sf"
            expected = f"the superblock's {ours[0]} and {ours[1]}"
            raise fd.wrong("address", what, expected, f"{group_offset} and {clusters_per_group}")

    # descriptors

    @property
    def root(self) -> Descriptor:
        fd = self.descriptor(SystemFile.ROOT)
        if not fd.is_directory:
            raise fd.wrong("type", "type of the root directory", "2, a directory", int(fd.type))
        return fd

    def descriptor(self, address: int, *, deleted: bool = False) -> Descriptor:
        """Read now. `deleted`: also one that no name has any more. Raises CorruptVolume."""
        return judge(self.descriptor_at(address), address, deleted=deleted)

    def descriptor_at(self, address: int) -> Descriptor:
        """What lies where this address says, whatever it is. Raises CorruptVolume for no place of a descriptor."""
        if address & ~0xFFFFFFFF or addresses.kind(address) != AddressType.FILE_DESCRIPTOR:
            raise CorruptVolume(self.name, self.fdc.descriptor.position, "address", "a descriptor's", f"{address:#x}")
        position = self.fdc.locate(*addresses.place(address))
        if position % self.block_size + FD_BYTES <= self.block_size:
            return parse(self.lv.bytes_at(position, FD_BYTES), position, self.name)
        return parse(self.fdc.read(*addresses.place(address)), position, self.name)

    def descriptor_table(self, wanted: Sequence[int] | NDArray[np.uint32]) -> NDArray[np.void]:
        """DESCRIPTOR records for many addresses, with few large reads. They are not judged. Raises CorruptVolume."""
        words = np.asarray(wanted, ADDRESS)
        return self.fdc.read_many(*addresses.places(words, AddressType.FILE_DESCRIPTOR)).view(DESCRIPTOR).reshape(-1)

    def descriptors(self, wanted: Sequence[int]) -> list[Descriptor]:
        """The same as Descriptor objects, judged."""
        words = np.asarray(wanted, ADDRESS)
        table = self.descriptor_table(words)
        places = self.fdc.locate_many(*addresses.places(words, AddressType.FILE_DESCRIPTOR)).tolist()
        return [
            judge(Descriptor(raw, place, self.name), address)
            for raw, place, address in zip(table, places, words.tolist(), strict=True)
        ]

    # directories

    def directory_table(self, fd: Descriptor) -> NDArray[np.void]:
        """A directory's ENTRY records, all of them, as they are. Raises CorruptVolume."""
        directory.judge_length(fd, self.fdc.total + 2)
        return directory.table(self._contents(fd, fd.length))

    def entries(self, fd: Descriptor, *, dots: bool = False, relaxed: bool = False) -> list[Entry]:
        """In their order on disk. See directory.entries. Raises NotADirectory, CorruptVolume."""
        self._judge_directory(fd)
        rows = self.directory_table(fd)
        return directory.entries(fd, rows, lambda at: self.map(fd).position(at), dots=dots, relaxed=relaxed)

    def listing(self, fd: Descriptor) -> tuple[list[Entry], NDArray[np.void]]:
        """The entries of a directory, and the DESCRIPTOR record of each: all that `ls -l` shows, read at once."""
        found = self.entries(fd)
        return found, self.descriptor_table([entry.address for entry in found])

    def _judge_directory(self, fd: Descriptor) -> None:
        if not fd.is_directory:
            raise NotADirectory(addresses.describe(fd.address))

    # paths

    def lookup(self, path: str, *, follow: bool = True) -> Descriptor:
        """`follow`: of a symbolic link at the end, what it names. Raises NoSuchFile, NotADirectory, LinkLoop."""
        return self._walk(path, follow=follow)[-1]

    def exists(self, path: str) -> bool:
        try:
            self.lookup(path)
        except (NoSuchFile, NotADirectory):
            return False
        return True

    def _walk(self, path: str, *, follow: bool) -> list[Descriptor]:
        """The descriptors from the root to what the path names."""
        trail = [self.root]
        parts = split(path)
        links = 0
        while parts:
            name = parts.pop()
            if not trail[-1].is_directory:
                raise NotADirectory(path)
            if name == PARENT:
                trail = trail[: max(len(trail) - 1, 1)]
                continue
            fd = self.child(trail[-1], name, path)
            if fd.is_symlink and (parts or follow):
                links += 1
                if links > LINKS_MAX:
                    raise LinkLoop(path)
                target = self.readlink(fd)
                if target.startswith("/"):
                    trail, target = trail[:1], self.within(target, path)
                parts += split(target)
                continue
            trail.append(fd)
        if path.endswith("/") and not trail[-1].is_directory:
            raise NotADirectory(path)
        return trail

    def child(self, parent: Descriptor, name: str, path: str = "") -> Descriptor:
        """What this name is in a directory. Raises NoSuchFile."""
        row = directory.find(self.directory_table(parent), name)
        if row is None:
            raise NoSuchFile(path or name)
        return self.descriptor(int(row["address"]))

    def within(self, target: str, path: str) -> str:
        """A link's absolute target as a path of this volume: ESX knows it by label and UUID. Raises NoSuchFile."""
        for known in (self.label, uuid_text(self.uuid)):
            prefix = f"{VOLUMES}{known}"
            if known and (target == prefix or target.startswith(f"{prefix}/")):
                return target[len(prefix) :]
        if target.startswith(VOLUMES):
            raise NoSuchFile(path, f"a symbolic link to {target!a}, which is not on this volume")
        return target

    def readlink(self, fd: Descriptor) -> str:
        """What a symbolic link says. Raises CorruptVolume where that is no text."""
        if fd.length > LINK_BYTES_MAX:
            raise fd.wrong("length", "length of a symbolic link", f"up to {LINK_BYTES_MAX}", fd.length)
        text = self._contents(fd, fd.length).decode("utf-8", "surrogateescape")
        if not text or "\0" in text:
            raise fd.wrong("contents", "target of a symbolic link", "a path", ascii(text[:64]))
        return text

    # contents

    def open_file(self, fd: Descriptor) -> FileReader:
        """Raises NoContents for a raw device mapping, CorruptVolume."""
        if fd.is_rdm:
            raise NoContents(addresses.describe(fd.address))
        return FileReader(fd, self.map(fd))

    def map(self, fd: Descriptor) -> FileMap:
        """Where the bytes of a file lie."""
        return self.block_lists.map(fd)

    def _contents(self, fd: Descriptor, length: int) -> bytearray:
        data = bytearray(length)
        FileReader(fd, self.map(fd)).read(0, [memoryview(data)])
        return data

    def statistics(self) -> dict[str, tuple[int, int]]:
        """(total, free) of each kind of resource, by the name of its AddressType in small letters."""
        found = {}
        for kind, file in self._resources.items():
            found[kind.name.lower()] = file.total, int(file.cluster_table()["free"].sum())
        return found


def split(path: str) -> list[str]:
    """The names of a path, last one first."""
    return [part for part in reversed(path.split("/")) if part not in ("", SELF)]


