"""A link gets another parent: the disk shows the same, or only the descriptor is changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ringfence.errors import RingfenceError
from tests.vmkernel.storage.killing import Killed, living
from tests.vmkernel.storage.lab import SECTOR, contents, qemu_reads, scribble
from vmkernel.storage.chain import open_disk
from vmkernel.storage.create import Kind, create, create_child
from vmkernel.storage.redo.links import ancestry, descriptor_of
from vmkernel.storage.redo.rebase import rebase

SIZE = 640 * SECTOR


def family(folder: Path, child: Kind) -> tuple[Path, Path, bytes]:
    """base <- mid <- top <- kid, and another disk with partly the same contents."""
    shown = bytes(SIZE)
    parent = None
    for number, name in enumerate(("base", "mid", "top", "kid")):
        path = folder / f"{name}.vmdk"
        if parent is None:
            create(path, Kind.THIN, SIZE)
        else:
            create_child(path, parent, child)
        with open_disk(path, writable=True) as disk:
            shown = scribble(disk, number + 1, bytearray(shown), 5)
        parent = path
    create(folder / "other.vmdk", Kind.MONOLITHIC_SPARSE, SIZE)
    with open_disk(folder / "other.vmdk", writable=True) as disk:
        scribble(disk, 9, bytearray(SIZE), 5)
    return folder / "top.vmdk", folder / "kid.vmdk", shown


@pytest.mark.parametrize("child", [Kind.VMFS_SPARSE, Kind.MONOLITHIC_SPARSE])
@pytest.mark.parametrize("parent", ["base.vmdk", "other.vmdk"])
def test_the_disk_and_its_children_show_the_same(tmp_path: Path, child: Kind, parent: str) -> None:
    top, kid, shown = family(tmp_path, child)
    before = contents(top)
    rebase(top, tmp_path / parent)
    assert ancestry(top) == [tmp_path / parent, top]
    assert contents(top) == before and contents(kid) == shown
    assert qemu_reads(kid) == shown


def test_nothing_is_copied_where_both_parents_have_the_same(tmp_path: Path) -> None:
    create(base := tmp_path / "base.vmdk", Kind.THIN, SIZE)
    with open_disk(base, writable=True) as disk:
        scribble(disk, 1, bytearray(SIZE), 5)
    create_child(mid := tmp_path / "mid.vmdk", base)
    create_child(top := tmp_path / "top.vmdk", mid)
    size = (tmp_path / "top-delta.vmdk").stat().st_size
    rebase(top, base)
    assert (tmp_path / "top-delta.vmdk").stat().st_size == size


def test_unsafely_only_the_descriptor_is_changed(tmp_path: Path) -> None:
    top, _, _ = family(tmp_path, Kind.VMFS_SPARSE)
    other = tmp_path / "other.vmdk"
    extent = (tmp_path / "top-delta.vmdk").read_bytes()
    rebase(top, other, unsafe=True)
    assert (tmp_path / "top-delta.vmdk").read_bytes() == extent
    assert descriptor_of(top).parent_cid == descriptor_of(other).cid
    assert descriptor_of(top).parent_hint == "other.vmdk"


def test_a_descendant_and_a_disk_of_another_size_are_no_parents(tmp_path: Path) -> None:
    top, kid, _ = family(tmp_path, Kind.VMFS_SPARSE)
    create(small := tmp_path / "small.vmdk", Kind.THIN, SECTOR)
    for parent, said in ((kid, "does not descend from it"), (top, "does not descend"), (small, "640 sectors of its")):
        with pytest.raises(RingfenceError, match=said):
            rebase(top, parent)
    with pytest.raises(RingfenceError, match="a link with a parent"):
        rebase(tmp_path / "base.vmdk", small)


def test_it_is_killed_at_any_change(tmp_path: Path) -> None:
    template, work = tmp_path / "template", tmp_path / "work"
    template.mkdir()
    family(template, Kind.VMFS_SPARSE)
    before, shown = contents(template / "top.vmdk"), contents(template / "kid.vmdk")
    changes = 0
    while True:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(template, work)
        try:
            with living(changes, torn=True):
                rebase(work / "top.vmdk", work / "other.vmdk")
            break
        except Killed:
            changes += 1
        assert contents(work / "top.vmdk") == before and contents(work / "kid.vmdk") == shown
        rebase(work / "top.vmdk", work / "other.vmdk")
        assert contents(work / "kid.vmdk") == shown
    assert changes > 5
