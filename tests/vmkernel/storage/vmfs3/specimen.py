"""Makes VMFS-3 volumes for tests of reading: from published offsets, with nothing of the product in it.

Blocks, sub-blocks and descriptors are handed out upwards; nothing is ever freed. Images are sparse files.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

MIB = 1 << 20
PE, DATA_AT, LBA_128 = 256 * MIB, 0x1100000, 128 * 512
TBZ = object()  # a block that is allocated, and was never written
FBB, FDC, PBC, SBC = 2, 5, 4, 3  # lock types of clusters
DIRECTORY, REGULAR, SYMLINK, SYSTEM, RDM = 2, 3, 4, 5, 6
LVM_UUID, FS_UUID = bytes(range(16)), bytes(range(16, 32))
NOW = 0x49EDF8C8


def uuid_text(raw: bytes) -> str:
    low, high, chance = struct.unpack("<IIH", raw[:10])
    return f"{low:08x}-{high:08x}-{chance:04x}-{raw[10:].hex()}"


@dataclass
class File:
    """What goes into a descriptor. `words` are its addresses."""

    kind: int
    number: int
    mode: int
    length: int = 0
    block_size: int = MIB
    blocks: int = 0
    nlink: int = 1
    zla: int = 1
    tbz: int = 0
    words: list[int] = field(default_factory=list)
    contents: bytes = b""
    entries: list[tuple[int, int, int, bytes]] = field(default_factory=list)  # type, address, generation, name
    mtime: int = NOW
    generation: int = 1


@dataclass
class Resources:
    """A resource file: how many resources, how they are arranged, and the file blocks that it has."""

    per: int
    size: int
    total: int
    lock: int
    group: int = 32
    used: int = 0
    blocks: list[int] = field(default_factory=list)

    @property
    def clusters(self) -> int:
        return -(-self.total // self.per)

    @property
    def groups(self) -> int:
        return -(-self.clusters // self.group)

    @property
    def group_size(self) -> int:
        return self.group * 1024 + self.group * self.per * self.size

    @property
    def length(self) -> int:
        last = self.total - (self.groups - 1) * self.group * self.per
        return 0x10000 + (self.groups - 1) * self.group_size + self.group * 1024 + last * self.size

    def item(self, number: int) -> int:
        cluster, resource = divmod(number, self.per)
        group, index = divmod(cluster, self.group)
        return 0x10000 + group * self.group_size + self.group * 1024 + (index * self.per + resource) * self.size


class Specimen:
    """A volume in the making: `finish` writes what holds it together. Device n is the file `NAMEn.img`."""

    def __init__(
        self, folder: Path, *, pes: tuple[int, ...] = (1,), block_size: int = MIB, label: str = "specimen",
        fds: int = 256, fd_per: int = 32, pbs: int = 16, sbs: int = 64, partitioned: bool = True, shift: bool = True,
        name: str = "lun", fragmented: bool = False,
    ) -> None:  # fmt: skip
        self.block_size, self.label, self.shift, self.pes = block_size, label, shift, pes
        self.base = LBA_128 if partitioned else 0
        self.paths = [folder / f"{name}{index}.img" for index in range(len(pes))]
        self.sizes = [DATA_AT + count * PE + 3 * 512 for count in pes]
        self.fds_open = []
        for path, size in zip(self.paths, self.sizes, strict=True):
            path.touch()
            os.truncate(path, self.base + size)
            self.fds_open.append(os.open(path, os.O_RDWR))
        self.size = sum(pes) * PE
        self.fbb = Resources(200, 0, self.size // block_size, FBB)
        self.fdc = Resources(fd_per, 2048, fds, FDC)
        self.pbc = Resources(16, 4096, pbs, PBC)
        self.sbc = Resources(16, 65536, sbs, SBC)
        self.files: list[File] = []
        self._lay_out(fragmented=fragmented)

    # where things are

    def write(self, offset: int, data: bytes) -> None:
        """At a byte of the volume."""
        while data:
            extent, skip = divmod(offset, PE)
            device = 0
            while extent >= self.pes[device]:
                extent, device = extent - self.pes[device], device + 1
            step = data[: PE - skip]
            os.pwrite(self.fds_open[device], step, self.base + DATA_AT + extent * PE + skip)
            offset, data = offset + len(step), data[len(step) :]

    def block(self) -> int:
        self.fbb.used += 1
        return self.fbb.used - 1

    def place(self, resources: Resources, offset: int) -> int:
        """The byte of the volume that is this byte of a resource file."""
        index, skip = divmod(offset, self.block_size)
        return resources.blocks[index] * self.block_size + skip

    def write_in(self, resources: Resources, offset: int, data: bytes) -> None:
        while data:
            step = data[: self.block_size - offset % self.block_size]
            self.write(self.place(resources, offset), step)
            offset, data = offset + len(step), data[len(step) :]

    def _lay_out(self, *, fragmented: bool) -> None:
        size = self.block_size
        self.head_blocks = [self.block() for _ in range(max(1, 0x400000 // size))]
        self.fdc.blocks = [self.block()]
        root_block = self.block()
        for resources, at_least in ((self.fbb, 1), (self.fdc, 1), (self.pbc, 1), (self.sbc, 1)):
            while len(resources.blocks) < max(at_least, -(-resources.length // size)):
                if fragmented:
                    self.block()
                resources.blocks.append(self.block())
        self.root = self.add(DIRECTORY, 0o1755, nlink=2, blocks=1, words=[root_block << 6 | 1])
        self.root.entries = [(DIRECTORY, 4, 1, b"."), (DIRECTORY, 4, 1, b"..")]
        names = (b".fbb.sf", b".fdc.sf", b".pbc.sf", b".sbc.sf", b".vh.sf")
        for name, blocks, length in zip(
            names,
            (self.fbb.blocks, self.fdc.blocks, self.pbc.blocks, self.sbc.blocks, self.head_blocks),
            (self.fbb.length, max(self.fdc.length, size), self.pbc.length, self.sbc.length, 0x400000),
            strict=True,
        ):
            words = [number << 6 | 1 for number in blocks]
            file = self.add(SYSTEM, 0o400, length=length, blocks=len(blocks), words=words)
            self.enter(self.root, name, file)

    # files

    def add(self, kind: int, mode: int, **facts: object) -> File:
        file = File(kind, self.fdc.used, mode, block_size=self.block_size)
        for name, value in facts.items():
            setattr(file, name, value)
        self.fdc.used += 1
        self.files.append(file)
        return file

    def address(self, file: File) -> int:
        cluster, resource = divmod(file.number, self.fdc.per)
        return resource << 22 | cluster << 6 | 4

    def enter(self, folder: File, name: bytes | str, file: File) -> File:
        raw = name if isinstance(name, bytes) else name.encode()
        folder.entries.append((file.kind, self.address(file), file.generation, raw))
        return file

    def user(self, folder: File, name: str, kind: int, mode: int, **facts: object) -> File:
        file = self.add(kind, mode, generation=self.fdc.used - 5, **facts)
        return self.enter(folder, name, file)

    def mkdir(self, name: str, folder: File | None = None) -> File:
        parent = folder or self.root
        made = self.user(parent, name, DIRECTORY, 0o755, nlink=2)
        made.entries = [(DIRECTORY, self.address(made), made.generation, b"."),
                        (DIRECTORY, self.address(parent), parent.generation, b"..")]  # fmt: skip
        parent.nlink += 1
        return made

    def file(self, name: str, data: bytes, folder: File | None = None) -> File:
        """In a sub-block where it fits, else in file blocks."""
        made = self.user(folder or self.root, name, REGULAR, 0o100600)
        self.fill(made, data)
        return made

    def symlink(self, name: str, target: str, folder: File | None = None) -> File:
        made = self.user(folder or self.root, name, SYMLINK, 0o777)
        self.fill(made, target.encode())
        return made

    def rdm(self, name: str, disk_id: bytes, size: int) -> File:
        return self.user(
            self.root, name, RDM, 0o600, length=size, block_size=512, zla=0, contents=disk_id.ljust(1024, b"\0")
        )

    def fill(self, file: File, data: bytes) -> None:
        file.length = len(data)
        if len(data) <= 65536:
            file.zla, file.block_size, file.blocks, file.words = 2, 65536, int(bool(data)), []
            if data:
                file.words = [self.sub_block(data)]
            return
        size = self.block_size
        blocks = {at // size: data[at : at + size] for at in range(0, len(data), size)}
        self.map(file, len(data), blocks)

    def sub_block(self, data: bytes) -> int:
        number, self.sbc.used = self.sbc.used, self.sbc.used + 1
        self.write_in(self.sbc, self.sbc.item(number), data)
        return number % 16 << 28 | number // 16 << 6 | 2

    def sparse(
        self, name: str, size: int, blocks: Mapping[int, object], folder: File | None = None, *, pointers: bool = False
    ) -> File:
        """Blocks by their index: bytes, or TBZ. What is not named is a hole."""
        made = self.user(folder or self.root, name, REGULAR, 0o100600)
        self.map(made, size, blocks, pointers=pointers)
        return made

    def map(self, file: File, length: int, blocks: Mapping[int, object], *, pointers: bool = False) -> None:
        words: dict[int, int] = {}
        for index in sorted(blocks):
            number, data = self.block(), blocks[index]
            words[index] = number << 6 | (0x20 if data is TBZ else 0) | 1
            if isinstance(data, bytes):
                self.write(number * self.block_size, data)
            file.tbz += data is TBZ
        file.length, file.block_size, file.blocks = length, self.block_size, len(words)
        count = -(-length // self.block_size)
        if count <= 256 and not pointers:
            file.zla, file.words = 1, [words.get(index, 0) for index in range(count)]
            return
        file.zla, file.words = 3, [0] * -(-count // 1024)
        for outer in sorted({index // 1024 for index in words}):
            table = np.zeros(1024, "<u4")
            for index, word in words.items():
                if index // 1024 == outer:
                    table[index % 1024] = word
            number, self.pbc.used = self.pbc.used, self.pbc.used + 1
            self.write_in(self.pbc, self.pbc.item(number), table.tobytes())
            file.words[outer] = number % 16 << 28 | number // 16 << 6 | 3

    # what holds it together

    def finish(self) -> list[Path]:
        for folder in [file for file in self.files if file.kind == DIRECTORY]:
            self._directory(folder)
        for file in self.files:
            self.write_in(self.fdc, self.fdc.item(file.number), self._descriptor(file))
        for resources in (self.fbb, self.fdc, self.pbc, self.sbc):
            self._clusters(resources)
        self._superblock()
        for index in range(len(self.pes)):
            self._device(index)
        for fd in self.fds_open:
            os.close(fd)
        return self.paths

    def _directory(self, folder: File) -> None:
        data = b"".join(struct.pack("<III128s", *entry) for entry in folder.entries)
        if folder is not self.root:
            folder.zla = 0
            self.fill(folder, data)
            return
        folder.length = len(data)
        self.write((folder.words[0] >> 6) * self.block_size, data)

    def _descriptor(self, file: File) -> bytes:
        raw = bytearray(2048)
        position = self.place(self.fdc, self.fdc.item(file.number))
        struct.pack_into("<IQQQQ", raw, 0, 0x10C00001, position, 0, 0, 1)
        struct.pack_into(
            "<IIIIIQQQIIIIIIIII", raw, 0x200, self.address(file), file.generation, file.nlink, file.kind, 0,
            file.length, file.block_size, file.blocks, file.mtime, file.mtime, file.mtime, 0, 0, file.mode, file.zla,
            file.tbz, 0,
        )  # fmt: skip
        if self.shift:
            raw[0x289] = file.block_size.bit_length() - 1
        struct.pack_into(f"<{len(file.words)}I", raw, 0x400, *file.words)
        if file.contents:
            raw[0x400:] = file.contents
        return bytes(raw)

    def _clusters(self, resources: Resources) -> None:
        head = struct.pack(
            "<7I", resources.per, resources.group, 0x10000, resources.size, resources.group_size, resources.total,
            resources.groups,
        )  # fmt: skip
        self.write_in(resources, 0, head)
        for cluster in range(resources.clusters):
            first = cluster * resources.per
            total = min(resources.per, resources.total - first)
            used = min(max(resources.used - first, 0), total)
            bits = np.zeros(512, np.uint8)
            bits[used:total] = 1
            raw = bytearray(1024)
            group, index = divmod(cluster, resources.group)
            at = 0x10000 + group * resources.group_size + index * 1024
            struct.pack_into("<IQQQQ", raw, 0, 0x10C00000 | resources.lock, self.place(resources, at), 0, 0, 1)
            struct.pack_into("<IIII", raw, 0x200, cluster, total, total - used, used % total)
            raw[0x210:0x250] = np.packbits(bits, bitorder="little").tobytes()
            self.write_in(resources, at, bytes(raw))

    def _superblock(self) -> None:
        raw = bytearray(512)
        struct.pack_into("<IIB16sI128sIQII16sI", raw, 0, 0x2FABF15E, 4, 31, FS_UUID, 2, self.label.encode(), 512,
                         self.block_size, NOW, 1, LVM_UUID, 1)  # fmt: skip
        struct.pack_into("<III", raw, 0xD1, 0x10000, 32, 0x10000)
        self.write(0x200000, bytes(raw))
        beats = bytearray(2048 * 512)
        for slot in range(2048):
            struct.pack_into("<IQ", beats, slot * 512, 0xABCDEF01, 0x300000 + slot * 512)
        self.write(0x300000, bytes(beats))

    def _device(self, index: int) -> None:
        fd, count, first = self.fds_open[index], self.pes[index], sum(self.pes[:index])
        if self.base:
            mbr = bytearray(512)
            struct.pack_into("<B3sB3sII", mbr, 446, 0, b"", 0xFB, b"", 128, self.sizes[index] // 512)
            mbr[510:] = b"\x55\xaa"
            os.pwrite(fd, mbr, 0)
        header = bytearray(512)
        disk_id = struct.pack("<BBHBB8s16s4s44s", 0, 15, index, 0, 3, b"Sun     ", b"VOL1            ", b"V1.0",
                              b"vmhba0:C0:T0:L%d" % index)  # fmt: skip
        struct.pack_into("<III78sIQIIIQQ16sQQ", header, 0, 0xC001D00D, 3, 0x10, disk_id, 512, self.sizes[index], 1,
                         count, count - 1, 3, DATA_AT, bytes([index + 1]) * 16, NOW, NOW)  # fmt: skip
        os.pwrite(fd, header, self.base + 0x100000)
        volume = bytearray(512)
        total, devices = sum(self.pes), len(self.pes)
        struct.pack_into("<QQI64s16sIQIIQQQI", volume, 0, total * PE, total + devices, 1,
                         uuid_text(LVM_UUID).encode(), LVM_UUID, 1, NOW, 0, count, first, first + count - 1, NOW,
                         devices)  # fmt: skip
        os.pwrite(fd, volume, self.base + 0x100200)
        bitmap = np.packbits(np.arange(8192) < count, bitorder="little").tobytes()
        os.pwrite(fd, bitmap, self.base + 0x180200)
        for pe in range(count):
            entry = struct.pack("<BIIQQQI", 1, pe, 0, DATA_AT + pe * PE, (first + pe) * PE, PE, 1)
            os.pwrite(fd, entry, self.base + 0x180600 + pe * 128)
