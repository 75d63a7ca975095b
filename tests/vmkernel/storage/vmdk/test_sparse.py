"""Hosted sparse extents: the layout other writers use, the mark of being open, and every field that cannot be true."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from ringfence.errors import MediaError, RingfenceError
from tests.vmkernel.storage.lab import MIB, SECTOR, contents, data, get, put, qemu_reads, written
from vmkernel.storage.block_file import BlockFile
from vmkernel.storage.chain import open_disk
from vmkernel.storage.create import Kind, create, create_child
from vmkernel.storage.errors import CorruptImage, DamagedGrain, NeedsRepair, Unsupported
from vmkernel.storage.vmdk.sparse_header import new_header, read_header
from vmkernel.storage.vmdk.sparse_spec import OFFSETS, Flags

WIDTHS = {"version": "<I", "flags": "<I", "gtes_per_gt": "<I", "newlines": "<I", "compression": "<H"}


def poke(path: Path, name: str, value: int) -> None:
    with path.open("r+b") as file:
        file.seek(OFFSETS[name])
        file.write(struct.pack(WIDTHS.get(name, "<Q"), value))


def entry(path: Path, grain: int, value: int, *, redundant: bool = True) -> None:
    """Set the entry of a grain of the first table, in both copies or the first one."""
    with BlockFile.open(path) as file:
        header = read_header(file)
    with path.open("r+b") as out:
        for directory in (header.gd_offset, header.rgd_offset)[: 2 if redundant else 1]:
            out.seek((directory + header.directory_sectors) * SECTOR + grain * 4)
            out.write(struct.pack("<I", value))


@pytest.mark.parametrize(
    ("mebibytes", "descriptor", "expected"),
    [
        (10, 20, (21, 26, 128)),
        (10, 0, (1, 6, 128)),
        (1024, 20, (21, 150, 384)),
        (2048, 20, (21, 278, 640)),
        (5120, 20, (21, 663, 1408)),
    ],
)
def test_tables_lie_where_other_writers_put_them(
    mebibytes: int, descriptor: int, expected: tuple[int, int, int]
) -> None:
    header = new_header(mebibytes * 2048, 128, Flags(0), 1, descriptor).with_tables_at(1 + descriptor, redundant=True)
    assert (header.rgd_offset, header.gd_offset, header.over_head) == expected


def test_the_mark_is_there_while_a_disk_is_written(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    create(path, Kind.MONOLITHIC_SPARSE, MIB)
    with open_disk(path, writable=True) as disk:
        assert path.read_bytes()[72] == 0
        put(disk, 0, data(1, 1))
        assert path.read_bytes()[72] == 1
        with open_disk(path, lock=False) as other:
            assert other.sectors == disk.sectors
    assert path.read_bytes()[72] == 0


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("version", 4, "byte 4: version: expected 1 to 3, found 4"),
        ("version", 0, "byte 4"),
        ("flags", 1 << 20 | 1, "byte 8: flags"),
        ("flags", 1 << 17 | 1, "byte 8: flags: expected markers with compressed"),
        ("capacity", 1 << 63, "byte 12: capacity"),
        ("capacity", 1 << 45, "byte 12: capacity"),
        ("capacity", 1, "byte 12: capacity: expected the descriptor's 2048"),
        ("grain_size", 0, "byte 20: grain_size"),
        ("grain_size", 100, "byte 20: grain_size"),
        ("grain_size", 1 << 40, "byte 20: grain_size"),
        ("descriptor_size", 0, "byte 36: descriptor_size"),
        ("descriptor_size", 1 << 40, "byte 36: descriptor_size"),
        ("descriptor_offset", 1 << 60, "byte 28: descriptor_offset"),
        ("descriptor_offset", 1 << 40, "version of the descriptor"),
        ("gtes_per_gt", 0, "byte 44: gtes_per_gt"),
        ("gtes_per_gt", 1 << 30, "byte 44: gtes_per_gt"),
        ("gd_offset", 1 << 40, "grain directory: expected 4 bytes, found the end"),
        ("gd_offset", (1 << 64) - 1, "byte 56: gd_offset"),
        ("gd_offset", 1 << 60, "byte 56: gd_offset"),
        ("rgd_offset", 1 << 40, "redundant grain directory"),
        ("over_head", 1 << 63, "byte 64: over_head"),
        ("newlines", 0x0A0A200A, "byte 73: newlines: .*transferred as text"),
    ],
)
def test_a_field_that_cannot_be_true_is_named(tmp_path: Path, name: str, value: int, said: str) -> None:
    path = tmp_path / "disk.vmdk"
    create(path, Kind.MONOLITHIC_SPARSE, MIB)
    poke(path, name, value)
    before = path.read_bytes()
    for writable in (False, True):
        with pytest.raises((CorruptImage, Unsupported), match=said):
            open_disk(path, writable=writable)
    assert path.read_bytes() == before


@pytest.mark.parametrize("value", [1, 5, 127, 1 << 31, (1 << 32) - 1])
def test_an_entry_outside_the_grains_is_not_followed(tmp_path: Path, value: int) -> None:
    path = tmp_path / "disk.vmdk"
    create(path, Kind.MONOLITHIC_SPARSE, MIB)
    entry(path, 3, value)
    before = path.read_bytes()
    with open_disk(path, writable=True) as disk:
        assert get(disk, 0, 384) == bytes(384 * SECTOR)
        with pytest.raises(DamagedGrain, match="place of grain 3") as caught:
            get(disk, 300, 200)
        assert caught.value.block == 384
        with pytest.raises(MediaError):
            put(disk, 400, data(1, 1))
    assert path.read_bytes()[11 * SECTOR :] == before[11 * SECTOR :], "only the CID was written"


def test_a_directory_that_points_nowhere_is_covered_by_its_copy(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    model = written(path, Kind.MONOLITHIC_SPARSE, MIB)
    with path.open("r+b") as file:
        file.seek(26 * SECTOR)
        file.write(struct.pack("<I", 1 << 30))
    assert contents(path) == model
    with pytest.raises(NeedsRepair, match="grain directory, entry 0"):
        open_disk(path, writable=True)


def test_an_entry_of_one_is_zeros_only_with_the_flag(tmp_path: Path) -> None:
    base, path = tmp_path / "base.vmdk", tmp_path / "disk.vmdk"
    model = written(base, Kind.THIN, MIB)
    create_child(path, base, Kind.MONOLITHIC_SPARSE)
    entry(path, 0, 1)
    with open_disk(path) as disk, pytest.raises(DamagedGrain):
        get(disk, 0, 1)
    poke(path, "version", 2)
    poke(path, "flags", 7)
    expected = bytes(128 * SECTOR) + model[128 * SECTOR :]
    assert contents(path) == qemu_reads(path) == expected
    with open_disk(path, writable=True) as disk:
        put(disk, 5, data(8, 1))
        disk.zero(128 * SECTOR, 300 * SECTOR)
        assert [piece.layer for piece in disk.runs(128 * SECTOR, 256 * SECTOR)] == [1]
    expected = bytes(5 * SECTOR) + data(8, 1) + bytes(422 * SECTOR) + model[428 * SECTOR :]
    assert contents(path) == qemu_reads(path) == expected


def test_a_table_that_the_directory_lacks_is_made(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    create(path, Kind.MONOLITHIC_SPARSE, 64 * MIB)
    with path.open("r+b") as file:
        for directory in (21, 30):
            file.seek(directory * SECTOR)
            assert struct.unpack("<I", file.read(4))[0] == directory + 1
            file.seek(directory * SECTOR)
            file.write(bytes(8))
    model = bytearray(64 * MIB)
    with open_disk(path, writable=True) as disk:
        assert get(disk, 0, 1) == bytes(SECTOR)
        put(disk, 65535, data(9, 2))
        model[65535 * SECTOR : 65537 * SECTOR] = data(9, 2)
    assert contents(path) == qemu_reads(path) == bytes(model)


def test_version_3_is_read_and_not_written(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    model = written(path, Kind.MONOLITHIC_SPARSE, MIB)
    poke(path, "version", 3)
    assert contents(path) == model
    with pytest.raises(Unsupported, match="1 or 2"):
        open_disk(path, writable=True)


def test_a_file_left_unfinished_by_its_writer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    create(path, Kind.MONOLITHIC_SPARSE, MIB)
    path.write_bytes(b"kdmv" + path.read_bytes()[4:])
    with pytest.raises(CorruptImage, match="unfinished"):
        open_disk(path)


def test_a_renamed_disk_is_opened_as_itself(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    model = written(path, Kind.MONOLITHIC_SPARSE, MIB)
    path.rename(tmp_path / "other.vmdk")
    assert contents(tmp_path / "other.vmdk") == model


def test_a_piece_of_a_split_disk_opens_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    model = written(path, Kind.TWO_GB_SPARSE, MIB)
    assert contents(tmp_path / "disk-s001.vmdk") == model


def test_a_container_holds_the_descriptor_only(tmp_path: Path) -> None:
    path, container = tmp_path / "disk.vmdk", tmp_path / "container.vmdk"
    model = written(path, Kind.MONOLITHIC_FLAT, MIB)
    header = new_header(0, 128, Flags(0), 1, 20)
    container.write_bytes(header.build() + path.read_bytes().ljust(20 * SECTOR, b"\0"))
    assert contents(container) == model


def test_a_descriptor_that_does_not_fit_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    create(path, Kind.MONOLITHIC_SPARSE, MIB)
    with open_disk(path, writable=True) as disk:
        link = disk.links[0]
        assert link.descriptor is not None
        link.descriptor.set("ddb.comment", "x" * 20 * SECTOR)
        with pytest.raises(RingfenceError, match="at most the 10240 bytes"):
            put(disk, 0, data(1, 1))
    assert contents(path) == bytes(MIB)
