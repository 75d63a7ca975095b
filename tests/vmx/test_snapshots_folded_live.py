"""Snapshots deleted while their machine runs: it shows the same all the time, and what it wrote meanwhile is there."""

from __future__ import annotations

import gc
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ringfence.errors import HostRefused, RingfenceError
from tests.vmkernel.storage.killing import Killed, living
from tests.vmkernel.storage.lab import SECTOR, contents, data, get, put
from tests.vmx.snapshot_lab import SECTORS, at_snapshots, current, files_of_machine, links_in, run_guest
from tests.vmx.test_snapshots_live import Ran, ran, vmx, wait_counted
from vmkernel.storage.blocks import DiskBlocks
from vmkernel.storage.chain import Chain, open_disk
from vmkernel.storage.errors import Locked
from vmx import snapshot_consolidate
from vmx.attachments import Attachments, Disk
from vmx.snapshot_consolidate import LiveConsolidation
from vmx.snapshot_files import MachineFiles
from vmx.snapshots import consolidate, delete_all, forget_snapshots, take

__all__ = ["ran", "vmx"]  # fixtures
ALL = {"m.vmdk", "m-flat.vmdk"}


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fdatasync", os.fstat)
    monkeypatch.setattr(os, "fsync", os.fstat)


def whole(ran: Ran) -> bytes:
    return get(ran.disk, 0, SECTORS)


def grow(ran: Ran, snapshots: int) -> bytes:
    """So many snapshots, with something written after each; what the disk shows then."""
    for number in range(snapshots):
        ran.running.take_snapshot(str(number), "", memory=False)
        put(ran.disk, number * 7, data(number, 9))
    return whole(ran)


class Writer:
    """The guest's writes: one sector after the other, round the disk, until it is left."""

    def __init__(self, ran: Ran) -> None:
        self.ran, self.written = ran, 0
        self.failures: list[RingfenceError] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        try:
            while not self._done.wait(0.0002):
                with self.ran.machine.lock:
                    put(self.ran.disk, self.written % SECTORS, data(self.written, 1))
                self.written += 1
        except RingfenceError as error:
            self.failures.append(error)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def check(self, shown: bytes) -> None:
        assert not self.failures and self.written
        for number in range(max(0, self.written - SECTORS), self.written):
            at = number % SECTORS * SECTOR
            assert shown[at : at + SECTOR] == data(number, 1), number


def test_all_snapshots_of_a_running_machine_become_one_disk(ran: Ran, vmx: Path) -> None:
    ran.begin()
    shown = grow(ran, 4)
    deleted = ran.running.delete_all_snapshots()
    assert deleted.stuns_ms and any("links folded: the machine stood still" in line for line in ran.log.lines)
    assert whole(ran) == shown and links_in(vmx.parent) == ALL and not ran.running.list_snapshots()
    wait_counted(ran)
    put(ran.disk, 50, content := data(9, 2))
    ran.end()
    ran.machine.close()
    after = current(vmx)["ide0:0"]
    assert after[50 * SECTOR : 52 * SECTOR] == content and after[: 50 * SECTOR] == shown[: 50 * SECTOR]


@pytest.mark.parametrize("uid", [1, 2, 3])
def test_one_of_three_is_deleted_and_the_others_stay(ran: Ran, vmx: Path, uid: int) -> None:
    ran.begin()
    shown = grow(ran, 3)
    others = {number: content for number, content in at_snapshots_live(vmx).items() if number != uid}
    ran.running.delete_snapshot(str(uid), children=False)
    assert whole(ran) == shown
    put(ran.disk, 90, data(7, 1))
    assert at_snapshots_live(vmx) == others
    with pytest.raises(Locked):
        open_disk(ran.disk.links[-1].path)
    for link in ran.disk.links[:-1]:
        open_disk(link.path).close()
        with pytest.raises(Locked):
            open_disk(link.path, writable=True)
    shown = whole(ran)
    ran.end()
    ran.machine.close()
    assert current(vmx)["ide0:0"] == shown and len(links_in(vmx.parent)) == len(ALL) + 4
    delete_all(files_of_machine(vmx))
    assert links_in(vmx.parent) == ALL and current(vmx)["ide0:0"] == shown


def at_snapshots_live(vmx: Path) -> dict[int, bytes]:
    return {uid: shown["ide0:0"] for uid, shown in at_snapshots(vmx).items()}


@pytest.mark.parametrize("small", [0, 1 << 20])
def test_what_is_written_meanwhile_is_there(ran: Ran, vmx: Path, small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_consolidate, "SMALL_BYTES", small)
    monkeypatch.setattr(snapshot_consolidate, "HELPERS_MAX", 3)
    ran.begin()
    grow(ran, 3)
    with Writer(ran) as writer:
        stuns = ran.running.delete_all_snapshots().stuns_ms
        before = writer.written
        ran.running.take_snapshot("again", "", memory=False)
        ran.running.delete_snapshot("again", children=True)
        while writer.written < before + SECTORS and not writer.failures:
            threading.Event().wait(0.001)
    writer.check(shown := whole(ran))
    assert len(stuns) == (9 if small == 0 else 3), "two for the frozen links, two for each helper, one for the rest"
    assert links_in(vmx.parent) == ALL
    ran.end()
    ran.machine.close()
    assert current(vmx)["ide0:0"] == shown


