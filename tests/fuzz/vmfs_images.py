"""Damaged VMFS volumes: specimens, ways to damage them, and the rules that hold for whatever comes of it."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ringfence.errors import RingfenceError
from tests.vmkernel.storage.vmfs3.specimen import DATA_AT, MIB, TBZ, Resources, Specimen
from vmkernel.storage.vmfs3.check import check
from vmkernel.storage.vmfs3.descriptor import Descriptor
from vmkernel.storage.vmfs3.descriptor_spec import ADDRESSES
from vmkernel.storage.vmfs3.undelete import Deleted, DeletedContent, deleted
from vmkernel.storage.vmfs3.volume import Volume

STEPS_MAX = 10  # files and directories that are looked at in one volume, besides those that were hit
READ_BYTES = 70_000
GONE_BLOCKS = 4  # file blocks that deleted files had
CHECKED, UNDELETED = 20, 40  # one of so many volumes
WORDS = (0, 1, 2, 3, 4, 5, 7, 8, 31, 32, 127, 255, 256, 512, 1 << 15, 1 << 16, 1 << 20, 1 << 31, (1 << 32) - 1,
         1 << 32, 1 << 45, (1 << 63) - 1, (1 << 64) - 1, 0x10D0, 0x10D1, 0x10C00001)  # fmt: skip
PATHS = ("/", "/d/e/inner", "/link", "/loop", "/d/..", "/pointed", "/none/x")
Place = tuple[int, int, int]


@dataclass(frozen=True)
class Target:
    """A volume, the places (file number, offset, length) where its structures lie, and where each file's data ends.

    `owners`: by place, the address of the file whose descriptor or pointer blocks lie there.
    """

    paths: list[Path]
    places: list[Place]
    owners: dict[Place, int]
    ends: list[int]


def specimens(folder: Path) -> list[Target]:
    """One device with a partition table, two without; together they have one of everything."""
    return [
        target(folder, name="one", fds=64, sbs=32),
        target(folder, name="two", fds=64, sbs=32, pes=(1, 1), partitioned=False, block_size=2 * MIB),
    ]


def target(folder: Path, **options: Any) -> Target:
    made = Specimen(folder, **options)
    inner = made.mkdir("d")
    deeper = made.mkdir("e", inner)
    made.file("inner", b"contents" * 100, deeper)
    made.symlink("link", "d/e/inner")
    made.symlink("loop", "loop")
    made.file("empty", b"")
    for number in range(18):
        made.file(f"small{number}", bytes([number]) * 60_000, inner)
    size = made.block_size
    made.sparse("blocks", 3 * size, {0: b"start", 1: TBZ, 2: b"end"})
    pointed = made.sparse("pointed", 2000 * size, {0: b"start", 1024: b"middle", 1999: b"end"}, pointers=True)
    made.rdm("raw", bytes(range(78)), 1 << 40)
    many = made.mkdir("many")
    for number in range(40):
        made.enter(many, f"same{number}", inner)
    gone = delete_files(made)
    paths = made.finish()
    ends = [made.base + DATA_AT] * len(paths)
    ends[0] += (made.fbb.used + GONE_BLOCKS) * size
    numbers = [*range(inner.number, made.fdc.used), *gone]
    owners = {facts_of(made, number): made.address(made.files[number]) for number in numbers}
    owners |= {pointers_of(made, number): made.address(pointed) for number in range(made.pbc.used)}
    return Target(paths, places(made, numbers), owners, ends)


def delete_files(made: Specimen) -> list[int]:
    """Descriptors of files that were; the sub-block of one goes to a directory when the volume is finished."""
    size, used = made.block_size, [made.fbb.used, made.fdc.used, made.pbc.used, made.sbc.used]
    made.file("gone", b"gone" * 100)
    made.sparse("gone blocks", 300 * size, {3: b"1", 4: TBZ, 299: b"3"}, pointers=True)
    made.sparse("gone before", 2 * size, {1: b"4"})
    assert made.fbb.used - used[0] == GONE_BLOCKS
    numbers = list(range(used[1], made.fdc.used))
    del made.root.entries[-len(numbers) :]
    made.fbb.used, made.fdc.used, made.pbc.used, made.sbc.used = used
    return numbers


def places(made: Specimen, descriptors: Sequence[int]) -> list[Place]:
    """Where structures are: devices' heads, superblock, resource files' heads, descriptors, tables, directories."""
    found = [(0, 446, 66)] if made.base else []
    for device in range(len(made.pes)):
        found += [(device, made.base + at, size) for at, size in ((0x100000, 0xD6), (0x100200, 0x114), (0x180600, 256))]
    volume = [(0x200000, 0xF0), (0x300000, 1024)]
    for resources in (made.fbb, made.fdc, made.pbc, made.sbc):
        volume += [(made.place(resources, 0), 28), (made.place(resources, 0x10000), 2048)]
    volume += [(item(made, made.fdc, number), 0x420) for number in range(6)] * 2
    volume += [(item(made, made.sbc, number), 600) for number in range(made.sbc.used)]
    volume += [((made.root.words[0] >> 6) * made.block_size, 2400)]
    found += [(0, made.base + DATA_AT + at, size) for at, size in volume]
    found += [facts_of(made, number) for number in descriptors]
    return found + [pointers_of(made, number) for number in range(made.pbc.used + 1)]


def facts_of(made: Specimen, number: int) -> Place:
    """A descriptor from its address on."""
    return 0, made.base + DATA_AT + item(made, made.fdc, number) + 0x200, 0x250


def pointers_of(made: Specimen, number: int) -> Place:
    return 0, made.base + DATA_AT + item(made, made.pbc, number), 4096


def item(made: Specimen, resources: Resources, number: int) -> int:
    return made.place(resources, resources.item(number))


@contextmanager
def damaged(target: Target, chance: random.Random) -> Iterator[list[Place]]:
    """A few bytes and words of its structures, put back afterwards: in which places. Now and then an end is cut off."""
    undo: list[tuple[int, int, bytes]] = []
    hit: list[Place] = []
    files = [os.open(path, os.O_RDWR) for path in target.paths]
    sizes = [os.fstat(fd).st_size for fd in files]
    try:
        for _ in range(chance.choice((1, 1, 2, 4))):
            hit.append(place := chance.choice(target.places))
            device, start, length = place
            offset = start + chance.randrange(length)
            if chance.randrange(3):
                offset -= (offset - start) % 4
            new = replacement(files[device], target, chance)
            undo.append((device, offset, os.pread(files[device], len(new), offset)))
            os.pwrite(files[device], new, offset)
        if not chance.randrange(40):
            device = chance.randrange(len(files))
            os.truncate(files[device], chance.randrange(target.ends[device], sizes[device]))
        yield hit
    finally:
        for fd, size in zip(files, sizes, strict=True):
            os.truncate(fd, size)
        for device, offset, old in reversed(undo):
            os.pwrite(files[device], old, offset)
        for fd in files:
            os.close(fd)


def replacement(fd: int, target: Target, chance: random.Random) -> bytes:
    match chance.randrange(6):
        case 0:
            return chance.randbytes(1)
        case 1:
            return bytes([1 << chance.randrange(8)])
        case 2 | 3:
            return struct.pack("<I", chance.choice((*WORDS, chance.getrandbits(32))) & 0xFFFFFFFF)
        case 4:
            return struct.pack("<Q", chance.choice((*WORDS, chance.getrandbits(64))))
        case _:
            _, start, length = chance.choice([place for place in target.places if place[0] == 0])
            return os.pread(fd, chance.choice((4, 8, 16, 140)), start + chance.randrange(length) // 4 * 4)


def refused(call: Any) -> Any:
    """What the call returns; None where it is refused in one line."""
    try:
        return call()
    except RingfenceError as error:
        assert "\n" not in str(error)
        return None


def examine(paths: Sequence[Path], chance: random.Random, hit: Iterable[int] = ()) -> None:
    """Opened, walked, listed and read, now and then checked: it goes, or is refused in one line.

    Files with these addresses are read in any case.
    """
    if not chance.randrange(CHECKED):
        for finding in refused(lambda: check(paths)) or []:
            assert "\n" not in str(finding)
    volume: Volume | None = refused(lambda: Volume.open(paths))
    if volume is None:
        return
    with volume:
        if not chance.randrange(UNDELETED):
            for gone in refused(lambda: deleted(volume)) or []:
                recover(volume, gone)
        if not chance.randrange(4):
            refused(volume.statistics)
            for file in (volume.fbb, volume.fdc, volume.pbc, volume.sbc):
                refused(file.free_map)
        path = chance.choice(PATHS)
        refused(lambda: volume.lookup(path))
        for address in dict.fromkeys(hit):
            fd = refused(lambda address=address: volume.descriptor(address))
            if fd is not None:
                read(volume, fd, chance)
        root = refused(lambda: volume.root)
        if root is not None:
            walk(volume, root, chance)


def recover(volume: Volume, gone: Deleted) -> None:
    assert gone.title and "/" not in gone.title
    content = DeletedContent(volume, gone)
    end = 0
    for offset, length in content.segments():
        assert end <= offset < (end := offset + length) <= gone.fd.length
        view = memoryview(bytearray(min(length, READ_BYTES)))
        refused(lambda offset=offset, view=view: content.read(offset, view))


def walk(volume: Volume, root: Descriptor, chance: random.Random) -> None:
    left, steps, seen = [root], 0, {root.address}
    while left:
        fd = left.pop()
        refused(lambda fd=fd: volume.listing(fd))
        entries = refused(lambda fd=fd: volume.entries(fd, relaxed=True)) or []
        for entry in chance.sample(entries, min(len(entries), STEPS_MAX)):
            assert "/" not in entry.name and "\0" not in entry.name and entry.name
            if entry.address in seen:
                continue
            if (steps := steps + 1) > STEPS_MAX:
                return
            seen.add(entry.address)
            found = refused(lambda entry=entry: volume.descriptor(entry.address))
            if found is None:
                continue
            read(volume, found, chance)
            if found.is_directory:
                left.append(found)


def read(volume: Volume, fd: Descriptor, chance: random.Random) -> None:
    assert len(fd.addresses) == ADDRESSES
    if fd.is_symlink:
        refused(lambda: volume.readlink(fd))
    file = refused(lambda: volume.open_file(fd))
    if file is None:
        return
    for at in (chance.choice((0, max(file.size - READ_BYTES, 0))), chance.randrange(file.size + 1)):
        view = memoryview(bytearray(chance.randrange(READ_BYTES)))
        refused(lambda at=at, view=view: file.read(at, [view]))
    rows = file.map()
    assert int(rows.length.sum()) == rows.size >= file.size
