"""Deleted files whose descriptors survive: which there are, how much of each is still there, and their contents.

Deleting frees a descriptor and its blocks, and leaves what is in them. A block that is free now most likely still has
the file's bytes; one that is in use again has somebody else's, and is a hole in what is recovered. A name survives only
behind the end of a directory, where an entry was moved away from.
Not modelled: blocks that were in use again and freed since, which look like the file's own.
"""

from __future__ import annotations

import posixpath
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ringfence.errors import BadInput
from vmkernel.storage.vmfs3 import addresses
from vmkernel.storage.vmfs3 import descriptor_spec as spec
from vmkernel.storage.vmfs3.descriptor import BLOCKS_MAX, Descriptor
from vmkernel.storage.vmfs3.descriptor_spec import AddressType, FileBlockFlag, FileType, ZeroLevel
from vmkernel.storage.vmfs3.directory_spec import ENTRY, ENTRY_BYTES, PARENT, SELF
from vmkernel.storage.vmfs3.file_map import Kind as RunKind
from vmkernel.storage.vmfs3.resources import ResourceFile
from vmkernel.storage.vmfs3.tree_copy import Content, Kind, Node, Segment
from vmkernel.storage.vmfs3.volume import Volume
from vmkernel.storage.vmfs3.volume_spec import LockType
from vmkernel.storage.vmfs3.walk import walk

AT_ONCE = 4096
RECOVERED = (FileType.REGULAR, FileType.SYMLINK)
LEVELS = {
    ZeroLevel.FILE_BLOCK: AddressType.FILE_BLOCK, ZeroLevel.SUB_BLOCK: AddressType.SUB_BLOCK,
    ZeroLevel.POINTER_BLOCK: AddressType.POINTER_BLOCK,
}  # fmt: skip
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Deleted:
    """A deleted file. Bytes: `free_bytes` are in blocks that nobody uses, `reused_bytes` are lost.

    `pieces` are (offset in the file, offset in the volume, length). `is_complete`: nothing of it is in use again.
    """

    fd: Descriptor
    name: str  # the path it had, where that survives; else empty
    pieces: tuple[tuple[int, int, int], ...]
    free_bytes: int
    reused_bytes: int

    @property
    def is_complete(self) -> bool:
        return not self.reused_bytes

    @property
    def title(self) -> str:
        """What it is recovered as, where nothing else is said."""
        cluster, resource = addresses.place(self.fd.address)
        return posixpath.basename(self.name) or f"deleted-{cluster}-{resource}"

    def facts(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "descriptor": addresses.describe(self.fd.address), "address": self.fd.address, "offset": self.fd.position,
            "generation": self.fd.generation, "type": self.fd.type.name.lower(), "name": self.name or None,
            "size": self.fd.length, "mtime": self.fd.mtime, "free_bytes": self.free_bytes,
            "reused_bytes": self.reused_bytes, "complete": self.is_complete,
        }  # fmt: skip


def deleted(volume: Volume) -> list[Deleted]:
    """All of them, in the order of their descriptors. Raises CorruptVolume where the volume's own files are damaged."""
    survey = Survey(volume)
    return [survey.judge(fd) for fd in survey.candidates()]


