"""New disks: the files and lines of each kind, what is refused, and that nothing is overwritten or left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringfence.errors import BadOption, HostRefused, RingfenceError
from tests.vmkernel.storage.lab import MIB, SECTOR, contents
from vmkernel.storage.block_file import BlockFile
from vmkernel.storage.chain import open_disk
from vmkernel.storage.create import SNAPSHOTS_MAX, VMFS_KINDS, Kind, create, create_child, create_redo
from vmkernel.storage.errors import OutOfSpace, Unsupported
from vmkernel.storage.vmdk.descriptor_spec import Adapter


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def split(letter: str) -> list[str]:
    return [*(f"d-{letter}00{number}.vmdk" for number in (1, 2, 3)), "d.vmdk"]


@pytest.mark.parametrize(
    ("kind", "size", "files", "line"),
    [
        (Kind.MONOLITHIC_SPARSE, MIB, ["d.vmdk"], b'RW 2048 SPARSE "d.vmdk"'),
        (Kind.MONOLITHIC_FLAT, MIB, ["d-flat.vmdk", "d.vmdk"], b'RW 2048 FLAT "d-flat.vmdk" 0'),
        (Kind.TWO_GB_FLAT, 5 << 30, split("f"), b'RW 4192256 FLAT "d-f002.vmdk" 0'),
        (Kind.TWO_GB_SPARSE, 5 << 30, split("s"), b'RW 2101248 SPARSE "d-s003.vmdk"'),
        (Kind.VMFS_SPARSE, MIB, ["d-delta.vmdk", "d.vmdk"], b'RW 2048 VMFSSPARSE "d-delta.vmdk"'),
        *((kind, MIB, ["d-flat.vmdk", "d.vmdk"], b'RW 2048 VMFS "d-flat.vmdk"') for kind in sorted(VMFS_KINDS)),
    ],
)  # fmt: skip
def test_files_and_lines_of_each_kind(tmp_path: Path, kind: Kind, size: int, files: list[str], line: bytes) -> None:
    create(tmp_path / "d.vmdk", kind, size)
    assert names(tmp_path) == files
    assert line + b"\n" in (tmp_path / "d.vmdk").read_bytes()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    with pytest.raises(HostRefused, match="File exists"):
        create(tmp_path / "d.vmdk", kind, size)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_what_the_blocks_of_each_vmfs_kind_take_up(tmp_path: Path) -> None:
    taken = {}
    for kind in VMFS_KINDS:
        create(tmp_path / f"{kind}.vmdk", kind, 4 * MIB)
        taken[kind] = (tmp_path / f"{kind}-flat.vmdk").stat().st_blocks * SECTOR
        assert contents(tmp_path / f"{kind}.vmdk") == bytes(4 * MIB)
    assert taken.pop(Kind.THIN) < MIB
    assert all(size >= 4 * MIB for size in taken.values())


def test_the_geometry_is_the_adapters(tmp_path: Path) -> None:
    for adapter, heads in ((Adapter.IDE, "16"), (Adapter.BUSLOGIC, "64"), (Adapter.LSILOGIC, "64")):
        create(tmp_path / f"{adapter}.vmdk", Kind.THIN, 512 * MIB, adapter)
        with open_disk(tmp_path / f"{adapter}.vmdk") as disk:
            descriptor = disk.links[0].descriptor
            assert descriptor is not None
            assert descriptor.get("ddb.adapterType") == adapter
            assert descriptor.get("ddb.geometry.heads") == heads
            assert descriptor.get("ddb.thinProvisioned") == "1"


@pytest.mark.parametrize("size", [0, -512, 511, 1 << 70])
@pytest.mark.parametrize("kind", Kind)
def test_a_capacity_that_cannot_be_is_refused(tmp_path: Path, kind: Kind, size: int) -> None:
    with pytest.raises(BadOption, match="a multiple of 512 bytes up to"):
        create(tmp_path / "d.vmdk", kind, size)
    assert not names(tmp_path)


def test_a_vmfs_disk_ends_below_two_tebibytes(tmp_path: Path) -> None:
    create(tmp_path / "d.vmdk", Kind.THIN, (2 << 40) - SECTOR)
    with pytest.raises(BadOption):
        create(tmp_path / "e.vmdk", Kind.THIN, 2 << 40)


def test_nothing_is_left_of_a_disk_that_could_not_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "d-s002.vmdk").write_bytes(b"mine")
    with pytest.raises(HostRefused):
        create(tmp_path / "d.vmdk", Kind.TWO_GB_SPARSE, 5 << 30)
    assert names(tmp_path) == ["d-s002.vmdk"]

    def full(file: BlockFile, size: int) -> None:
        raise OutOfSpace(file.path, size, "No space left on device")

    monkeypatch.setattr(BlockFile, "reserve", full)
    with pytest.raises(RingfenceError, match="No space"):
        create(tmp_path / "e.vmdk", Kind.THICK, MIB)
    assert names(tmp_path) == ["d-s002.vmdk"]


def test_a_child_takes_its_parents_content_id(tmp_path: Path) -> None:
    create(tmp_path / "d.vmdk", Kind.THIN, MIB)
    (tmp_path / "sub").mkdir()
    create_child(tmp_path / "d-000001.vmdk", tmp_path / "d.vmdk")
    create_child(tmp_path / "sub" / "e.vmdk", tmp_path / "d.vmdk")
    text = (tmp_path / "d-000001.vmdk").read_text()
    assert "CID=fffffffe\nparentCID=fffffffe\n" in text
    assert 'parentFileNameHint="d.vmdk"\n' in text
    assert 'RW 2048 VMFSSPARSE "d-000001-delta.vmdk"' in text
    assert f'parentFileNameHint="{tmp_path / "d.vmdk"}"' in (tmp_path / "sub" / "e.vmdk").read_text()
    assert contents(tmp_path / "sub" / "e.vmdk") == bytes(MIB)
    with pytest.raises(BadOption, match="a link with a parent is one of"):
        create_child(tmp_path / "f.vmdk", tmp_path / "d.vmdk", Kind.MONOLITHIC_FLAT)


def test_the_thirty_third_snapshot_is_refused(tmp_path: Path) -> None:
    parent = tmp_path / "d.vmdk"
    create(parent, Kind.THIN, MIB)
    for number in range(SNAPSHOTS_MAX):
        child = tmp_path / f"d-{number + 1:06}.vmdk"
        create_child(child, parent)
        parent = child
    with pytest.raises(Unsupported, match="at most 32 links over the base"):
        create_child(tmp_path / "d-000033.vmdk", parent)
    assert contents(parent) == bytes(MIB)


def test_a_redo_log_is_not_made_twice(tmp_path: Path) -> None:
    (tmp_path / "d.dsk").write_bytes(bytes(MIB))
    create_redo(tmp_path / "d.dsk")
    with pytest.raises(HostRefused):
        create_redo(tmp_path / "d.dsk")
    assert contents(tmp_path / "d.dsk.REDO") == bytes(MIB)
    (tmp_path / "e.dsk").write_bytes(b"")
    with pytest.raises(BadOption):
        create_redo(tmp_path / "e.dsk")


def test_names_outside_ascii_are_kept(tmp_path: Path) -> None:
    path = tmp_path / 'dísk "1" 我.vmdk'
    create(path, Kind.THIN, MIB)
    assert b'encoding="UTF-8"\n' in path.read_bytes()
    create_child(tmp_path / "ü.vmdk", path)
    assert contents(tmp_path / "ü.vmdk") == bytes(MIB)
