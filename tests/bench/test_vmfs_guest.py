"""The guest's disk on a volume and beside it: both are the same disk, and what one of them lacks is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import disk_guest, disks, vmfs_guest
from tests.bench.test_disk_guest import DIRECT, plan
from tests.vmkernel.storage.lab import contents, written
from vmkernel.storage.create import Kind
from vmkernel.storage.vmfs_store import close_volumes


def test_both_disks_hold_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vmfs_guest, "VOLUME_MIB", 512)
    model = written(tmp_path / "disk.vmdk", Kind.MONOLITHIC_SPARSE, 4 * disks.MIB)
    homes = vmfs_guest.make_homes(tmp_path, tmp_path / "disk.vmdk")
    assert [contents(home / vmfs_guest.DISK) for home in homes.values()] == [model, model]
    assert str(homes[vmfs_guest.VOLUME] / vmfs_guest.DISK) == f"{tmp_path}/volume.img:/guest.vmdk"
    close_volumes()


def test_each_load_is_a_row_with_what_was_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    took = {vmfs_guest.VOLUME: 1.0, vmfs_guest.DIRECTORY: 1.5}
    found = {
        name: lambda seconds=seconds: {f"vmfs.guest.{load}": seconds for load in disk_guest.LOADS}
        for name, seconds in took.items()
    }
    made = plan(DIRECT)
    monkeypatch.setattr(disk_guest, "make_disk", lambda folder: folder)
    monkeypatch.setattr(vmfs_guest, "make_homes", lambda folder, disk: dict.fromkeys(took, folder))
    monkeypatch.setattr(vmfs_guest, "contenders", lambda plan, engine, disk, homes: found)
    vmfs_guest.measure(made)
    assert [row.measure for row in made.rows] == [f"vmfs.guest.{load}" for load in disk_guest.LOADS]
    assert {(row.peer_name, row.ratio, row.must, row.aim) for row in made.rows} == {("directory", 1.5, 0.95, 1.0)}
