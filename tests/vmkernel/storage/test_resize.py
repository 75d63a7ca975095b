"""Resizing: other programs see the new size and the same data; a process killed at any point harms nothing."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ringfence.errors import BadInput, BadOption, RingfenceError
from tests.vmkernel.storage.lab import MIB, SECTOR, contents, data, get, put, qemu_img, written
from tests.vmkernel.storage.recorder import recorded
from vmkernel.storage import create as making
from vmkernel.storage import resize as resizing
from vmkernel.storage.block_file import BlockFile
from vmkernel.storage.chain import open_disk, open_raw
from vmkernel.storage.create import Kind, create, create_child
from vmkernel.storage.errors import Unsupported
from vmkernel.storage.repair import check
from vmkernel.storage.resize import resize, resize_raw
from vmkernel.storage.vmdk import text_home

OLD = MIB + 5 * SECTOR  # the end is within a grain
KILLED = 99


def larger_size(kind: Kind) -> int:
    """Across extents, or across a table."""
    return (33 if kind is Kind.MONOLITHIC_SPARSE else 5) * MIB + 3 * SECTOR


@pytest.fixture(autouse=True)
def small_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """Split disks have several extents although they are small."""
    for module in (making, resizing):
        monkeypatch.setattr(module, "SPLIT_SECTORS", 2 * MIB // SECTOR)


def judge(path: Path, kind: Kind, model: bytes) -> None:
    """Ours, QEMU's and the check's word."""
    assert contents(path) == model
    assert not check(path), [str(finding) for finding in check(path)]
    raw = path.with_name("raw")
    raw.write_bytes(model)
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", "vmdk", raw, path)
    if kind in (Kind.MONOLITHIC_SPARSE, Kind.TWO_GB_SPARSE):
        assert "No errors" in qemu_img("check", "-f", "vmdk", path)


@pytest.mark.parametrize("kind", Kind)
def test_a_larger_disk_has_the_same_data_and_then_zeros(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / "disk.vmdk"
    model, new = written(path, kind, OLD), larger_size(kind)
    resize(path, new)
    judge(path, kind, model.ljust(new, b"\0"))
    with open_disk(path, writable=True) as disk:
        put(disk, new // SECTOR - 1, tail := data(7, 1))
        put(disk, OLD // SECTOR + 3, middle := data(8, 1))
    changed = bytearray(model.ljust(new, b"\0"))
    changed[-SECTOR:] = tail
    changed[OLD + 3 * SECTOR : OLD + 4 * SECTOR] = middle
    judge(path, kind, bytes(changed))


@pytest.mark.parametrize("kind", Kind)
def test_a_smaller_disk_keeps_its_beginning(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / "disk.vmdk"
    create(path, kind, larger_size(kind))
    with open_disk(path, writable=True) as disk:
        put(disk, 100, data(1, 50))
    resize(path, OLD, shrink=True)
    model = bytearray(OLD)
    model[100 * SECTOR : 150 * SECTOR] = data(1, 50)
    assert contents(path) == bytes(model)
    assert all(finding.is_harmless for finding in check(path))
    resize(path, larger_size(kind))
    assert contents(path) == bytes(model).ljust(larger_size(kind), b"\0")


@pytest.mark.parametrize("kind", [Kind.MONOLITHIC_SPARSE, Kind.TWO_GB_SPARSE, Kind.THIN])
def test_what_lay_behind_the_end_is_not_seen_afterwards(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / "disk.vmdk"
    model = written(path, kind, OLD)
    for file in tmp_path.glob("disk*"):
        if kind is Kind.THIN and file.stat().st_size > 4096:
            file.write_bytes(file.read_bytes() + b"x" * 5000)
    if kind is not Kind.THIN:
        with open_disk(path) as disk:
            extent = disk.links[0].extents[0]
            last = int(extent.tables.entries(OLD // SECTOR // 128, 1)[0])
        with BlockFile.open(extent.file.path, writable=True) as file:
            file.write((last + 6) * SECTOR, [b"x" * SECTOR])  # of the last grain, past the disk's end
    resize(path, larger_size(kind))
    assert contents(path) == model.ljust(larger_size(kind), b"\0")


def test_shrinking_must_be_meant_and_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    written(path, Kind.THIN, 4 * MIB)
    before = contents(path)
    with pytest.raises(BadOption, match="--shrink"):
        resize(path, 2 * MIB)
    with pytest.raises(BadInput, match="data at byte"):
        resize(path, 2 * MIB, shrink=True)
    assert contents(path) == before


def test_a_disk_with_relatives_is_not_resized(tmp_path: Path) -> None:
    base, child = tmp_path / "base.vmdk", tmp_path / "child.vmdk"
    create(base, Kind.THIN, MIB)
    create_child(child, base)
    for path in (base, child):
        with pytest.raises(Unsupported, match="resized"):
            resize(path, 2 * MIB)
    qemu_img("convert", "-O", "vmdk", "-o", "subformat=streamOptimized", base, stream := tmp_path / "stream.vmdk")
    with pytest.raises(RingfenceError, match="streamOptimized"):
        resize(stream, 2 * MIB)


def test_bare_sectors_are_resized(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(data(1, 4))
    resize_raw(path, 8 * SECTOR)
    assert path.read_bytes() == data(1, 4).ljust(8 * SECTOR, b"\0")
    with pytest.raises(BadInput):
        resize_raw(path, 2 * SECTOR, shrink=True)
    resize_raw(path, 4 * SECTOR, shrink=True)
    with open_raw(path) as disk:
        assert get(disk, 0, 4) == data(1, 4)


def test_a_2_tib_sparse_disk_is_made_from_a_small_one(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    model = written(path, Kind.MONOLITHIC_SPARSE, MIB)
    resize(path, (2 << 40) - (64 << 30))
    with open_disk(path, writable=True) as disk:
        assert get(disk, 0, MIB // SECTOR) == model
        put(disk, disk.sectors - 1, tail := data(9, 1))
    with open_disk(path) as disk:
        assert get(disk, disk.sectors - 1, 1) == tail
    assert '"virtual-size": 2130303778816' in qemu_img("info", "--output=json", "-f", "vmdk", path)


# a process that is killed, and power that fails


def killed_after(steps: int, action: Callable[[], object]) -> bool:
    """Run it in a child that dies at its n-th write, flush or change of a name. False: it was done before that."""
    child = os.fork()
    if not child:
        left = [steps]

        def counted(call: Callable[..., object]) -> Callable[..., object]:
            def counting(*arguments: object, **options: object) -> object:
                if not left[0]:
                    os._exit(KILLED)
                left[0] -= 1
                return call(*arguments, **options)

            return counting

        for name in ("write", "sync", "truncate", "zero", "reserve"):
            setattr(BlockFile, name, counted(getattr(BlockFile, name)))
        for place, name in ((os, "link"), (Path, "replace"), (Path, "unlink"), (text_home, "replace_file")):
            setattr(place, name, counted(getattr(place, name)))
        try:
            action()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, KILLED)
    return os.waitstatus_to_exitcode(status) == KILLED


@pytest.mark.parametrize(
    ("kind", "larger"),
    [
        (Kind.MONOLITHIC_SPARSE, True),
        (Kind.MONOLITHIC_SPARSE, False),
        (Kind.TWO_GB_SPARSE, True),
        (Kind.TWO_GB_SPARSE, False),
        (Kind.VMFS_SPARSE, True),
        (Kind.VMFS_SPARSE, False),
        (Kind.THIN, True),
        (Kind.THIN, False),
    ],
)
def test_killed_anywhere_the_disk_has_its_old_size_or_its_new_one(tmp_path: Path, kind: Kind, larger: bool) -> None:
    made, place = tmp_path / "made", tmp_path / "place"
    made.mkdir()
    sizes = (OLD, larger_size(kind)) if larger else (larger_size(kind), OLD)
    create(made / "disk.vmdk", kind, sizes[0])
    with open_disk(made / "disk.vmdk", writable=True) as disk:
        put(disk, 100, data(1, 50))
    beginning = contents(made / "disk.vmdk")[:OLD]
    path, seen, steps = place / "disk.vmdk", set(), 0
    going = True
    while going:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(made, place)
        going = killed_after(steps, lambda: resize(path, sizes[1], shrink=True))
        found = contents(path)
        seen.add(len(found))
        assert len(found) in sizes and found == beginning.ljust(len(found), b"\0")
        assert all(finding.is_harmless for finding in check(path))
        resize(path, sizes[1], shrink=True)
        assert contents(path) == beginning.ljust(sizes[1], b"\0")
        steps += 1
    assert seen == set(sizes) and steps > 3


@pytest.mark.parametrize("kind", [Kind.MONOLITHIC_SPARSE, Kind.TWO_GB_SPARSE, Kind.MONOLITHIC_FLAT])
def test_power_that_fails_anywhere_while_a_disk_grows(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / "disk.vmdk"
    model, new = written(path, kind, OLD), larger_size(kind)
    with recorded(tmp_path) as recording:
        resize(path, new)
    for cut in range(len(recording.events) + 1):
        for file in tmp_path.iterdir():
            file.unlink()
        recording.restore(cut, random.Random(cut))
        found = contents(path)
        assert len(found) in (OLD, new) and found == model.ljust(len(found), b"\0"), f"after {cut} events"
        assert all(finding.is_harmless for finding in check(path))
