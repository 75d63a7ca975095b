"""Disks whose writes do not simply stay: where they go, and what is left after power-off, or a kill."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ringfence.errors import BadInput
from tests.vmkernel.storage.killing import Killed, living
from tests.vmkernel.storage.lab import SECTOR, contents, data, get, put
from tests.vmx.snapshot_lab import SECTORS, files_of_machine, make_machine
from vmkernel.storage.chain import open_disk
from vmx.snapshot_modes import AtPowerOff, after_power_off, prepare_redo_logs
from vmx.snapshots import take
from vmx.vmx_file import VmxFile

EMPTY = bytes(SECTORS * SECTOR)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fdatasync", os.fstat)
    monkeypatch.setattr(os, "fsync", os.fstat)


@pytest.fixture
def vmx(tmp_path: Path) -> Path:
    return make_machine(tmp_path / "vm")


def set_key(vmx: Path, key: str, value: str) -> None:
    file = VmxFile.read(vmx)
    file.set(key, value)
    file.write()


def run_guest(vmx: Path, seed: int) -> bytes:
    """What the undoable disk shows its guest at power-off."""
    with open_disk(prepare_redo_logs(VmxFile.read(vmx))["ide0:0"], writable=True) as disk:
        put(disk, seed, data(seed, 2))
        return get(disk, 0, SECTORS)


@pytest.mark.parametrize("mode", ["undoable", "append"])
def test_changes_are_kept_until_somebody_says_otherwise(vmx: Path, mode: str) -> None:
    set_key(vmx, "ide0:0.mode", mode)
    first = run_guest(vmx, 1)
    files = files_of_machine(vmx)
    lines = after_power_off(files)
    redo = VmxFile.read(vmx).get("ide0:0.redo")
    assert redo.startswith("web.vmdk.REDO_") and lines == [f"ide0:0: the changes are kept in {redo}"]
    assert contents(vmx.parent / "web.vmdk") == EMPTY
    second = run_guest(vmx, 9)
    assert second[: 3 * SECTOR] == first[: 3 * SECTOR] and VmxFile.read(vmx).get("ide0:0.redo") == redo


@pytest.mark.parametrize(("action", "asked"), [("autoCommit", AtPowerOff.KEEP), ("prompt", AtPowerOff.COMMIT)])
def test_changes_are_committed(vmx: Path, action: str, asked: AtPowerOff) -> None:
    set_key(vmx, "ide0:0.mode", "undoable")
    set_key(vmx, "snapshot.action", action)
    shown = run_guest(vmx, 1)
    after_power_off(files_of_machine(vmx), asked)
    assert contents(vmx.parent / "web.vmdk") == shown
    assert VmxFile.read(vmx).get("ide0:0.redo") == "" and not list(vmx.parent.glob("*REDO*"))


def test_changes_are_given_up(vmx: Path) -> None:
    set_key(vmx, "ide0:0.mode", "undoable")
    set_key(vmx, "snapshot.action", "autoRevert")
    run_guest(vmx, 1)
    after_power_off(files_of_machine(vmx))
    assert contents(vmx.parent / "web.vmdk") == EMPTY
    assert VmxFile.read(vmx).get("ide0:0.redo") == "" and not list(vmx.parent.glob("*REDO*"))


def test_power_on_is_killed_at_any_change(vmx: Path, tmp_path: Path) -> None:
    set_key(vmx, "ide0:0.mode", "undoable")
    work, changes = tmp_path / "work", 0
    while True:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(vmx.parent, work)
        try:
            with living(changes):
                prepare_redo_logs(VmxFile.read(work / "web.vmx"))
            break
        except Killed:
            changes += 1
        shown = run_guest(work / "web.vmx", 1)
        assert shown[SECTOR : 3 * SECTOR] == data(1, 2) and contents(work / "web.vmdk") == EMPTY
        assert after_power_off(files_of_machine(work / "web.vmx"), AtPowerOff.COMMIT)
        assert contents(work / "web.vmdk") == shown and not list(work.glob("web*REDO*"))
    assert changes > 3


def test_a_suspended_machine_wants_its_own_redo_log(vmx: Path) -> None:
    set_key(vmx, "ide0:0.mode", "undoable")
    with pytest.raises(BadInput, match="redo log: expected that of the suspended machine, found none"):
        prepare_redo_logs(VmxFile.read(vmx), resumes=True)


@pytest.mark.parametrize("action", ["autoCommit", "autoRevert"])
def test_power_off_is_killed_at_any_change(vmx: Path, tmp_path: Path, action: str) -> None:
    set_key(vmx, "ide0:0.mode", "undoable")
    set_key(vmx, "snapshot.action", action)
    shown = run_guest(vmx, 1)
    after = shown if action == "autoCommit" else EMPTY
    work, changes = tmp_path / "work", 0
    while True:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(vmx.parent, work)
        try:
            with living(changes):
                after_power_off(files_of_machine(work / "web.vmx"))
            break
        except Killed:
            changes += 1
        with open_disk(prepare_redo_logs(VmxFile.read(work / "web.vmx"))["ide0:0"]) as disk:
            assert get(disk, 0, SECTORS) in (shown, after)
        after_power_off(files_of_machine(work / "web.vmx"))
        files_of_machine(work / "web.vmx").tidy()
        assert contents(work / "web.vmdk") in (shown, after)
        assert not list(work.glob("web*REDO*"))
    assert changes > 5


def test_a_disk_with_a_redo_log_has_no_snapshots(vmx: Path) -> None:
    set_key(vmx, "ide0:0.mode", "undoable")
    with pytest.raises(BadInput, match="expected mode persistent or an independent one, found undoable"):
        take(files_of_machine(vmx), "one")
