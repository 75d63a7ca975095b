"""Snapshots of machines that are off: what each shows, what files there are, and a kill at any change to any file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ringfence.errors import BadInput, BadOption, RingfenceError
from tests.vmkernel.storage.killing import Killed, living
from tests.vmkernel.storage.lab import contents, get, qemu_reads
from tests.vmx.snapshot_lab import (
    DISKS,
    SECTORS,
    at_snapshots,
    current,
    files_of_machine,
    links_in,
    make_machine,
    run_guest,
    without_independent,
)
from vmkernel.storage.chain import open_disk
from vmkernel.storage.create import create_child
from vmx.machine_lock import MachineInUse, MachineLock
from vmx.registry import Registry
from vmx.snapshot_disks import machine_disks
from vmx.snapshots import (
    consolidate,
    delete,
    delete_all,
    find_snapshot,
    list_snapshots,
    revert,
    switched_off,
    take,
)
from vmx.vmsd import SnapshotTree
from vmx.vmx_file import VmxFile

BASE_FILES = {"web.vmdk", "web-flat.vmdk", "web_1.vmdk", "kept.vmdk", "kept-flat.vmdk"}


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fdatasync", os.fstat)
    monkeypatch.setattr(os, "fsync", os.fstat)


@pytest.fixture
def vmx(tmp_path: Path) -> Path:
    return make_machine(tmp_path / "vm")


def disk_names(vmx: Path) -> list[str]:
    return [disk.path.name for disk in machine_disks(VmxFile.read(vmx))]


def grown(vmx: Path) -> dict[int, dict[str, bytes]]:
    """1 <- 2 <- 3, and 1 <- 4 <- here: two branches."""
    shown = {}
    for number in (1, 2, 3):
        shown[number] = without_independent(run_guest(vmx, number))
        assert take(files_of_machine(vmx), f"number {number}").uid == number
    run_guest(vmx, 8)
    assert revert(files_of_machine(vmx), 1) == []
    shown[4] = without_independent(run_guest(vmx, 4))
    take(files_of_machine(vmx), "branch")
    run_guest(vmx, 5)
    return shown


# names and files


def test_files_are_named_as_esx_names_them(vmx: Path) -> None:
    run_guest(vmx, 1)
    take(files_of_machine(vmx), "first", "two\nlines", 1_669_649_052_664_346)
    assert links_in(vmx.parent) == BASE_FILES | {
        "web-000001.vmdk", "web-000001-delta.vmdk", "web_1-000001.vmdk", "web_1-000001-delta.vmdk",
    }  # fmt: skip
    assert (vmx.parent / "web-Snapshot1.vmsn").exists()
    assert disk_names(vmx) == ["web-000001.vmdk", "web_1-000001.vmdk", "kept.vmdk"]
    take(files_of_machine(vmx), "second")
    assert disk_names(vmx) == ["web-000002.vmdk", "web_1-000002.vmdk", "kept.vmdk"]
    text = (vmx.parent / "web.vmsd").read_text()
    for line in (
        'snapshot.lastUID = "2"', 'snapshot.numSnapshots = "2"', 'snapshot.current = "2"', 'snapshot0.uid = "1"',
        'snapshot0.filename = "web-Snapshot1.vmsn"', 'snapshot0.displayName = "first"',
        'snapshot0.description = "two|0Alines"', 'snapshot0.createTimeHigh = "388745"',
        'snapshot0.createTimeLow = "1991180826"', 'snapshot0.numDisks = "2"',
        'snapshot0.disk0.fileName = "web.vmdk"', 'snapshot0.disk0.node = "ide0:0"', 'snapshot1.parent = "1"',
        'snapshot1.disk1.fileName = "web_1-000001.vmdk"',
    ):  # fmt: skip
        assert line + "\n" in text
    assert "ringfence" not in text
    assert 'parentFileNameHint="web.vmdk"' in (vmx.parent / "web-000001.vmdk").read_text()


def test_a_number_is_not_given_twice(vmx: Path) -> None:
    take(files_of_machine(vmx), "one")
    delete(files_of_machine(vmx), 1)
    assert take(files_of_machine(vmx), "two").uid == 2


def test_redo_logs_go_into_the_working_directory_when_the_file_says_so(vmx: Path) -> None:
    (vmx.parent / "work").mkdir()
    with vmx.open("a") as text:
        text.write('workingDir = "work"\nsnapshot.redoNotWithParent = "TRUE"\n')
    before = run_guest(vmx, 1)
    take(files_of_machine(vmx), "one")
    assert disk_names(vmx)[0] == "web-000001.vmdk" and (vmx.parent / "work" / "web-000001-delta.vmdk").exists()
    assert current(vmx) == before
    after = run_guest(vmx, 2)
    delete_all(files_of_machine(vmx))
    assert current(vmx) == after and not list((vmx.parent / "work").iterdir())


def test_links_in_two_folders_are_folded(vmx: Path) -> None:
    (vmx.parent / "work").mkdir()
    with vmx.open("a") as text:
        text.write('workingDir = "work"\n')
    shown = {}
    for number, inside in ((1, "FALSE"), (2, "TRUE"), (3, "FALSE"), (4, "TRUE")):
        file = VmxFile.read(vmx)
        file.set("snapshot.redoNotWithParent", inside)
        file.write()
        shown[number] = without_independent(run_guest(vmx, number))
        take(files_of_machine(vmx), str(number))
    now = run_guest(vmx, 5)
    for uid in (2, 1, 4, 3):
        delete(files_of_machine(vmx), uid)
        del shown[uid]
        assert current(vmx) == now and at_snapshots(vmx) == shown
    assert links_in(vmx.parent) == BASE_FILES and not list((vmx.parent / "work").iterdir())


def test_a_base_that_somebody_reads_is_folded_into_later(vmx: Path) -> None:
    shown = run_guest(vmx, 1)
    take(files_of_machine(vmx), "one")
    now = run_guest(vmx, 2)
    with open_disk(vmx.parent / "web.vmdk") as backup:
        with pytest.raises(RingfenceError, match="another process has it open"):
            delete(files_of_machine(vmx), 1)
        assert get(backup, 0, SECTORS) == shown["ide0:0"]
        tree = SnapshotTree.read(vmx.with_suffix(".vmsd"))
        assert not tree.snapshots and tree.needs_consolidation and current(vmx) == now
        take(files_of_machine(vmx), "two")
    consolidate(files_of_machine(vmx))
    assert at_snapshots(vmx) == {2: without_independent(now)}
    delete_all(files_of_machine(vmx))
    assert links_in(vmx.parent) == BASE_FILES and current(vmx) == now


# what they show


def test_each_snapshot_shows_what_the_disks_showed(vmx: Path) -> None:
    shown = grown(vmx)
    assert at_snapshots(vmx) == shown
    rows = list_snapshots(vmx)
    assert [(row.uid, row.parent, row.current) for row in rows] == [
        (1, 0, False), (2, 1, False), (3, 2, False), (4, 1, True),
    ]  # fmt: skip
    assert find_snapshot(vmx, "branch") == 4 and find_snapshot(vmx, "2") == 2
    assert not any(row.missing for row in rows)


@pytest.mark.parametrize("uid", [1, 2, 3, 4])
def test_a_return_shows_the_snapshot_and_gives_up_what_came_since(vmx: Path, uid: int) -> None:
    shown = grown(vmx)
    before, kept = links_in(vmx.parent), current(vmx)["ide1:0"]
    revert(files_of_machine(vmx), uid)
    assert without_independent(current(vmx)) == shown[uid]
    assert current(vmx)["ide1:0"] == kept, "an independent disk stays as it is"
    assert len(links_in(vmx.parent)) == len(before)
    assert at_snapshots(vmx) == shown
    assert SnapshotTree.read(vmx.with_suffix(".vmsd")).current == uid


@pytest.mark.parametrize("uid", [1, 2, 3, 4])
def test_deleting_one_changes_nothing_of_the_others(vmx: Path, uid: int) -> None:
    shown, now = grown(vmx), None
    now = current(vmx)
    delete(files_of_machine(vmx), uid)
    del shown[uid]
    assert current(vmx) == now and at_snapshots(vmx) == shown
    assert not (vmx.parent / f"web-Snapshot{uid}.vmsn").exists()
    for node in disk_names(vmx)[:2]:
        assert qemu_reads(vmx.parent / node) == contents(vmx.parent / node)


@pytest.mark.parametrize("order", [(1, 2, 3, 4), (4, 3, 2, 1), (2, 4, 1, 3), (3, 1, 4, 2)])
def test_when_all_are_deleted_one_by_one_only_the_bases_are_left(vmx: Path, order: tuple[int, ...]) -> None:
    grown(vmx)
    now = current(vmx)
    for uid in order:
        delete(files_of_machine(vmx), uid)
        assert current(vmx) == now
    assert links_in(vmx.parent) == BASE_FILES and disk_names(vmx) == list(DISKS)
    assert not list(vmx.parent.glob("*.vmsn"))
    assert "ringfence" not in (vmx.parent / "web.vmsd").read_text()


def test_delete_all_folds_the_whole_path_at_once(vmx: Path) -> None:
    grown(vmx)
    now = current(vmx)
    delete_all(files_of_machine(vmx))
    assert current(vmx) == now
    assert links_in(vmx.parent) == BASE_FILES and disk_names(vmx) == list(DISKS)
    tree = SnapshotTree.read(vmx.with_suffix(".vmsd"))
    assert (tree.snapshots, tree.current, tree.last_uid, tree.needs_consolidation) == ([], 0, 4, False)


def test_a_snapshot_goes_with_all_that_descend_from_it(vmx: Path) -> None:
    shown = grown(vmx)
    now = current(vmx)
    delete(files_of_machine(vmx), 2, with_children=True)
    assert at_snapshots(vmx) == {1: shown[1], 4: shown[4]} and current(vmx) == now
    delete(files_of_machine(vmx), 1, with_children=True)
    assert links_in(vmx.parent) == BASE_FILES and current(vmx) == now


def test_a_linked_clone_beside_it_keeps_its_parent(vmx: Path) -> None:
    base = run_guest(vmx, 1)["ide0:0"]
    take(files_of_machine(vmx), "one")
    clone = vmx.parent / "clone.vmdk"
    create_child(clone, vmx.parent / "web.vmdk")
    now = run_guest(vmx, 2)
    delete_all(files_of_machine(vmx))
    assert contents(clone) == base and current(vmx) == now
    assert disk_names(vmx)[0] == "web-000001.vmdk", "it stays a child as long as its parent has another"
    for path in (clone, vmx.parent / "clone-delta.vmdk"):
        path.unlink()
    consolidate(files_of_machine(vmx))
    assert disk_names(vmx)[0] == "web.vmdk" and current(vmx) == now


def test_a_parent_in_another_folder_is_not_written(vmx: Path, tmp_path: Path) -> None:
    template = make_machine(tmp_path / "template")
    shown = run_guest(template, 1)["ide0:0"]
    for path in (vmx.parent / "web.vmdk", vmx.parent / "web-flat.vmdk"):
        path.unlink()
    create_child(vmx.parent / "web.vmdk", template.parent / "web.vmdk")
    take(files_of_machine(vmx), "one")
    now = run_guest(vmx, 2)
    delete_all(files_of_machine(vmx))
    consolidate(files_of_machine(vmx))
    assert current(vmx) == now and contents(template.parent / "web.vmdk") == shown
    assert disk_names(vmx)[0] == "web.vmdk"


def test_the_settings_come_back_and_the_name_stays(vmx: Path) -> None:
    take(files_of_machine(vmx), "one")
    file = VmxFile.read(vmx)
    for key, value in (("memsize", "32"), ("displayName", "renamed"), ("uuid.bios", "00")):
        file.set(key, value)
    file.write()
    revert(files_of_machine(vmx), 1)
    file = VmxFile.read(vmx)
    assert (file.get("memsize"), file.get("displayName"), file.get("uuid.bios")) == ("16", "renamed", "00")


def test_a_disk_that_came_later_is_unplugged_by_a_return_and_kept(vmx: Path) -> None:
    file = VmxFile.read(vmx)
    file.set("ide0:1.present", "FALSE")
    file.write()
    take(files_of_machine(vmx), "one")
    file = VmxFile.read(vmx)
    file.set("ide0:1.present", "TRUE")
    file.write()
    shown = run_guest(vmx, 1)["ide0:1"]
    revert(files_of_machine(vmx), 1)
    assert "ide0:1" not in current(vmx) and contents(vmx.parent / "web_1.vmdk") == shown


def test_of_a_snapshot_without_its_state_the_disks_come_back(vmx: Path) -> None:
    shown = run_guest(vmx, 1)
    take(files_of_machine(vmx), "one")
    run_guest(vmx, 2)
    (vmx.parent / "web-Snapshot1.vmsn").write_bytes(b"what another product wrote")
    assert list_snapshots(vmx)[0].missing == ()
    notes = revert(files_of_machine(vmx), 1)
    assert len(notes) == 1 and "settings stay as they are" in notes[0]
    assert without_independent(current(vmx)) == without_independent(shown)


# what is refused


def test_a_machine_that_runs_is_not_touched(vmx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "run"))
    lock = MachineLock.acquire(vmx, Registry.of_user().directory)
    with pytest.raises(MachineInUse), switched_off(vmx):
        pass
    lock.release()
    with switched_off(vmx) as files:
        take(files, "one")


def test_an_open_disk_fails_the_whole_snapshot_and_leaves_nothing(vmx: Path) -> None:
    before = {path.name for path in vmx.parent.iterdir()}
    text = vmx.read_bytes()
    with open_disk(vmx.parent / "web_1.vmdk", writable=True), pytest.raises(RingfenceError, match="has it open"):
        take(files_of_machine(vmx), "one")
    assert {path.name for path in vmx.parent.iterdir()} - before == {"web.vmsd"}
    assert vmx.read_bytes() == text and list_snapshots(vmx) == ()
    take(files_of_machine(vmx), "again")


def test_bare_sectors_have_no_snapshots(vmx: Path) -> None:
    (vmx.parent / "bare.img").write_bytes(bytes(4096))
    file = VmxFile.read(vmx)
    file.set("ide0:1.fileName", "bare.img")
    file.write()
    with pytest.raises(BadInput, match=r"web\.vmx:7: ide0:1\.fileName: disk of a machine .*: expected a VMDK"):
        take(files_of_machine(vmx), "one")
    file.set("ide0:1.mode", "independent-persistent")
    file.write()
    take(files_of_machine(vmx), "one")
    delete_all(files_of_machine(vmx))


@pytest.mark.parametrize("call", [lambda files: revert(files, 7), lambda files: delete(files, 7)])
def test_a_snapshot_that_is_not_there_is_named(vmx: Path, call: Callable[..., object]) -> None:
    take(files_of_machine(vmx), "one")
    with pytest.raises(BadOption, match="snapshot 7: expected one of 1"):
        call(files_of_machine(vmx))
    with pytest.raises(BadOption, match=r"snapshot 'no': expected one of 1 \(one\)"):
        find_snapshot(vmx, "no")


def test_the_33rd_on_one_path_is_refused(vmx: Path) -> None:
    for number in range(32):
        take(files_of_machine(vmx), str(number))
    with pytest.raises(BadOption, match="at most 32 snapshots"):
        take(files_of_machine(vmx), "33")
    delete_all(files_of_machine(vmx))
    assert links_in(vmx.parent) == BASE_FILES


def test_a_suspended_machine_is_resumed_first(vmx: Path) -> None:
    with vmx.open("a") as text:
        text.write('checkpoint.vmState = "web-1.vmss"\n')
    with pytest.raises(BadOption, match="the machine is suspended"):
        take(files_of_machine(vmx), "one")


@pytest.mark.parametrize(
    ("name", "description", "said"),
    [(" ", "", "expected a name"), ("a\0b", "", "NUL"), ("\ud800", "", "utf-8"), ("a", "x" * (1 << 20), "bytes")],
)
def test_a_name_that_the_dictionary_cannot_hold_changes_nothing(
    vmx: Path, name: str, description: str, said: str
) -> None:
    before = {path: path.read_bytes() for path in vmx.parent.iterdir()}
    with pytest.raises(BadOption, match=said):
        take(files_of_machine(vmx), name, description)
    assert {path: path.read_bytes() for path in vmx.parent.iterdir()} == before


@pytest.mark.parametrize("name", ["../precious.vmdk", "precious.txt", "/precious", "web.vmx", "web.vmdk"])
def test_a_stranger_s_dictionary_removes_nothing_else(vmx: Path, name: str) -> None:
    for path in (vmx.parent / "../precious.vmdk", vmx.parent / "precious.txt"):
        path.write_text("x")
    (vmx.parent / "web.vmsd").write_text(f'ringfence.remove0 = "{name}"\nsnapshot.numSnapshots = "0"\n')
    take(files_of_machine(vmx), "one")
    delete_all(files_of_machine(vmx))
    assert (vmx.parent / name).exists() or name == "/precious"


def test_a_missing_link_is_said_and_nothing_is_removed(vmx: Path) -> None:
    take(files_of_machine(vmx), "one")
    take(files_of_machine(vmx), "two")
    (vmx.parent / "web-000001.vmdk").rename(vmx.parent / "away.vmdk")
    assert list_snapshots(vmx)[1].missing == ("web-000001.vmdk",)
    before = links_in(vmx.parent)
    delete(files_of_machine(vmx), 2)
    assert before - links_in(vmx.parent) <= {"web_1-000001.vmdk", "web_1-000001-delta.vmdk",
                                             "web_1-000002.vmdk", "web_1-000002-delta.vmdk"}  # fmt: skip


# cut short

ACTIONS: dict[str, Callable[..., object]] = {
    "take": lambda files: take(files, "late"),
    "revert across": lambda files: revert(files, 3),
    "revert here": lambda files: revert(files, 4),
    "delete a branching one": lambda files: delete(files, 1),
    "delete one in the middle": lambda files: delete(files, 2),
    "delete a leaf": lambda files: delete(files, 3),
    "delete the current": lambda files: delete(files, 4),
    "delete with children": lambda files: delete(files, 2, with_children=True),
    "delete all": delete_all,
}


def judge(vmx: Path, shown: dict[int, dict[str, bytes]], allowed: list[dict[str, bytes]]) -> None:
    """Every disk of the machine and of every snapshot opens, and shows what it should."""
    now = current(vmx)
    assert now in allowed
    for uid, disks in at_snapshots(vmx).items():
        assert disks == shown.get(uid, without_independent(now))


# In `make test` every fifth change, in the long run every one, with half of the last write on the disk too.
CUTS = [(False, 5), pytest.param(False, 1, marks=pytest.mark.long), pytest.param(True, 1, marks=pytest.mark.long)]


@pytest.mark.parametrize(("torn", "step"), CUTS)
@pytest.mark.parametrize("name", ACTIONS)
def test_a_kill_at_any_change_leaves_the_machine_as_before_or_as_after(
    tmp_path: Path, template: tuple[Path, dict[int, dict[str, bytes]]], name: str, torn: bool, step: int
) -> None:
    source, shown = template
    work = tmp_path / "vm"
    vmx = work / "web.vmx"
    before = current(source)
    target = {"revert across": 3, "revert here": 4}.get(name)
    after = {**before, **shown[target]} if target else before
    changes = len(name) % step
    while True:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(source.parent, work)
        try:
            with living(changes, torn=torn):
                ACTIONS[name](files_of_machine(vmx))
            judge(vmx, shown, [after])
            break
        except Killed:
            changes += step
        judge(vmx, shown, [before, after])
        if changes // step % 3 == 0:  # whoever comes next tidies up; in between, the machine may have run
            now = run_guest(vmx, 6) if changes % 2 else current(vmx)
            delete_all(files_of_machine(vmx))
            assert current(vmx) == now and disk_names(vmx) == list(DISKS)
            left = {path.name for path in work.iterdir() if not path.name.startswith(".")}
            assert left == BASE_FILES | {"web.vmx", "web.vmsd"}
    assert changes > 5


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, dict[str, bytes]]]:
    vmx = make_machine(tmp_path_factory.mktemp("template") / "vm")
    return vmx, grown(vmx)
