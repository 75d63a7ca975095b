"""Requests that a chain does at once: what the host has in memory, and else nothing."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.vmkernel.storage.lab import MIB, SECTOR, data, get, put
from tests.vmkernel.storage.volume_lab import folder  # noqa: F401 - a fixture
from vmkernel.storage.chain import Chain, open_disk
from vmkernel.storage.create import Kind, create, create_child
from vmkernel.storage.vmdk.grain_extent import GrainExtent

KINDS = (Kind.MONOLITHIC_SPARSE, Kind.MONOLITHIC_FLAT, Kind.THIN, Kind.VMFS_SPARSE)
SECTORS = 8


def read_at_once(disk: Chain, sector: int, count: int = SECTORS) -> bytes | None:
    content = bytearray(count * SECTOR)
    views = [memoryview(content)[:100], memoryview(content)[100:]]
    return bytes(content) if disk.read_at_once(sector * SECTOR, views) else None


def write_at_once(disk: Chain, sector: int, content: bytes) -> bool:
    return disk.write_at_once(sector * SECTOR, [memoryview(content)[:100], memoryview(content)[100:]])


def knows_nowait(at: Path) -> bool:
    """Has this file system reads that do not wait?"""
    file = at / "probe"
    file.write_bytes(bytes(4096))
    with file.open("rb") as opened:
        try:
            return os.preadv(opened.fileno(), [bytearray(4096)], 0, os.RWF_NOWAIT) > 0
        except OSError:
            return False


@pytest.fixture(params=KINDS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A disk with data in its first MiB, which the host has in memory."""
    made = tmp_path / "disk.vmdk"
    create(made, request.param, 4 * MIB, grain_sectors=128)
    with open_disk(made, writable=True) as disk:
        put(disk, 0, data(1, MIB // SECTOR))
    return made


def test_what_the_host_has_in_memory_is_read_at_once(path: Path, tmp_path: Path) -> None:
    if not knows_nowait(tmp_path):
        pytest.skip("the file system of the temporary folder has no reads that do not wait (RWF_NOWAIT)")
    with open_disk(path) as disk:
        get(disk, 0, 2048)
        for sector in (0, 8, 120, 2040):
            assert read_at_once(disk, sector) == get(disk, sector, SECTORS)


def says(number: int) -> Callable[..., int]:
    def preadv(fd: int, views: Any, offset: int, flags: int = 0) -> int:
        raise OSError(number, os.strerror(number))

    return preadv


@pytest.mark.parametrize(("number", "asked_again"), [(errno.EAGAIN, True), (errno.EOPNOTSUPP, False)])
def test_what_the_host_would_wait_for_is_not_read_at_once(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int, asked_again: bool
) -> None:
    """EAGAIN is about these bytes, EOPNOTSUPP about the file system."""
    real, asked = os.preadv, []

    def preadv(fd: int, views: Any, offset: int, flags: int = 0) -> int:
        if not flags:
            return real(fd, views, offset)
        asked.append(offset)
        return says(number)(fd, views, offset)

    with open_disk(path) as disk:
        expected = get(disk, 16, SECTORS)
        monkeypatch.setattr(os, "preadv", preadv)
        assert read_at_once(disk, 16) is None and read_at_once(disk, 24) is None
        assert len(asked) == (2 if asked_again else 1)
        assert get(disk, 16, SECTORS) == expected


def test_a_short_read_is_none_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.preadv

    def preadv(fd: int, views: Any, offset: int, flags: int = 0) -> int:
        return real(fd, views[:1], offset) if flags else real(fd, views, offset)

    with open_disk(path) as disk:
        monkeypatch.setattr(os, "preadv", preadv)
        assert read_at_once(disk, 16) is None
        assert get(disk, 16, SECTORS) == data(1, 2048)[16 * SECTOR : 24 * SECTOR]


def test_a_request_past_the_end_or_inside_a_sector_is_not_done_at_once(path: Path) -> None:
    with open_disk(path, writable=True) as disk:
        put(disk, 0, data(2, SECTORS))
        for offset, length in ((4 * MIB - SECTOR, 2 * SECTOR), (1, SECTOR), (0, 100), (0, 0), (-SECTOR, SECTOR)):
            assert not disk.read_at_once(offset, [memoryview(bytearray(length))])
            assert not disk.write_at_once(offset, [memoryview(bytes(length))])


def test_only_a_write_over_what_is_there_is_done_at_once(path: Path) -> None:
    """The first write of all marks the disk; one into a new grain changes tables."""
    content = data(5, SECTORS)
    with open_disk(path, writable=True) as disk:
        assert not write_at_once(disk, 16, content), "the disk has no marks of being written yet"
        put(disk, 0, content)
        assert write_at_once(disk, 16, content)
        assert get(disk, 0, 24) == content + data(1, 2048)[8 * SECTOR : 16 * SECTOR] + content
        if isinstance(disk.links[0].extents[0], GrainExtent):
            assert not write_at_once(disk, 4096, content), "a new grain"
        disk.settle()
        assert not write_at_once(disk, 16, content), "its marks are gone"
        put(disk, 24, content)
        assert write_at_once(disk, 32, content)
    with open_disk(path) as disk:
        assert get(disk, 16, 24) == content * 3


def test_a_disk_opened_for_reading_is_not_written_at_once(path: Path) -> None:
    with open_disk(path) as disk:
        assert not write_at_once(disk, 0, data(5, SECTORS))


def test_a_grain_of_a_parent_is_not_written_at_once(tmp_path: Path) -> None:
    base, child = tmp_path / "base.vmdk", tmp_path / "base-000001.vmdk"
    create(base, Kind.MONOLITHIC_SPARSE, 4 * MIB)
    with open_disk(base, writable=True) as disk:
        put(disk, 0, data(1, 1024))
    create_child(child, base)
    with open_disk(child, writable=True) as disk:
        put(disk, 0, data(2, SECTORS))
        assert not write_at_once(disk, 512, data(3, SECTORS)) and read_at_once(disk, 512) is None
        assert get(disk, 512, SECTORS) == data(1, 1024)[512 * SECTOR : 520 * SECTOR]


def test_what_a_parent_has_is_read_at_once_through_its_redo_logs(tmp_path: Path) -> None:
    """In grains of a sector each, and from files of a split disk; a request that is partly here is not for this way."""
    if not knows_nowait(tmp_path):
        pytest.skip("the file system of the temporary folder has no reads that do not wait (RWF_NOWAIT)")
    base, first, second = (tmp_path / f"{name}.vmdk" for name in ("base", "first", "second"))
    create(base, Kind.TWO_GB_SPARSE, (2 << 30) + 4 * MIB)
    border = (2 << 30) // SECTOR - 2048  # where the second file begins
    with open_disk(base, writable=True) as disk:
        put(disk, 0, data(1, 64))
        put(disk, border - 64, data(2, 128))
    create_child(first, base)
    create_child(second, first)
    with open_disk(second, writable=True) as disk:
        put(disk, 16, data(3, 16))
        get(disk, 0, 64), get(disk, border - 64, 128)  # the tables are in memory then
        assert read_at_once(disk, 0) == data(1, 64)[: 8 * SECTOR]
        assert read_at_once(disk, 20) == data(3, 16)[4 * SECTOR : 12 * SECTOR]
        assert read_at_once(disk, 12) is None and get(disk, 12, 4) == data(1, 64)[12 * SECTOR : 16 * SECTOR]
        assert get(disk, 1 << 20, 8) == read_at_once(disk, 1 << 20) == bytes(8 * SECTOR)
        assert read_at_once(disk, border - 8) == data(2, 128)[56 * SECTOR : 64 * SECTOR]
        assert read_at_once(disk, border) == data(2, 128)[64 * SECTOR : 72 * SECTOR]
        assert read_at_once(disk, border - 4) is None
        assert write_at_once(disk, 20, data(4, 8)) and not write_at_once(disk, 12, data(4, 8))
        assert get(disk, 0, 64) == (
            data(1, 64)[: 16 * SECTOR] + data(3, 16)[: 4 * SECTOR] + data(4, 8) + data(3, 16)[12 * SECTOR :]
            + data(1, 64)[32 * SECTOR :]
        )  # fmt: skip


def test_both_files_of_a_split_disk_are_written_at_once(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    create(path, Kind.TWO_GB_FLAT, (2 << 30) + 4 * MIB)
    border = (2 << 30) // SECTOR - 2048
    with open_disk(path, writable=True) as disk:
        put(disk, 0, data(1, 8))
        assert write_at_once(disk, 8, data(2, 8)) and not write_at_once(disk, border, data(2, 8)), "not marked yet"
        put(disk, border - 4, data(3, 8))
        assert write_at_once(disk, border + 8, data(4, 8)) and write_at_once(disk, 0, data(5, 8))
        assert not write_at_once(disk, border - 4, data(6, 8)), "in both"
    with open_disk(path) as disk:
        assert get(disk, 0, 16) == data(5, 8) + data(2, 8)
        assert get(disk, border - 4, 20) == data(3, 8) + bytes(4 * SECTOR) + data(4, 8)


def test_nothing_is_done_at_once_while_another_thread_has_the_chain(path: Path) -> None:
    holding, over = threading.Event(), threading.Event()

    def hold() -> None:
        with disk.hold():
            holding.set()
            over.wait()

    with open_disk(path, writable=True) as disk:
        put(disk, 0, data(2, SECTORS))
        other = threading.Thread(target=hold)
        other.start()
        try:
            holding.wait()
            assert read_at_once(disk, 0) is None and not write_at_once(disk, 0, data(3, SECTORS))
        finally:
            over.set()
            other.join()


def test_a_disk_on_a_volume_is_read_and_written_at_once(folder: Any, tmp_path: Path) -> None:  # noqa: F811
    path = folder / "disk.vmdk"
    create(path, Kind.EAGER_ZEROED_THICK, 4 * MIB)
    with open_disk(path, writable=True) as disk:
        for _ in range(20):  # a file of a volume that changed is looked up again after some uses
            put(disk, 0, data(1, 2048))
            assert get(disk, 8, SECTORS) == data(1, 2048)[8 * SECTOR : 16 * SECTOR]
        assert write_at_once(disk, 8, data(2, SECTORS))
        if knows_nowait(tmp_path):
            assert read_at_once(disk, 8) == data(2, SECTORS)
