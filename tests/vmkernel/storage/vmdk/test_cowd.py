"""Redo logs: the bytes that several readers agree on, where new sectors go, and every field that cannot be true."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.vmkernel.storage.lab import MIB, SECTOR, contents, data, get, put, qemu_reads, written
from vmkernel.storage.chain import open_disk
from vmkernel.storage.create import Kind, create, create_child
from vmkernel.storage.errors import CorruptImage, DamagedGrain, OutOfSpace
from vmkernel.storage.vmdk.cowd_spec import OFFSETS

SECTORS = 16384


def delta(folder: Path) -> tuple[Path, Path]:
    create(folder / "base.vmdk", Kind.THIN, SECTORS * SECTOR)
    create_child(folder / "child.vmdk", folder / "base.vmdk")
    return folder / "child.vmdk", folder / "child-delta.vmdk"


def word(path: Path, sector: int, index: int) -> int:
    return int(struct.unpack_from("<I", path.read_bytes(), sector * SECTOR + index * 4)[0])


def poke(path: Path, offset: int, value: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(struct.pack("<I", value))


def test_sectors_and_tables_lie_as_they_came(tmp_path: Path) -> None:
    """The example of the format: base of 16384 sectors, writes to sectors 5, 4096, 16383 and 6."""
    child, log = delta(tmp_path)
    with open_disk(child, writable=True) as disk:
        for sector in (5, 4096, 16383, 6):
            put(disk, sector, data(sector, 1))
    content = log.read_bytes()
    head = "434f574401000000030000000040000001000000040000000400000069000000"
    assert content[:32].hex() == head
    assert struct.unpack_from("<4I", content, 4 * SECTOR) == (5, 38, 0, 71)
    assert (word(log, 5, 5), word(log, 5, 6), word(log, 38, 0), word(log, 71, 4095)) == (37, 104, 70, 103)
    assert len(content) == 53760
    assert content[37 * SECTOR :][:SECTOR] == data(5, 1)
    assert qemu_reads(child) == contents(child)


def test_a_file_longer_than_what_is_used_is_filled(tmp_path: Path) -> None:
    """ESX lengthens redo logs in steps of 16 MiB and keeps free_sector."""
    child, log = delta(tmp_path)
    with open_disk(child, writable=True) as disk:
        put(disk, 5, data(5, 1))
    with log.open("r+b") as file:
        file.truncate(16 * MIB)
    with open_disk(child, writable=True) as disk:
        put(disk, 6, data(6, 1))
    assert word(log, 5, 6) == 38
    assert log.stat().st_size == 16 * MIB


def test_a_free_sector_that_another_writer_left_behind_is_not_believed(tmp_path: Path) -> None:
    child, log = delta(tmp_path)
    with open_disk(child, writable=True) as disk:
        put(disk, 5, data(5, 9))
    poke(log, OFFSETS["free_sector"], 5)
    with open_disk(child, writable=True) as disk:
        put(disk, 100, data(100, 3))
        assert get(disk, 5, 9) == data(5, 9)
    assert get(open_disk(child), 5, 9) == data(5, 9)


def test_the_mark_is_there_while_a_log_is_written(tmp_path: Path) -> None:
    child, log = delta(tmp_path)
    with open_disk(child, writable=True) as disk:
        put(disk, 5, data(5, 1))
        assert word(log, 3, 28) == 1
    assert word(log, 3, 28) == 0
    assert OFFSETS["unclean_shutdown"] == 3 * SECTOR + 28 * 4


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("version", 2), ("num_sectors", 0), ("num_sectors", SECTORS - 1), ("grain_size", 0), ("grain_size", 4096),
        ("gd_offset", 0), ("gd_offset", 1 << 30), ("num_gd_entries", 3), ("num_gd_entries", (1 << 32) - 1),
    ],
)  # fmt: skip
def test_a_field_that_cannot_be_true_is_named(tmp_path: Path, name: str, value: int) -> None:
    child, log = delta(tmp_path)
    poke(log, OFFSETS[name], value)
    for writable in (False, True):
        with pytest.raises(CorruptImage, match=r"child-delta\.vmdk: byte"):
            open_disk(child, writable=writable)


@pytest.mark.parametrize("value", [1, 4, 1 << 30, (1 << 32) - 1])
def test_an_entry_that_points_nowhere_is_not_followed(tmp_path: Path, value: int) -> None:
    child, log = delta(tmp_path)
    with open_disk(child, writable=True) as disk:
        put(disk, 5, data(5, 2))
    poke(log, 5 * SECTOR + 6 * 4, value)
    with open_disk(child) as disk:
        assert get(disk, 5, 1) == data(5, 1)
        with pytest.raises(DamagedGrain) as caught:
            get(disk, 5, 2)
        assert caught.value.block == 6


def test_a_log_that_is_full_says_so(tmp_path: Path) -> None:
    child, log = delta(tmp_path)
    poke(log, OFFSETS["free_sector"], (1 << 32) - 1)
    with open_disk(child, writable=True) as disk, pytest.raises(OutOfSpace, match="no room"):
        put(disk, 5, data(5, 1))


def test_a_log_opened_by_itself_shows_what_it_has(tmp_path: Path) -> None:
    written(tmp_path / "base.vmdk", Kind.THIN, MIB)
    create_child(tmp_path / "child.vmdk", tmp_path / "base.vmdk")
    with open_disk(tmp_path / "child.vmdk", writable=True) as disk:
        put(disk, 9, data(3, 4))
    assert contents(tmp_path / "child-delta.vmdk") == bytes(9 * SECTOR) + data(3, 4) + bytes(2035 * SECTOR)
