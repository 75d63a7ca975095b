"""The guest's disk on a volume and beside it: both are the same disk, and what one of them lacks is said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bench import disk_guest, disks, vmfs_guest
from bench.linux_user import Load
from bench.plan import Plan
from bench.transcript import Line, Transcript
from tests.bench.test_disk_guest import DIRECT, plan
from tests.vmkernel.storage.lab import contents, written
from vmkernel.storage.create import Kind
from vmkernel.storage.datastores import resolve
from vmkernel.storage.vmfs_store import close_volumes

HOMES = (vmfs_guest.VOLUME, vmfs_guest.DIRECTORY)


def test_both_disks_hold_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vmfs_guest, "VOLUME_MIB", 512)
    model = written(tmp_path / "disk.vmdk", Kind.MONOLITHIC_SPARSE, 4 * disks.MIB)
    homes = vmfs_guest.make_homes(tmp_path, tmp_path / "disk.vmdk")
    assert [contents(home / vmfs_guest.DISK) for home in homes.values()] == [model, model]
    assert str(homes[vmfs_guest.VOLUME] / vmfs_guest.DISK) == f"{tmp_path}/volume.img:/guest.vmdk"
    close_volumes()


def test_a_disk_that_was_written_is_what_it_was_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vmfs_guest, "VOLUME_MIB", 512)
    disk = tmp_path / "disk.vmdk"
    model = written(disk, Kind.MONOLITHIC_SPARSE, 4 * disks.MIB)
    for name, home in vmfs_guest.make_homes(tmp_path, disk).items():
        used, host = Path(str(home / vmfs_guest.DISK)), vmfs_guest.host_file(tmp_path, name)
        at = host.read_bytes().find(model[-512:])
        with host.open("r+b") as file:
            file.seek(at)
            file.write(b"guest" * 100)
        assert contents(resolve(str(used))) != model
        close_volumes()
        vmfs_guest.renew(disk, used, host)
        assert contents(resolve(str(used))) == model
    close_volumes()


def lines(turns: int, outcome: str = "7") -> Transcript:
    """Load number n of turn t takes 1 + t + 10 n seconds."""
    found, now = [Line(0, "T: kernel")], 0
    for turn in range(turns):
        for number, load in enumerate(disk_guest.LOADS):
            found.append(Line(now, f"T: load begin {load}"))
            now += (1 + turn + 10 * number) * 1_000_000_000
            found.append(Line(now, f"T: load end {load} {outcome}"))
    return Transcript(0, tuple(found))


def test_turns_go_to_the_first_disk_the_second_twice_and_the_first() -> None:
    first, second = vmfs_guest.by_disk(lines(8))
    assert [turn["random_read"].seconds for turn in first] == [21, 24, 25, 28]
    assert [turn["random_read"].seconds for turn in second] == [22, 23, 26, 27]


def measured(monkeypatch: pytest.MonkeyPatch, run: Callable[..., vmfs_guest.Turns]) -> Plan:
    made = plan(DIRECT)
    monkeypatch.setattr(disk_guest, "make_disk", lambda folder: folder)
    monkeypatch.setattr(vmfs_guest, "make_homes", lambda folder, disk: {name: Path(name) for name in HOMES})
    monkeypatch.setattr(vmfs_guest, "boot", lambda plan: None)
    monkeypatch.setattr(vmfs_guest, "renew", lambda disk, used, host: None)
    monkeypatch.setattr(vmfs_guest, "run_on_both", run)
    vmfs_guest.measure(made)
    return made


def test_each_load_is_a_row_with_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(engine: object, started: object, used: Sequence[Path]) -> vmfs_guest.Turns:
        took = [1.0 if path.parent.name == vmfs_guest.VOLUME else 1.5 for path in used]
        one, other = ([{load: Load(seconds, "7") for load in disk_guest.LOADS}] * 2 for seconds in took)
        return one, other

    made = measured(monkeypatch, run)
    assert [row.measure for row in made.rows] == [f"vmfs.guest.{load}" for load in disk_guest.LOADS]
    assert {(row.peer_name, row.ratio, row.must, row.aim) for row in made.rows} == {("directory", 1.5, 0.95, 1.0)}


def test_disks_that_come_to_something_else_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object) -> vmfs_guest.Turns:
        one, other = ([{load: Load(1.0, text) for load in disk_guest.LOADS}] for text in "78")
        return one, other

    made = measured(monkeypatch, run)
    assert made.errors == ["vmfs guest: sequential_read came to 7 and 8"] and not made.rows