class Survey:
    """What is free, and which names lie behind the ends of directories."""

    def __init__(self, volume: Volume) -> None:
        self.volume = volume
        self.free: dict[AddressType, NDArray[np.bool_]] = {
            kind: volume.resource_file(kind).free_map() for kind in (*LEVELS.values(), AddressType.FILE_DESCRIPTOR)
        }
        self.names = dict(self._old_names())

    def candidates(self) -> Iterator[Descriptor]:
        """Descriptors that once were files and are none now."""
        fdc = self.volume.fdc
        for start in range(0, fdc.total, AT_ONCE):
            numbers = np.arange(start, min(start + AT_ONCE, fdc.total))
            cluster, resource = numbers // fdc.per_cluster, numbers % fdc.per_cluster
            table = fdc.read_many(cluster, resource).view(spec.DESCRIPTOR).reshape(-1)
            own = (
                resource << spec.FD_RESOURCE_SHIFT | cluster << spec.CLUSTER_SHIFT | AddressType.FILE_DESCRIPTOR
            ).astype(np.uint32)
            found = (
                (table["lock"]["type"] == LockType.FILE_DESCRIPTOR) & (table["address"] == own)
                & (self.free[AddressType.FILE_DESCRIPTOR][numbers] | (table["nlink"] == 0))
                & np.isin(table["type"], RECOVERED) & np.isin(table["zla"], [int(level) for level in LEVELS])
                & (table["block_size"] > 0)
            )  # fmt: skip
            places = fdc.locate_many(cluster, resource)
            for index in np.flatnonzero(found).tolist():
                yield Descriptor(table[index], int(places[index]), self.volume.name)

    def judge(self, fd: Descriptor) -> Deleted:
        """Where its bytes lie, and which of them are still its own."""
        size = self.volume.sbc.size if fd.zla == ZeroLevel.SUB_BLOCK else self.volume.block_size
        length = min(fd.length, BLOCKS_MAX[fd.zla] * size)
        pieces: list[tuple[int, int, int]] = []
        reused = 0
        for index, word, is_ours in self._words(fd):
            count = min(size, length - index * size)
            if count <= 0 or (word & FileBlockFlag.TBZ and fd.zla != ZeroLevel.SUB_BLOCK):
                continue
            kind = AddressType.SUB_BLOCK if fd.zla == ZeroLevel.SUB_BLOCK else AddressType.FILE_BLOCK
            runs = self._place(kind, word, count) if is_ours else []
            if not runs:
                reused += count if word else min(size * spec.PER_POINTER_BLOCK, length - index * size)
            done = 0
            for place, step in runs:
                pieces.append((index * size + done, place, step))
                done += step
        name = self.names.get((fd.address, fd.generation), "")
        return Deleted(fd, name, tuple(pieces), sum(step for _, _, step in pieces), reused)

    def _words(self, fd: Descriptor) -> Iterator[tuple[int, int, bool]]:
        """Block numbers of the file and their addresses. Of a pointer block in use again: its first, 0, False."""
        kind = LEVELS[fd.zla]
        words = fd.addresses
        for index in np.flatnonzero(words).tolist():
            word = int(words[index])
            is_ours = self._is_free(kind, word)
            if kind is not AddressType.POINTER_BLOCK:
                yield index, word, is_ours
                continue
            first = index * spec.PER_POINTER_BLOCK
            if not is_ours:
                yield first, 0, False
                continue
            raw = self.volume.pbc.read(*addresses.place(word))
            inner = np.frombuffer(raw, spec.ADDRESS)
            for within in np.flatnonzero(inner).tolist():
                below = int(inner[within])
                yield first + within, below, self._is_free(AddressType.FILE_BLOCK, below)

    def _is_free(self, kind: AddressType, word: int) -> bool:
        if addresses.kind(word) != kind:
            return False
        number = self._number(kind, word)
        return number < len(self.free[kind]) and bool(self.free[kind][number])

    def _number(self, kind: AddressType, word: int) -> int:
        if kind is AddressType.FILE_BLOCK:
            return addresses.block_number(word)
        cluster, resource = addresses.place(word, dense=self.volume.superblock.dense)
        return cluster * self.volume.resource_file(kind).per_cluster + resource

    def _place(self, kind: AddressType, word: int, count: int) -> list[tuple[int, int]]:
        """Runs of the volume; a sub-block may lie across two file blocks."""
        if kind is AddressType.FILE_BLOCK:
            return [(addresses.block_number(word) * self.volume.block_size, count)]
        file: ResourceFile = self.volume.sbc
        offset = int(file.geometry.items_at(*addresses.place(word, dense=self.volume.superblock.dense)))
        first = min(count, self.volume.block_size - offset % self.volume.block_size)
        runs = [(file.position(offset), first)]
        return runs if first == count else [*runs, (file.position(offset + first), count - first)]

    def _old_names(self) -> Iterator[tuple[tuple[int, int], str]]:
        """(address, generation) and path, of entries that lie behind the ends of directories."""
        for item in walk(self.volume, "/", self.volume.root, lambda text: None):
            if not item.fd.is_directory:
                continue
            try:
                mapped = self.volume.map(item.fd)
            except BadInput:
                continue
            end = item.fd.length
            for start, length, place in zip(
                mapped.file_offset[mapped.kind == RunKind.DATA].tolist(),
                mapped.length[mapped.kind == RunKind.DATA].tolist(),
                mapped.lv_offset[mapped.kind == RunKind.DATA].tolist(), strict=True,
            ):  # fmt: skip
                skip = max(end - start, 0)
                count = (length - skip) // ENTRY_BYTES
                if count <= 0:
                    continue
                rows = np.frombuffer(self.volume.lv.bytes_at(place + skip, count * ENTRY_BYTES), ENTRY)
                for row in rows[rows["address"] & spec.TYPE_MASK == AddressType.FILE_DESCRIPTOR]:
                    name = row["name"].decode("utf-8", "replace")
                    if name and name not in (SELF, PARENT) and "/" not in name and "\0" not in name:
                        yield (int(row["address"]), int(row["generation"])), posixpath.join(item.path, name)


class DeletedContent:
    """The bytes that are left. What is lost is a hole."""

    def __init__(self, volume: Volume, found: Deleted) -> None:
        self._volume, self._pieces = volume, found.pieces
        self._starts = [piece[0] for piece in found.pieces]
        self.size = found.fd.length

    def segments(self) -> Iterator[Segment]:
        for offset, _, length in self._pieces:
            yield offset, length

    def read(self, offset: int, view: memoryview) -> None:
        start, place, length = self._pieces[bisect_right(self._starts, offset) - 1]
        assert offset + len(view) <= start + length, "only what segments names is read"
        self._volume.lv.read(place + offset - start, [view])


class DeletedNode:
    """A deleted file as something that is copied."""

    def __init__(self, volume: Volume, found: Deleted) -> None:
        self._volume, self._found = volume, found
        self.name, self.kind = found.title, Kind.FILE
        self.mode, self.mtime_s = found.fd.stored_mode & 0o777, found.fd.mtime
        self.identity: object = found.fd.address

    def __str__(self) -> str:
        return f"{self._volume.name}: {self.name}"

    def children(self) -> list[Node]:
        return []

    def target(self) -> str:
        return ""

    @contextmanager
    def content(self) -> Iterator[Content]:
        yield DeletedContent(self._volume, self._found)

    def data_bytes(self) -> int:
        return self._found.free_bytes
