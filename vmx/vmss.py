"""Writes and reads the container of suspended machines: groups of tags, and one large block at its end.

The last tag of the last group is a block that is not kept in memory: the guest's RAM. It begins at a page of the file,
so that it may be sparse; a tag before it fills the space, for not every reader knows a block's padding. The header's
second word is a CRC-32 of everything from the group table to that block.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from construct import ConstructError, StreamError

from ringfence.errors import BadInput
from vmkernel.storage.block_file import BlockFile
from vmx.vmss_spec import (
    BLOCK,
    BLOCK_DATA,
    END,
    FILLER_TAG,
    GROUP,
    GROUPS_MAX,
    HEADER,
    INDEX,
    INDEX_SHIFT,
    LARGE_TAG,
    MAGIC,
    META_BYTES_MAX,
    NAME_BYTES,
    SHORT_DATA_MAX,
    TAG,
)

PAGE = 4096
LARGE_INDICES = (0, 0)
LOW_FLAGS = (1 << INDEX_SHIFT) - 1
Key = tuple[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Tag:
    """One named value; `indices` as in regionPPN[2]."""

    name: str
    data: bytes
    indices: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """Tags of one subject."""

    name: str
    tags: tuple[Tag, ...]


@dataclass(frozen=True, slots=True)
class Container:
    """What a file holds: values by group and by (name, indices); where the large block lies, and its size."""

    groups: dict[str, dict[Key, bytes]]
    large_offset: int
    large_bytes: int

    def value(self, where: str, group: str, name: str, *indices: int) -> bytes:
        """Raises BadInput where it is missing."""
        try:
            return self.groups[group][name, indices]
        except KeyError:
            text = name + "".join(f"[{index}]" for index in indices)
            raise BadInput(where, f"group {group!r}", f"a tag {text}", "none") from None


def pack_tag(tag: Tag) -> bytes:
    """A tag of any size but the large one."""
    head = b"".join(INDEX.build(index) for index in tag.indices)
    flags = len(tag.indices) << INDEX_SHIFT
    start = {"flags": flags | min(len(tag.data), BLOCK_DATA), "name_length": len(tag.name)}
    packed: bytes = TAG.build(start) + tag.name.encode("ascii") + head
    if len(tag.data) <= SHORT_DATA_MAX:
        return packed + tag.data
    sizes = {"disk_bytes": len(tag.data), "memory_bytes": len(tag.data), "padding": 0}
    return bytes(packed + BLOCK.build(sizes) + tag.data)


def pack_large(at: int, large_bytes: int) -> bytes:
    """What goes before the large block, from this place of the file on: a filler, and the block's own tag."""
    flags = len(LARGE_INDICES) << INDEX_SHIFT | BLOCK_DATA
    head = TAG.build({"flags": flags, "name_length": len(LARGE_TAG)}) + LARGE_TAG.encode("ascii")
    head += b"".join(INDEX.build(index) for index in LARGE_INDICES)
    head += BLOCK.build({"disk_bytes": large_bytes, "memory_bytes": large_bytes, "padding": 0})
    filler = pack_tag(Tag(FILLER_TAG, bytes(SHORT_DATA_MAX + 1)))
    missing = -(at + len(filler) + len(head)) % PAGE
    return bytes(pack_tag(Tag(FILLER_TAG, bytes(SHORT_DATA_MAX + 1 + missing))) + head)


def pack(groups: Sequence[Group], large_bytes: int) -> bytes:
    """Everything before the large block, which is the last tag of the last group."""
    at = HEADER.sizeof() + GROUP.sizeof() * len(groups)
    rows, bodies = [], []
    for index, group in enumerate(groups):
        body = b"".join(pack_tag(tag) for tag in group.tags)
        size = len(body) + len(END)
        if index == len(groups) - 1:
            body += pack_large(at + len(body), large_bytes)
            size = len(body) + large_bytes + len(END)
        else:
            body += END
        name = group.name.encode("ascii").ljust(NAME_BYTES, b"\0")
        rows.append(GROUP.build({"name": name, "offset": at, "size": size}))
        bodies.append(body)
        at += len(body)
    meta = b"".join(rows) + b"".join(bodies)
    header: bytes = HEADER.build({"magic": MAGIC, "word": zlib.crc32(meta), "groups": len(groups)})
    return header + meta


def read_container(file: BlockFile, where: str) -> Container:
    """Read and check everything but the large block. Raises BadInput for what is damaged or no such file."""
    try:
        return _Reader(file, where).read()
    except (ConstructError, StreamError, UnicodeDecodeError, IndexError) as error:
        raise BadInput(where, "suspended state", "a whole container", f"damage: {error}") from error


class _Reader:
    """One pass over the metadata."""

    def __init__(self, file: BlockFile, where: str) -> None:
        self.where, self.file_bytes = where, file.refresh()
        self.meta = file.some_at(0, META_BYTES_MAX)
        self.large: tuple[int, int] | None = None

    def read(self) -> Container:
        if len(self.meta) < HEADER.sizeof():
            raise BadInput(self.where, "header", f"{HEADER.sizeof()} bytes", f"{len(self.meta)}")
        header = HEADER.parse(self.meta)
        if header.magic != MAGIC:
            raise BadInput(self.where, "magic at offset 0", f"{MAGIC:#x}", f"{header.magic:#x}")
        if not 0 < header.groups <= GROUPS_MAX:
            raise BadInput(self.where, "groups at offset 8", f"1 to {GROUPS_MAX}", f"{header.groups}")
        rows = [
            GROUP.parse(self.meta[HEADER.sizeof() + index * GROUP.sizeof() :][: GROUP.sizeof()])
            for index in range(header.groups)
        ]
        groups = {row.name.rstrip(b"\0").decode("ascii"): self._tags(row.offset) for row in rows}
        if self.large is None:
            raise BadInput(self.where, "groups", "a block with the memory", "none")
        offset, size = self.large
        if zlib.crc32(self.meta[HEADER.sizeof() : offset]) != header.word:
            raise BadInput(self.where, "checksum at offset 4", f"that of the first {offset} bytes", "another")
        if offset + size > self.file_bytes:
            raise BadInput(self.where, "size", f"at least {offset + size} bytes", f"{self.file_bytes}")
        return Container(groups, offset, size)

    def _tags(self, at: int) -> dict[Key, bytes]:
        """The tags of one group; the large one, if it is there, is the last."""
        tags: dict[Key, bytes] = {}
        while True:
            tag = TAG.parse(self.meta[at : at + TAG.sizeof()])
            if tag.flags == 0 and tag.name_length == 0:
                return tags
            at += TAG.sizeof()
            name = self._take(at, tag.name_length).decode("ascii")
            at += tag.name_length
            indices = tuple(INDEX.parse(self._take(at + 4 * n, 4)) for n in range(tag.flags >> INDEX_SHIFT))
            at += 4 * len(indices)
            size = tag.flags & LOW_FLAGS
            if size >= BLOCK_DATA:
                block = BLOCK.parse(self._take(at, BLOCK.sizeof()))
                at += BLOCK.sizeof() + block.padding
                size = block.disk_bytes
                if name == LARGE_TAG:
                    self.large = (at, size)
                    return tags
            tags[name, indices] = self._take(at, size)
            at += size

    def _take(self, at: int, size: int) -> bytes:
        piece = self.meta[at : at + size]
        if len(piece) != size:
            raise BadInput(self.where, f"tag at offset {at}", f"{size} bytes", f"{len(piece)}")
        return piece