def test_a_branch_that_goes_is_folded_beside_the_machine(ran: Ran, vmx: Path) -> None:
    ran.begin()
    grow(ran, 2)
    ran.running.delete_snapshot("1", children=True)
    assert links_in(vmx.parent) == ALL and not ran.running.list_snapshots()


class Cut(RingfenceError):
    """What interrupts the copying."""


def test_what_is_interrupted_goes_on_with_the_next(ran: Ran, vmx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran.begin()
    shown = grow(ran, 3)

    def cut(self: MachineFiles, run: list[Path]) -> None:
        raise Cut("interrupted")

    with monkeypatch.context() as patch:
        patch.setattr(MachineFiles, "fold", cut)
        with pytest.raises(Cut):
            ran.running.delete_all_snapshots()
    assert whole(ran) == shown and not ran.running.list_snapshots()
    with pytest.raises(Locked):
        open_disk(vmx.parent / "m.vmdk", writable=True)
    put(ran.disk, 1, data(8, 1))
    shown = whole(ran)
    wait_counted(ran)
    ran.running.consolidate()
    assert whole(ran) == shown and links_in(vmx.parent) == ALL


def test_a_machine_that_ends_leaves_it_to_the_next(ran: Ran, vmx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran.begin()
    shown = grow(ran, 3)
    real = MachineFiles.fold

    def fold(self: MachineFiles, run: list[Path]) -> None:
        ran.end()
        real(self, run)

    with monkeypatch.context() as patch:
        patch.setattr(MachineFiles, "fold", fold)
        with pytest.raises(HostRefused, match="ended"):
            ran.running.delete_all_snapshots()
    ran.machine.close()
    assert current(vmx)["ide0:0"] == shown
    consolidate(files_of_machine(vmx))
    assert current(vmx)["ide0:0"] == shown and links_in(vmx.parent) == ALL


def test_a_disk_that_cannot_be_opened_again_ends_it(ran: Ran, vmx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran.begin()
    shown = grow(ran, 1)

    def refuse(path: Path, **how: object) -> Chain:
        raise HostRefused(f"{path}: too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("vmx.live_disks.open_disk", refuse)
        with pytest.raises(HostRefused, match="cannot be opened again"):
            ran.running.delete_all_snapshots()
    assert ran.machine.stopping is not None and "too many open files" in ran.machine.stopping.text
    ran.end()
    ran.machine.close()
    assert current(vmx)["ide0:0"] == shown == contents(vmx.parent / "m.vmdk")


# killed


class StandIn:
    """What folding needs of a machine, always at rest, so that a kill can fall anywhere."""

    def __init__(self, disk: Chain) -> None:
        self.attachments = Attachments(chains={"ide0:0": disk}, owned=[disk])
        self.attachments.drives[0, 0] = Disk(DiskBlocks(disk, "ide0:0"))
        self.board = SimpleNamespace(scsi=SimpleNamespace(settle=lambda: None))
        self.interrupts = SimpleNamespace(stun=lambda: None, resume=lambda: None)
        self.questions = SimpleNamespace(is_open=False)

    def fold(self, files: MachineFiles) -> None:
        LiveConsolidation(self, files, lambda act: act(), lambda: False).run()  # type: ignore[arg-type]

    def die(self) -> None:
        """The host lets go of a killed process's files."""
        for thing in self.attachments.owned:
            assert isinstance(thing, Chain)
            for link in thing.links:
                link.abandon()


@pytest.mark.parametrize("first", [pytest.param(0, marks=pytest.mark.long), 1])
def test_folding_is_killed_at_any_change(
    first: int, vmx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every change, or every fourth."""
    monkeypatch.setattr(snapshot_consolidate, "SMALL_BYTES", 0)
    monkeypatch.setattr(snapshot_consolidate, "HELPERS_MAX", 1)
    for number in range(2):
        take(files_of_machine(vmx), str(number))
        run_guest(vmx, number)
    shown = current(vmx)
    work, changes, step = tmp_path / "work", first, 4 if first else 1
    while True:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(vmx.parent, work)
        files = files_of_machine(work / "m.vmx")
        machine = StandIn(open_disk(files.path(files.vmx.get("ide0:0.fileName")), writable=True))
        try:
            with living(changes):
                forget_snapshots(files, [1, 2])
                machine.fold(files)
            break
        except Killed:
            changes += step
        finally:
            machine.die()
        gc.collect()  # a killed process holds no lock
        assert current(work / "m.vmx") == shown
        assert all(part == shown_part for part, shown_part in zip_snapshots(work / "m.vmx", vmx))
        delete_all(files_of_machine(work / "m.vmx"))
        consolidate(files_of_machine(work / "m.vmx"))
        assert current(work / "m.vmx") == shown and links_in(work) == ALL
    assert changes > 30
    assert current(work / "m.vmx") == shown and links_in(work) == ALL


def zip_snapshots(one: Path, other: Path) -> Iterator[tuple[dict[str, bytes], dict[str, bytes]]]:
    """What the snapshots that are left show, and what they showed."""
    before = at_snapshots(other)
    for uid, shown in at_snapshots(one).items():
        yield shown, before[uid]
