"""Renaming, deleting, families and raw device mappings."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from ringfence.errors import BadOption, HostRefused, RingfenceError
from tests.vmkernel.storage.lab import MIB, SECTOR, contents, data, get, put, qemu_reads, written
from vmkernel.storage.chain import open_disk
from vmkernel.storage.create import Kind, create, create_child, create_redo
from vmkernel.storage.errors import Locked, Unsupported
from vmkernel.storage.family import children_of, tree
from vmkernel.storage.inflate import inflate, write_zeros
from vmkernel.storage.raw_device import Mapping, create_mapping, mapping
from vmkernel.storage.renaming import delete_disk, rename_disk

SIZE = MIB


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


@pytest.mark.parametrize("kind", Kind)
def test_a_renamed_disk_is_the_same_under_new_names(tmp_path: Path, kind: Kind) -> None:
    model = written(tmp_path / "old.vmdk", kind, SIZE)
    before = names(tmp_path)
    rename_disk(tmp_path / "old.vmdk", tmp_path / "new.vmdk")
    assert names(tmp_path) == {name.replace("old", "new", 1) for name in before}
    assert contents(tmp_path / "new.vmdk") == model == qemu_reads(tmp_path / "new.vmdk")
    assert b"old" not in (tmp_path / "new.vmdk").read_bytes()[: 21 * SECTOR]


@pytest.mark.parametrize("kind", Kind)
def test_a_deleted_disk_takes_its_files_with_it(tmp_path: Path, kind: Kind) -> None:
    create(tmp_path / "disk.vmdk", kind, SIZE)
    (tmp_path / "other").touch()
    delete_disk(tmp_path / "disk.vmdk")
    assert names(tmp_path) == {"other"}


def test_a_child_keeps_its_parent_when_it_moves_and_goes(tmp_path: Path) -> None:
    base, child = tmp_path / "base.vmdk", tmp_path / "child.vmdk"
    model = written(base, Kind.THIN, SIZE)
    create_child(child, base)
    (tmp_path / "sub").mkdir()
    rename_disk(child, moved := tmp_path / "sub" / "moved.vmdk")
    assert contents(moved) == model
    delete_disk(moved)
    assert names(tmp_path) == {"base.vmdk", "base-flat.vmdk", "sub"} and not names(tmp_path / "sub")
    assert contents(base) == model


def test_a_disk_in_use_or_with_children_stays(tmp_path: Path) -> None:
    base, child = tmp_path / "base.vmdk", tmp_path / "child.vmdk"
    create(base, Kind.THIN, SIZE)
    create_child(child, base)
    assert children_of(base) == [child] and not children_of(child)
    renaming = partial(rename_disk, base, tmp_path / "x.vmdk")
    for refused in (partial(delete_disk, base), renaming, partial(write_zeros, base)):
        with pytest.raises(Unsupported, match=r"child\.vmdk"):
            refused()
    with open_disk(child), pytest.raises(Locked):
        delete_disk(child)
    assert names(tmp_path) == {"base.vmdk", "base-flat.vmdk", "child.vmdk", "child-delta.vmdk"}


def test_a_name_that_is_taken_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    create(tmp_path / "old.vmdk", Kind.THIN, SIZE)
    create(tmp_path / "new.vmdk", Kind.THIN, SIZE)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(HostRefused, match="cannot rename"):
        rename_disk(tmp_path / "old.vmdk", tmp_path / "new.vmdk")
    with pytest.raises(BadOption):
        rename_disk(tmp_path / "old.vmdk", tmp_path / "new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_tree_has_every_branch(tmp_path: Path) -> None:
    create(tmp_path / "base.vmdk", Kind.THIN, SIZE)
    for name, parent in (("a", "base"), ("b", "base"), ("aa", "a"), ("ab", "a")):
        create_child(tmp_path / f"{name}.vmdk", tmp_path / f"{parent}.vmdk")
    top = tree(tmp_path / "ab.vmdk")
    assert top.path.name == "base.vmdk" and [one.path.name for one in top.children] == ["a.vmdk", "b.vmdk"]
    assert [one.path.name for one in top.children[0].children] == ["aa.vmdk", "ab.vmdk"]


def test_a_redo_log_of_esx_2_is_a_child(tmp_path: Path) -> None:
    (tmp_path / "disk.vmdk").write_bytes(bytes(SIZE))
    redo = create_redo(tmp_path / "disk.vmdk")
    assert children_of(tmp_path / "disk.vmdk") == [redo]
    assert [one.path for one in tree(redo).children] == [redo]


@pytest.mark.parametrize("passthrough", [False, True])
def test_a_mapping_shows_its_device(tmp_path: Path, passthrough: bool) -> None:
    (tmp_path / "device").write_bytes(data(1, 64))
    create_mapping(tmp_path / "disk.vmdk", tmp_path / "device", passthrough=passthrough)
    assert mapping(tmp_path / "disk.vmdk") == Mapping(passthrough, tmp_path / "device")
    with open_disk(tmp_path / "disk.vmdk", writable=True) as disk:
        assert get(disk, 0, 64) == data(1, 64)
        put(disk, 3, data(2, 1))
    assert (tmp_path / "device").read_bytes()[3 * SECTOR : 4 * SECTOR] == data(2, 1)
    delete_disk(tmp_path / "disk.vmdk")
    assert names(tmp_path) == {"device"}


def test_a_mapping_of_nothing_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for device in ("empty", "missing"):
        with pytest.raises(RingfenceError):
            create_mapping(tmp_path / "disk.vmdk", tmp_path / device, passthrough=False)
    assert names(tmp_path) == {"empty"}


def test_an_inflated_disk_has_all_its_blocks_and_its_data(tmp_path: Path) -> None:
    model = written(tmp_path / "disk.vmdk", Kind.THIN, SIZE)
    inflate(tmp_path / "disk.vmdk")
    assert contents(tmp_path / "disk.vmdk") == model
    assert (tmp_path / "disk-flat.vmdk").stat().st_blocks * 512 >= SIZE
    assert b"thin" not in (tmp_path / "disk.vmdk").read_bytes()
    create(tmp_path / "sparse.vmdk", Kind.MONOLITHIC_SPARSE, SIZE)
    with pytest.raises(Unsupported):
        inflate(tmp_path / "sparse.vmdk")


@pytest.mark.parametrize("kind", Kind)
def test_zeros_all_over(tmp_path: Path, kind: Kind) -> None:
    written(tmp_path / "disk.vmdk", kind, SIZE)
    write_zeros(tmp_path / "disk.vmdk")
    assert contents(tmp_path / "disk.vmdk") == bytes(SIZE)
