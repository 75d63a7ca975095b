"""Damaged volumes: what cannot be true is named by its place, and nothing hangs or grows without limit."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.vmkernel.storage.vmfs3.specimen import DATA_AT, LBA_128, MIB, TBZ, File, Specimen
from vmkernel.storage.vmfs3.descriptor_spec import FileType
from vmkernel.storage.vmfs3.errors import CorruptVolume
from vmkernel.storage.vmfs3.volume import Volume

FDC_AT = 4 * MIB
ROOT_AT = FDC_AT + 0x18000
SUPERBLOCK_AT = 0x200000


def write(path: Path, offset: int, data: bytes) -> None:
    """At a byte of the volume."""
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, data, LBA_128 + DATA_AT + offset)
    os.close(fd)


def word(value: int, form: str = "<I") -> bytes:
    return struct.pack(form, value)


@pytest.fixture
def made(tmp_path: Path) -> Specimen:
    return Specimen(tmp_path)


def at(made: Specimen, file: File) -> int:
    return made.place(made.fdc, made.fdc.item(file.number))


HEADS: list[tuple[int, bytes, str]] = [
    (SUPERBLOCK_AT + 0x04, word(3), "major of the superblock: expected 4 (VMFS-3) or 14 (VMFS-5), found 3"),
    (SUPERBLOCK_AT + 0x04, word(5), "major of the superblock"),
    (SUPERBLOCK_AT + 0x00, word(0), "magic of the superblock: expected 0x2fabf15e, found 0x0"),
    (SUPERBLOCK_AT + 0xA1, word(0, "<Q"), "block_size of the superblock"),
    (SUPERBLOCK_AT + 0xA1, word(524288, "<Q"), "block_size of the superblock"),
    (SUPERBLOCK_AT + 0xA1, word(1 << 63, "<Q"), "block_size of the superblock"),
    (SUPERBLOCK_AT + 0xB1, bytes(16), "lvm_uuid of the superblock"),
    (SUPERBLOCK_AT + 0xD1, word(0xFFFFFFFF), "cluster headers of .fdc.sf"),
    (SUPERBLOCK_AT + 0xD5, word(0xFFFFFFFF), "cluster headers of .fdc.sf"),
    (SUPERBLOCK_AT + 0xD5, word(33), "lock type of FD 0/3: expected 0x10c00001"),
    (FDC_AT + 0x04, word(31), "group offset and clusters per group of .fdc.sf"),
    (FDC_AT + 0x00, word(0), "resources_per_cluster of FD 0/2: expected 1 to 512, found 0"),
    (FDC_AT + 0x00, word(513), "resources_per_cluster of FD 0/2: expected 1 to 512, found 513"),
    (FDC_AT + 0x0C, word(1024), "resource_size of FD 0/2: expected 2048, found 1024"),
    (FDC_AT + 0x14, word(0), "total of FD 0/2"),
    (FDC_AT + 0x14, word(1 << 26), "total of FD 0/2"),
    (FDC_AT + 0x14, word((1 << 26) + 1), "total of FD 0/2: expected 1 to 67108864"),
    (FDC_AT + 0x14, word(1024), "total of FD 0/2: expected as many as 1048576 bytes have room for, found 1024"),
    (ROOT_AT + 2048, word(0), "lock type of FD 0/1"),
    (ROOT_AT + 2048 + 0x200, word(0x14), "address of a descriptor: expected 0x400004, FD 0/1, found 0x14"),
    (ROOT_AT + 2048 + 0x208, word(0), "links to FD 0/1: expected 1 or more, found 0, a deleted file"),
    (ROOT_AT + 2048 + 0x20C, word(3), "type of FD 0/1: expected 5, a system file, found 3"),
    (ROOT_AT + 2048 + 0x214, word(1, "<Q"), "contents of FD 0/1"),
    (ROOT_AT + 2048 + 0x214, word(1 << 62, "<Q"), "length of FD 0/1: expected up to 268435456"),
    (ROOT_AT + 2048 + 0x21C, word(512, "<Q"), "block size of FD 0/1: expected 1048576, found 512"),
    (ROOT_AT + 2048 + 0x244, word(3), "zero-level address type of FD 0/1: expected 1, file blocks, found 3"),
    (ROOT_AT + 2048 + 0x244, word(9), "zero-level address type of FD 0/1: expected 1, 2, 3, or one of VMFS-5"),
    (ROOT_AT + 2048 + 0x400, word(0), "contents of FD 0/1: expected a header"),
    (ROOT_AT + 2048 + 0x400, word(256 << 6 | 1), "address in FD 0/1: expected a file block below 256, found FB 256"),
    (ROOT_AT + 2048 + 0x400, word(2), "address in FD 0/1: expected a file block below 256, found SB 0/0"),
    (ROOT_AT + 2048 + 0x400, word(7), "found 0x00000007, which is no address"),
]


@pytest.mark.parametrize(("offset", "data", "text"), HEADS, ids=[f"{at:x}-{data.hex()}" for at, data, _ in HEADS])
def test_a_damaged_head_is_refused_by_name(made: Specimen, offset: int, data: bytes, text: str) -> None:
    paths = made.finish()
    write(paths[0], offset, data)
    with pytest.raises(CorruptVolume) as caught, Volume.open(paths):
        pass
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("offset", "data", "text"), [
    (0x20C, word(3), "type of the root directory"), (0x00, word(0), "lock type of FD 0/0"),
    (0x208, word(0), "links to FD 0/0"), (0x214, word(141, "<Q"), "length of a directory"),
    (0x214, word(140 << 20, "<Q"), "length of a directory: expected 140 times up to 258 entries"),
])  # fmt: skip
def test_a_damaged_root_is_named(made: Specimen, offset: int, data: bytes, text: str) -> None:
    paths = made.finish()
    write(paths[0], ROOT_AT + offset, data)
    with Volume.open(paths) as volume:
        with pytest.raises(CorruptVolume, match=text) as caught:
            volume.entries(volume.root)
        assert caught.value.offset == ROOT_AT + offset


def read(made: Specimen, change: Callable[[Specimen, Path, File], None] | None = None) -> bytes:
    """All of a file with pointer blocks, after a change to the volume."""
    size = made.block_size
    file = made.sparse("f", 4000 * size, {0: b"x", 1: TBZ, 1024: b"y", 3999: b"z"})
    paths = made.finish()
    if change:
        change(made, paths[0], file)
    with Volume.open(paths) as volume:
        found = volume.open_file(volume.lookup("/f"))
        return found.bytes_at(0, 1) + found.bytes_at(1024 * size, 1) + found.bytes_at(3999 * size, 1)


def address(index: int, value: int) -> Callable[[Specimen, Path, File], None]:
    return lambda made, path, file: write(path, at(made, file) + 0x400 + 4 * index, word(value))


def metadata(offset: int, data: bytes) -> Callable[[Specimen, Path, File], None]:
    return lambda made, path, file: write(path, at(made, file) + offset, data)


def inner(block: int, index: int, value: int) -> Callable[[Specimen, Path, File], None]:
    return lambda made, path, _: write(path, made.place(made.pbc, made.pbc.item(block) + 4 * index), word(value))


PB = [number << 28 | 3 for number in range(16)]
FILES: list[tuple[Callable[[Specimen, Path, File], None], str]] = [
    (address(1, PB[0]), "expected one that the file has not used yet, found PB 0/0"),
    (address(0, 1 << 6 | 3), "expected one of 16 pointer blocks, 16 in a cluster, found PB 1/0"),
    (address(0, 0xFFFFFFC3), "expected one of 16 pointer blocks"),
    (address(0, 1 << 6 | 1), "expected a pointer block, type 3, found FB 1"),
    (address(2, 5), "expected a pointer block, type 3, found PB2 0/0"),
    (inner(0, 5, PB[0]), "expected a file block below 256, found PB 0/0"),
    (inner(0, 5, 0xFFFFFFC1), "expected a file block below 256, found FB 67108863"),
    (inner(2, 7, 8), "0x00000008, which is no address"),
    (metadata(0x214, word((256 << 30) + 1, "<Q")), "length of FD 0/6: expected up to 274877906944"),
    (metadata(0x21C, word(0, "<Q")), "block size of FD 0/6"),
    (metadata(0x244, word(0)), "length of FD 0/6: expected up to 0"),
    (metadata(0x244, word(2)), "block size of FD 0/6: expected 65536"),
    (metadata(0x244, word(0x10D0)), "expected a pointer block, type 3, found FB"),
    (metadata(0x244, word(0x10D1)), "length of contents in a descriptor: expected up to 1024"),
    (metadata(0x20C, word(0)), "type of FD 0/6: expected 2 to 6, found 0"),
    (metadata(0x20C, word(7)), "type of FD 0/6: expected 2 to 6, found 7"),
    (metadata(0x208, word(0)), "links to FD 0/6"),
    (metadata(0x200, word(4)), "address of a descriptor"),
]


@pytest.mark.parametrize(("change", "text"), FILES, ids=[text[-40:] for _, text in FILES])
def test_a_damaged_file_is_named_by_its_descriptor(
    made: Specimen, change: Callable[[Specimen, Path, File], None], text: str
) -> None:
    with pytest.raises(CorruptVolume) as caught:
        read(made, change)
    assert text in str(caught.value)


def test_a_bad_address_is_named_by_its_byte(made: Specimen) -> None:
    with pytest.raises(CorruptVolume) as caught:
        read(made, inner(2, 7, 8))
    assert caught.value.offset == made.place(made.pbc, made.pbc.item(2) + 28)


def test_flags_that_mean_nothing_are_passed_over(made: Specimen) -> None:
    """Bits 3 and 4 of a file block, 3 to 5 of a pointer block: no reader minds them."""
    flagged = PB[1] | 0x38

    def change(made: Specimen, path: Path, file: File) -> None:
        address(1, flagged)(made, path, file)
        inner(0, 0, file_block(made) | 0x18)(made, path, file)

    assert read(made, change) == b"xyz"


def file_block(made: Specimen) -> int:
    """The address of the first of the four blocks that were written last."""
    return (made.fbb.used - 4) << 6 | 1


@pytest.mark.parametrize(("index", "value", "text"), [
    (0, 4 << 6 | 2, "expected one of 64, 16 in a cluster, found SB 4/0"),
    (0, 3, "expected one of type 2, found PB 0/0"), (0, 1 << 6 | 1, "expected one of type 2, found FB 1"),
])  # fmt: skip
def test_a_damaged_small_file_is_named(made: Specimen, index: int, value: int, text: str) -> None:
    file = made.file("f", b"x" * 100)
    paths = made.finish()
    write(paths[0], at(made, file) + 0x400 + 4 * index, word(value))
    with Volume.open(paths) as volume, pytest.raises(CorruptVolume, match=text):
        volume.open_file(volume.lookup("/f"))


ENTRIES: list[tuple[int, bytes, str]] = [
    (0, word(1), "type of entry 2 of the directory"), (0, word(9), "type of entry 2"),
    (4, word(1 << 6 | 1), "address of entry 2 of the directory"), (12, b"../x\0", "name of entry 2"),
    (12, b"\0", "name of entry 2"), (12, b"a\0b", "name of entry 2"), (12, b"x" * 128, "name of entry 2"),
]  # fmt: skip


@pytest.mark.parametrize(("offset", "data", "text"), ENTRIES)
def test_a_damaged_entry_is_named_or_left_out(made: Specimen, offset: int, data: bytes, text: str) -> None:
    folder = made.mkdir("d")
    for name in ("one", "two", "three"):
        made.file(name, b"", folder)
    paths = made.finish()
    write(paths[0], made.place(made.sbc, made.sbc.item(0)) + 2 * 140 + offset, data)
    with Volume.open(paths) as volume:
        fd = volume.lookup("/d")
        with pytest.raises(CorruptVolume, match=text) as caught:
            volume.entries(fd)
        assert caught.value.offset == made.place(made.sbc, made.sbc.item(0)) + 2 * 140 + offset
        assert [entry.name for entry in volume.entries(fd, relaxed=True)] == ["two", "three"]


def test_a_gap_among_entries_is_passed_over(made: Specimen) -> None:
    folder = made.mkdir("d")
    for name in ("one", "two"):
        made.file(name, b"", folder)
    paths = made.finish()
    write(paths[0], made.place(made.sbc, made.sbc.item(0)) + 2 * 140, bytes(140))
    with Volume.open(paths) as volume:
        assert [entry.name for entry in volume.entries(volume.lookup("/d"))] == ["two"]


def test_a_name_that_is_no_utf_8_can_still_be_used(made: Specimen) -> None:
    made.enter(made.root, b"caf\xe9", made.add(3, 0o600, zla=2, block_size=65536))
    with Volume.open(made.finish()) as volume:
        name = volume.entries(volume.root)[-1].name
        assert os.fsencode(name) == b"caf\xe9"
        assert volume.lookup(f"/{name}").length == 0


def test_an_entry_that_names_no_descriptor_is_refused_when_it_is_used(made: Specimen) -> None:
    made.enter(made.root, "far", File(3, 5000, 0o600))
    with Volume.open(made.finish()) as volume:
        assert volume.entries(volume.root)[-1].name == "far"
        with pytest.raises(CorruptVolume, match="expected one up to 7/31, 32 in a cluster, found 156/8"):
            volume.lookup("/far")
        with pytest.raises(CorruptVolume, match="156/8"):
            volume.listing(volume.root)


def test_directories_that_contain_themselves_cost_no_more_than_what_is_asked(made: Specimen) -> None:
    folder = made.mkdir("d")
    made.enter(folder, "again", folder)
    with Volume.open(made.finish()) as volume:
        assert volume.lookup("/d" + "/again" * 50).address == volume.lookup("/d").address


@pytest.mark.parametrize("target", [b"", b"a\0b"])
def test_a_link_without_a_path_is_damage(made: Specimen, target: bytes) -> None:
    link = made.user(made.root, "l", int(FileType.SYMLINK), 0o777)
    made.fill(link, target)
    with Volume.open(made.finish()) as volume, pytest.raises(CorruptVolume, match="target of a symbolic link"):
        volume.lookup("/l")


def test_a_link_as_long_as_a_volume_is_refused(made: Specimen) -> None:
    link = made.user(made.root, "l", int(FileType.SYMLINK), 0o777)
    made.map(link, 200 * MIB, {})
    with Volume.open(made.finish()) as volume, pytest.raises(CorruptVolume, match="length of a symbolic link"):
        volume.lookup("/l")


def test_a_deleted_file_is_found_by_who_asks_for_deleted_ones(made: Specimen) -> None:
    file = made.user(made.mkdir("d"), "gone", 3, 0o600, nlink=0, zla=2, block_size=65536)
    with Volume.open(made.finish()) as volume:
        with pytest.raises(CorruptVolume, match="a deleted file"):
            volume.descriptor(made.address(file))
        assert volume.descriptor(made.address(file), deleted=True).nlink == 0
        assert volume.descriptor_at(made.address(file)).address == made.address(file)
