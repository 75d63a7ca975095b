"""Extents without tables: offsets, ZERO, NOACCESS, RDONLY, files that are too short, devices that are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringfence.errors import MediaError
from tests.vmkernel.storage.lab import SECTOR, contents, data, get, put
from vmkernel.storage.chain import open_disk
from vmkernel.storage.errors import CorruptImage, MissingLink, NotWritable, Unsupported


def disk(folder: Path, *lines: str, kind: str = "custom") -> Path:
    path = folder / "disk.vmdk"
    text = (
        f'# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="{kind}"\n' + "\n".join(lines) + "\n"
    )
    path.write_text(text, encoding="utf-8")
    return path


def test_every_extent_keeps_its_place_in_the_disk(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(data(1, 40))
    (tmp_path / "b").write_bytes(data(2, 10))
    path = disk(
        tmp_path, 'RW 10 FLAT "a" 5', "RW 7 ZERO", 'RDONLY 5 FLAT "b" 5', 'RW 10 FLAT "a" 20', 'RW 5 VMFS "c" 0'
    )
    (tmp_path / "c").write_bytes(data(3, 5))
    a, b = data(1, 40), data(2, 10)
    model = (
        a[5 * SECTOR : 15 * SECTOR] + bytes(7 * SECTOR) + b[5 * SECTOR :] + a[20 * SECTOR : 30 * SECTOR] + data(3, 5)
    )
    assert contents(path) == model
    with open_disk(path, writable=True) as opened:
        put(opened, 8, data(9, 2))
        put(opened, 22, data(8, 15))
        for sector in (10, 20):
            with pytest.raises(NotWritable) as caught:
                put(opened, sector, data(9, 1))
            assert caught.value.block == sector
    assert (tmp_path / "b").read_bytes() == b
    assert contents(path) == model[: 8 * SECTOR] + data(9, 2) + model[10 * SECTOR : 22 * SECTOR] + data(8, 15)


def test_an_extent_without_access_takes_up_its_sectors(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(data(1, 4))
    path = disk(tmp_path, 'NOACCESS 3 FLAT "secret" 0', 'RW 4 FLAT "a" 0')
    with open_disk(path) as opened:
        assert get(opened, 3, 4) == data(1, 4)
        with pytest.raises(MediaError):
            get(opened, 2, 2)


def test_a_file_that_is_too_short_is_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(data(1, 6))
    path = disk(tmp_path, "RW 2 ZERO", 'RW 10 FLAT "a" 2')
    with open_disk(path) as opened:
        assert get(opened, 0, 6) == bytes(2 * SECTOR) + data(1, 6)[2 * SECTOR :]
        with pytest.raises(MediaError, match="expected 6144 bytes, found 3072") as caught:
            get(opened, 0, 7)
        assert caught.value.block == 6
    with pytest.raises(CorruptImage, match="expected 6144 bytes, found 3072"):
        open_disk(path, writable=True)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ('RW 63 FLAT "/dev/no-such-disk" 0', "fullDevice"),
        (r'RW 63 FLAT "\\.\PhysicalDrive7" 0', "partitionedDevice"),
        ('RW 63 VMFSRAW "/vmfs/devices/generic/vmhba0:0:0:0"', "vmfsRaw"),
        ('RW 63 VMFSRDM "none-rdm.vmdk"', "vmfsRawDeviceMap"),
    ],
)
def test_a_device_that_is_not_there_is_named(tmp_path: Path, line: str, kind: str) -> None:
    with pytest.raises(MissingLink, match=r"disk\.vmdk: byte \d+: extent: expected a file"):
        open_disk(disk(tmp_path, line, kind=kind))


def test_a_raw_device_mapping_without_its_device_is_refused(tmp_path: Path) -> None:
    (tmp_path / "disk-rdm.vmdk").write_bytes(b"")
    path = disk(tmp_path, 'RW 63 VMFSRDM "disk-rdm.vmdk"', kind="vmfsPassthroughRawDeviceMap")
    with pytest.raises(Unsupported, match=r"the 63 sectors of the device that 'disk-rdm\.vmdk' maps"):
        open_disk(path)
    (tmp_path / "disk-rdm.vmdk").write_bytes(data(4, 63))
    assert contents(path) == data(4, 63)


def test_holes_of_a_thin_file_are_zeros_in_the_runs(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.truncate(1 << 20)
        file.seek(1 << 19)
        file.write(b"x" * 4096)
    with open_disk(disk(tmp_path, 'RW 2048 VMFS "a"')) as opened:
        pieces = [(piece.start, piece.length) for piece in opened.runs(0, 1 << 20) if piece.file]
        assert pieces == [(1 << 19, 4096)]
