"""Redo logs are folded into what is below them: every grain once, cut anywhere, and gone on with."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from ringfence.errors import BadOption, RingfenceError
from tests.vmkernel.storage.killing import Killed, living
from tests.vmkernel.storage.lab import SECTOR, contents, data, put, qemu_reads, scribble
from tests.vmkernel.storage.recorder import recorded
from vmkernel.storage.chain import Chain, open_disk
from vmkernel.storage.create import Kind, create, create_child, create_redo
from vmkernel.storage.errors import ContentMismatch, Unsupported
from vmkernel.storage.redo import fold as fold_module
from vmkernel.storage.redo.commit import commit, delete, revert
from vmkernel.storage.redo.fold import fold
from vmkernel.storage.redo.links import descriptor_of
from vmkernel.storage.repair import check

SIZE = 640 * SECTOR
BASES = [Kind.MONOLITHIC_SPARSE, Kind.MONOLITHIC_FLAT, Kind.TWO_GB_SPARSE, Kind.THIN]
CHILDREN = [Kind.VMFS_SPARSE, Kind.MONOLITHIC_SPARSE]


def chain(folder: Path, base: Kind, child: Kind, links: int = 3) -> tuple[list[Path], list[bytes]]:
    """vm.vmdk and children over it, all written; what each shows."""
    paths = [folder / "vm.vmdk", *(folder / f"vm-{number:06}.vmdk" for number in range(1, links + 1))]
    shown: list[bytes] = []
    for number, path in enumerate(paths):
        if number:
            create_child(path, paths[number - 1], child)
        else:
            create(path, base, SIZE)
        with open_disk(path, writable=True) as disk:
            shown.append(scribble(disk, number + 1, bytearray(shown[-1] if shown else bytes(SIZE)), 6))
    return paths, shown


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("child", CHILDREN)
def test_a_commit_leaves_one_disk_that_shows_the_same(tmp_path: Path, base: Kind, child: Kind) -> None:
    paths, shown = chain(tmp_path, base, child)
    assert commit(paths[-1], into=paths[0]) == paths[0]
    assert contents(paths[0]) == shown[-1]
    assert not list(tmp_path.glob("vm-00*"))
    assert check(paths[0]) == []
    assert qemu_reads(paths[0]) == shown[-1]


@pytest.mark.parametrize("number", [1, 2])
def test_a_link_in_the_middle_is_committed_and_its_child_goes_to_its_parent(tmp_path: Path, number: int) -> None:
    paths, shown = chain(tmp_path, Kind.THIN, Kind.VMFS_SPARSE)
    cid = descriptor_of(paths[number]).cid
    assert commit(paths[number]) == paths[number - 1]
    left = [path for path in paths if path != paths[number]]
    assert [path.exists() for path in paths] == [path in left for path in paths]
    assert contents(left[number - 1]) == shown[number]
    assert contents(paths[-1]) == shown[-1]
    assert descriptor_of(left[number - 1]).cid == cid, "the merged link has its child's content ID"


@pytest.mark.parametrize("base", [Kind.THIN, Kind.MONOLITHIC_SPARSE])
def test_each_grain_is_copied_at_most_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Kind) -> None:
    paths, shown = chain(tmp_path, base, Kind.VMFS_SPARSE, 5)
    written: list[int] = []
    write, copy_range = Chain.write, os.copy_file_range

    def counting(disk: Chain, offset: int, views: list[memoryview]) -> None:
        length = sum(map(len, views))
        written.extend(range(offset // SECTOR, (offset + length) // SECTOR))
        write(disk, offset, views)

    def copying(source: int, target: int, count: int, start: int, offset: int) -> int:
        moved = copy_range(source, target, count, start, offset)
        written.extend(range(offset // SECTOR, (offset + moved) // SECTOR))
        return moved

    monkeypatch.setattr(Chain, "write", counting)
    monkeypatch.setattr(os, "copy_file_range", copying)
    commit(paths[-1], into=paths[0])
    assert len(set(written)) == len(written) > 0
    assert contents(paths[0]) == shown[-1]


def test_an_interrupted_commit_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold_module, "PIECE_BYTES", 8 * SECTOR)
    paths, shown = chain(tmp_path, Kind.THIN, Kind.VMFS_SPARSE)
    seen: list[int] = []

    def interrupt(done: int, total: int) -> None:
        seen.append(done)
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        commit(paths[-1], interrupt, into=paths[0])
    assert [contents(path) for path in paths[-1:]] == shown[-1:]
    resumed: list[int] = []
    commit(paths[-1], lambda done, total: resumed.append(done), into=paths[0])
    assert resumed[0] >= seen[-1] > seen[0], "what was copied is not copied again"
    assert contents(paths[0]) == shown[-1]
    assert "ringfence" not in paths[0].read_text()


def test_an_interrupted_commit_starts_anew_when_its_redo_log_was_written_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fold_module, "PIECE_BYTES", 8 * SECTOR)
    paths, shown = chain(tmp_path, Kind.THIN, Kind.VMFS_SPARSE, 1)

    def interrupt(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        commit(paths[1], interrupt)
    with open_disk(paths[1], writable=True) as disk:
        put(disk, 1, new := data(77, 2))
    commit(paths[1])
    assert contents(paths[0]) == shown[1][:SECTOR] + new + shown[1][3 * SECTOR :]


def copy(template: Path, to: Path) -> None:
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(template, to)


@pytest.mark.parametrize("base", [Kind.MONOLITHIC_SPARSE, Kind.THIN])
@pytest.mark.parametrize("child", CHILDREN)
@pytest.mark.parametrize("torn", [pytest.param(False, marks=pytest.mark.long), True])
def test_a_commit_is_killed_at_any_change_and_is_finished_by_the_next(
    tmp_path: Path, base: Kind, child: Kind, torn: bool
) -> None:
    template, work = tmp_path / "template", tmp_path / "work"
    template.mkdir()
    paths, shown = chain(template, base, child)
    here = [work / path.name for path in paths]
    extent = "vm-000003-delta.vmdk"
    changes = 0
    while True:
        copy(template, work)
        try:
            with living(changes, torn=torn):
                commit(here[2], into=here[0])
            break
        except Killed:
            changes += 1
        assert contents(here[3]) == shown[3], f"killed at change {changes}"
        if here[2].exists():
            assert contents(here[2]) == shown[2]
            commit(here[2], into=here[0])
        assert contents(here[3]) == shown[3] and contents(here[0]) == shown[2]
        assert {path.name for path in work.glob("vm-0*")} == {"vm-000003.vmdk", extent} & {
            path.name for path in template.iterdir()
        }
    assert changes > 10


@pytest.mark.parametrize("base", [Kind.MONOLITHIC_SPARSE, Kind.THIN])
def test_power_that_fails_in_a_commit_loses_nothing(
    tmp_path: Path, base: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(*arguments: int) -> int:
        raise OSError("what is copied by the host is not recorded")

    monkeypatch.setattr(os, "copy_file_range", refusing)
    paths, shown = chain(tmp_path, base, Kind.VMFS_SPARSE, 2)
    with recorded(tmp_path) as recording:
        fold(paths)
    for cut in range(len(recording.events) + 1):
        for path in tmp_path.iterdir():
            path.unlink()
        recording.restore(cut, random.Random(cut))
        assert contents(paths[-1]) == shown[-1], f"after {cut} events"
        commit(paths[-1], into=paths[0])
        assert contents(paths[0]) == shown[-1]


def test_a_parent_with_other_children_is_not_committed_into(tmp_path: Path) -> None:
    paths, shown = chain(tmp_path, Kind.THIN, Kind.VMFS_SPARSE, 1)
    other = tmp_path / "other.vmdk"
    create_child(other, paths[0])
    with pytest.raises(Unsupported, match=r"no child but vm-000001\.vmdk, found other\.vmdk"):
        commit(paths[1])
    assert contents(other) == shown[0]
    commit(paths[1], force=True)
    with pytest.raises(ContentMismatch):
        contents(other)


def test_a_base_disk_is_not_committed(tmp_path: Path) -> None:
    paths, _ = chain(tmp_path, Kind.THIN, Kind.VMFS_SPARSE, 1)
    with pytest.raises(Unsupported, match="expected a link with a parent"):
        commit(paths[0])


def test_what_a_redo_log_held_is_given_up(tmp_path: Path) -> None:
    paths, shown = chain(tmp_path, Kind.THIN, Kind.VMFS_SPARSE, 2)
    with pytest.raises(Unsupported, match="a disk without children"):
        revert(paths[1])
    revert(paths[2])
    assert contents(paths[2]) == shown[1]
    assert len(list(tmp_path.iterdir())) == 6
    with pytest.raises(Unsupported):
        delete(paths[1])
    delete(paths[2])
    delete(paths[1])
    assert {path.name for path in tmp_path.iterdir()} == {"vm.vmdk", "vm-flat.vmdk"}
    assert contents(paths[0]) == shown[0]


def test_reverting_is_killed_at_any_change(tmp_path: Path) -> None:
    template, work = tmp_path / "template", tmp_path / "work"
    template.mkdir()
    paths, shown = chain(template, Kind.THIN, Kind.VMFS_SPARSE, 1)
    changes, found = 0, set()
    while True:
        copy(template, work)
        try:
            with living(changes):
                revert(work / paths[1].name)
            break
        except Killed:
            changes += 1
        found.add(contents(work / paths[1].name))
    assert found == set(shown)


def test_an_open_disk_is_not_committed(tmp_path: Path) -> None:
    paths, _ = chain(tmp_path, Kind.THIN, Kind.VMFS_SPARSE, 1)
    with open_disk(paths[1]), pytest.raises(RingfenceError, match="has it open"):
        commit(paths[1])


def test_an_esx_2_redo_log_is_committed_into_its_bare_disk(tmp_path: Path) -> None:
    bare = tmp_path / "old.dsk"
    bare.write_bytes(first := data(1, 640))
    redo = create_redo(bare)
    with open_disk(redo, writable=True) as disk:
        put(disk, 5, new := data(2, 3))
    commit(redo)
    assert bare.read_bytes() == first[: 5 * SECTOR] + new + first[8 * SECTOR :]
    assert not redo.exists()


@pytest.mark.parametrize("line", ["/etc/passwd", "../precious.vmdk", "precious.txt"])
def test_a_stranger_s_leftovers_are_not_removed(tmp_path: Path, line: str) -> None:
    folder = tmp_path / "vm"
    folder.mkdir()
    paths, _ = chain(folder, Kind.THIN, Kind.VMFS_SPARSE, 1)
    (tmp_path / "precious.vmdk").write_text("x")
    (folder / "precious.txt").write_text("x")
    fold(paths)
    with paths[1].open("a") as text:
        text.write(f'ddb.ringfence.leftover7 = "{line}"\n')
    commit(paths[1])
    assert (folder / line).exists()


def test_a_stranger_s_mark_of_a_fold_is_refused(tmp_path: Path) -> None:
    paths, shown = chain(tmp_path, Kind.THIN, Kind.VMFS_SPARSE, 1)
    with paths[1].open("a") as text:
        text.write('ddb.ringfence.mergedInto = "vm.vmdk"\n')
    with pytest.raises(RingfenceError, match="a link with the same extents"):
        commit(paths[1])
    assert contents(paths[1]) == shown[1]


def test_finishing_what_was_never_folded_is_refused(tmp_path: Path) -> None:
    paths, _ = chain(tmp_path, Kind.THIN, Kind.VMFS_SPARSE, 1)
    with pytest.raises(BadOption, match="was folded into its parent"):
        fold_module.finish(paths[1])
