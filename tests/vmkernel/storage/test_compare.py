"""The first difference of two disks, whatever their formats."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.vmkernel.storage.lab import MIB, SECTOR, data, put, qemu_img, written
from vmkernel.storage.chain import open_disk, open_raw
from vmkernel.storage.compare import Difference, first_difference
from vmkernel.storage.convert import convert
from vmkernel.storage.create import Kind, create_child
from vmkernel.storage.formats import TARGETS, Format, Plain, Target, open_image

SIZE = MIB + 3 * SECTOR


@pytest.mark.parametrize("kind", TARGETS)
def test_a_copy_is_the_same_and_one_byte_makes_it_another(tmp_path: Path, kind: Target) -> None:
    written(tmp_path / "disk.vmdk", Kind.THIN, SIZE)
    form = Format.RAW if kind is Plain.RAW else Format.VMDK
    with open_disk(tmp_path / "disk.vmdk") as disk:
        convert(disk, tmp_path / "copy", kind)
        with open_image(tmp_path / "copy", form) as copy:
            assert first_difference(disk, copy) is None
        convert(disk, tmp_path / "bare", Plain.RAW)
    chance = random.Random(str(kind))
    for at in (0, SIZE - 1, chance.randrange(SIZE)):
        raw = bytearray((tmp_path / "bare").read_bytes())
        raw[at] ^= 0x10
        (tmp_path / "other").write_bytes(raw)
        with open_image(tmp_path / "copy", form) as copy, open_raw(tmp_path / "other") as other:
            assert first_difference(copy, other) == first_difference(other, copy) == Difference(at)


def test_a_longer_disk_is_the_same_when_it_goes_on_with_zeros(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(data(1, 9))
    (tmp_path / "long").write_bytes(data(1, 9) + bytes(9 * SECTOR))
    with open_raw(tmp_path / "short") as short, open_raw(tmp_path / "long", writable=True) as long:
        assert first_difference(short, long) is None
        put(long, 15, bytes(100) + b"x" * 412)
        assert first_difference(short, long) == Difference(15 * SECTOR + 100, in_tail=True)
        assert first_difference(long, short) == Difference(15 * SECTOR + 100, in_tail=True)


def test_what_a_child_has_from_its_parent_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, child = tmp_path / "base.vmdk", tmp_path / "child.vmdk"
    written(base, Kind.THIN, SIZE)
    create_child(child, base)
    with open_disk(child, writable=True) as disk:
        put(disk, 40, data(77, 1))
    read: list[int] = []
    with open_disk(child) as one, open_disk(base) as other:
        plain = one.read
        monkeypatch.setattr(one, "read", lambda offset, views: (read.append(offset), plain(offset, views)))
        found = first_difference(one, other)
    assert found is not None and found.offset // SECTOR == 40
    assert read == [40 * SECTOR]


def test_qemu_says_the_same(tmp_path: Path) -> None:
    model = bytearray(written(tmp_path / "disk.vmdk", Kind.MONOLITHIC_SPARSE, SIZE))
    model[5 * SECTOR] ^= 1
    (tmp_path / "raw").write_bytes(model)
    said = qemu_img("compare", "-f", "vmdk", "-F", "raw", tmp_path / "disk.vmdk", tmp_path / "raw", status=1)
    assert "mismatch" in said
    with open_disk(tmp_path / "disk.vmdk") as disk, open_raw(tmp_path / "raw") as raw:
        assert first_difference(disk, raw) == Difference(5 * SECTOR)
