"""Disks on a VMFS volume are what they are on the host: made, written, frozen, folded, moved and copied."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ringfence.errors import BadOption, HostRefused
from tests.vmkernel.storage.lab import MIB, SECTOR, contents, data, get, put, scribble, written
from tests.vmkernel.storage.vmfs3.hosts import make
from tests.vmkernel.storage.volume_lab import KILLED, LABEL, folder, images, in_child, judge, volume, volume_folder
from vmkernel.storage.batch import read_batch
from vmkernel.storage.block_file import BlockFile, copy_file, replace_file
from vmkernel.storage.chain import open_disk
from vmkernel.storage.convert import convert
from vmkernel.storage.create import Kind, create, create_child
from vmkernel.storage.datastores import Datastores, resolve
from vmkernel.storage.errors import HostTrouble, Locked, MissingLink, OutOfSpace
from vmkernel.storage.facts import disk_facts, use
from vmkernel.storage.family import tree
from vmkernel.storage.formats import Format, Plain, open_image
from vmkernel.storage.inflate import inflate
from vmkernel.storage.redo.child import child_path, make_child
from vmkernel.storage.redo.commit import commit, delete, revert
from vmkernel.storage.redo.rebase import rebase
from vmkernel.storage.renaming import delete_disk, rename_disk
from vmkernel.storage.repair import check
from vmkernel.storage.resize import resize
from vmkernel.storage.vmfs3.volume import Volume
from vmkernel.storage.vmfs_place import VolumePlace, place_in
from vmkernel.storage.vmfs_store import STORES, close_volumes

__all__ = ["folder", "volume"]  # fixtures
SIZE = 640 * SECTOR


def names(folder: Any) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_of_disk_holds_what_was_written(folder: Any, kind: Kind) -> None:
    path = folder / "disk.vmdk"
    model = written(path, kind, 3 * MIB)
    assert contents(path) == model
    assert check(path) == []
    assert disk_facts(path)["bytes"] == 3 * MIB


@pytest.mark.parametrize(
    ("kind", "blocks", "data_blocks"),
    [(Kind.THIN, 0, 0), (Kind.ZEROED_THICK, 3, 0), (Kind.EAGER_ZEROED_THICK, 3, 3)],
)
def test_a_flat_disk_has_the_blocks_that_its_kind_says(
    volume: VolumePlace, kind: Kind, blocks: int, data_blocks: int
) -> None:
    create(volume / "disk.vmdk", kind, 3 * MIB)
    place = volume / "disk-flat.vmdk"
    mapped = place.store.volume.map(place.store.volume.lookup(str(place.path)))
    assert (mapped.allocated(), mapped.data()) == (blocks * MIB, data_blocks * MIB)
    assert contents(volume / "disk.vmdk") == bytes(3 * MIB)


def test_a_thin_disk_is_inflated(folder: Any) -> None:
    path = folder / "disk.vmdk"
    model = written(path, Kind.THIN, 4 * MIB)
    inflate(path)
    assert contents(path) == model
    assert disk_facts(path)["host_bytes"] >= 4 * MIB


def test_snapshots_are_taken_committed_and_given_up(folder: Any) -> None:
    base = folder / "vm.vmdk"
    shown = [written(base, Kind.THIN, SIZE)]
    links = [base]
    for number in range(3):
        with open_disk(links[-1]) as parent:
            links.append(child_path(base))
            make_child(links[-1], parent)
        with open_disk(links[-1], writable=True) as disk:
            shown.append(scribble(disk, number + 2, bytearray(shown[-1]), 6))
    assert links[-1].name == "vm-000003.vmdk"
    revert(links[-1])
    assert contents(links[-1]) == shown[2]
    delete(links.pop())
    assert commit(links[2]) == links[1].resolve()
    assert contents(links[1]) == shown[2]
    assert commit(links[1], into=base) == base.resolve()
    assert contents(base) == shown[2]
    assert names(folder) == {"vm.vmdk", "vm-flat.vmdk"}


def test_a_child_gets_another_parent(folder: Any) -> None:
    first, second, child = folder / "a.vmdk", folder / "b.vmdk", folder / "c.vmdk"
    written(first, Kind.THIN, SIZE, seed=1)
    written(second, Kind.MONOLITHIC_SPARSE, SIZE, seed=2)
    create_child(child, first)
    before = contents(child)
    rebase(child, second)
    assert contents(child) == before
    assert [member.path.name for member in tree(second).children] == ["c.vmdk"]


@pytest.mark.parametrize("kind", [Kind.THIN, Kind.MONOLITHIC_SPARSE, Kind.TWO_GB_SPARSE, Kind.VMFS_SPARSE])
def test_a_disk_is_made_larger_renamed_and_deleted(folder: Any, kind: Kind) -> None:
    path, moved = folder / "disk.vmdk", folder / "other.vmdk"
    model = written(path, kind, SIZE)
    resize(path, 2 * SIZE)
    assert contents(path) == model + bytes(SIZE)
    resize(path, SIZE, shrink=True)
    rename_disk(path, moved)
    assert not any(name.startswith("disk") for name in names(folder))
    assert contents(moved) == model
    with pytest.raises(HostRefused, match="xists"):
        create(folder / "other.vmdk", kind, SIZE)
    delete_disk(moved)
    assert names(folder) == set()


@pytest.mark.parametrize("kind", [Kind.MONOLITHIC_SPARSE, Kind.TWO_GB_FLAT, Kind.THIN, Plain.STREAM, Plain.RAW])
def test_disks_are_copied_between_host_and_volume(tmp_path: Path, volume: VolumePlace, kind: Any) -> None:
    model = written(tmp_path / "source.vmdk", Kind.MONOLITHIC_SPARSE, 4 * MIB)
    form = Format.RAW if kind is Plain.RAW else Format.VMDK
    inside, back = volume / "copy.img", tmp_path / "back.vmdk"
    with open_disk(tmp_path / "source.vmdk") as source:
        convert(source, inside, kind)
    with open_image(inside, form) as source:
        convert(source, back, Kind.THIN)
    assert contents(back) == model
    assert not [name for name in names(volume) if name.startswith(".")]
    with open_disk(back) as source, pytest.raises(HostRefused, match="it is there already"):
        convert(source, inside, kind)


def test_a_batch_of_reads_finds_its_places_on_the_volume(volume: VolumePlace) -> None:
    path, child = volume / "disk.vmdk", volume / "child.vmdk"
    written(path, Kind.THIN, 4 * MIB)
    create_child(child, path)
    with open_disk(child, writable=True) as disk:
        scribble(disk, 9, bytearray(contents(path)), 10)
    model = contents(child)
    offsets = np.random.default_rng(3).integers(0, 4 * MIB // 4096 - 1, 300) * 4096
    out = bytearray(len(offsets) * 4096)
    with open_disk(child) as disk:
        read_batch(disk, offsets, 4096, memoryview(out))
    assert out == b"".join(model[at : at + 4096] for at in offsets)


def test_small_writes_over_what_is_there_go_to_the_volume_at_once(volume: VolumePlace) -> None:
    """Not the first ones: where the file lies is looked up first."""
    place = volume / "flat.vmdk"
    create(place, Kind.EAGER_ZEROED_THICK, 4 * MIB)
    content = data(7, 8)
    with open_disk(place, writable=True) as disk:
        for sector in range(0, 64, 8):
            put(disk, sector, content)
        assert disk.write_at_once(1024 * SECTOR, [memoryview(content)])
        assert not disk.write_at_once(4 * MIB - SECTOR, [memoryview(content)])
    with open_disk(place) as disk:
        assert get(disk, 1024, 8) == get(disk, 56, 8) == content
        assert get(disk, 1032, 8) == bytes(8 * SECTOR)


def test_texts_that_name_the_volume_as_esx_does_are_understood(volume: VolumePlace) -> None:
    base, child = volume / "vm.vmdk", volume / "vm-000001.vmdk"
    model = written(base, Kind.THIN, SIZE)
    create_child(child, base)
    text = child.read_bytes().replace(b'Hint="vm.vmdk"', f'Hint="/vmfs/volumes/{LABEL}/vm/vm.vmdk"'.encode())
    assert LABEL.encode() in text
    replace_file(child, text)
    assert contents(child) == model


def test_a_text_on_a_volume_names_no_file_of_the_host(tmp_path: Path, volume: VolumePlace) -> None:
    (tmp_path / "secret").write_bytes(data(1, 8))
    replace_file(volume / "bad.vmdk", (
        '# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType="vmfs"\n'
        f'RW 8 VMFS "{tmp_path}/secret"\n'
    ).encode())  # fmt: skip
    with pytest.raises(MissingLink, match="secret"):
        open_disk(volume / "bad.vmdk")


def test_a_symbolic_link_leads_within_its_volume(tmp_path: Path, volume: VolumePlace) -> None:
    model = written(volume / "disk.vmdk", Kind.THIN, SIZE)
    (volume / "link.vmdk").symlink_to("disk.vmdk")
    (volume / "out.vmdk").symlink_to(str(tmp_path / "outside"))
    (tmp_path / "outside").write_bytes(b"x")
    assert contents(volume / "link.vmdk") == model
    assert (volume / "link.vmdk").resolve() == volume / "disk.vmdk"
    assert not (volume / "out.vmdk").exists()
    (volume / "a.vmdk").symlink_to("b.vmdk")
    (volume / "b.vmdk").symlink_to("a.vmdk")
    with pytest.raises(OSError, match="links"):
        (volume / "a.vmdk").resolve()


def test_a_file_is_copied_with_its_holes(folder: Any) -> None:
    with BlockFile.create(folder / "old") as file:
        file.truncate(5 * MIB)
        file.write(2 * MIB + 512, [data(1, 9)])
    copy_file(folder / "old", folder / "new")
    assert (folder / "new").read_bytes() == (folder / "old").read_bytes()
    with BlockFile.open(folder / "new") as file:
        assert file.allocated() <= MIB


def test_a_volume_without_room_says_so_and_keeps_what_it_had(volume: VolumePlace) -> None:
    create(volume / "disk.vmdk", Kind.THIN, 1 << 30)
    with open_disk(volume / "disk.vmdk", writable=True) as disk:
        put(disk, 0, data(1, 8))
        block = memoryview(bytes(64 * MIB))
        with pytest.raises(OutOfSpace, match=r"disk-flat\.vmdk.*no space left"):
            for number in range(16):
                disk.write(number * len(block) + 4096, [block[: len(block) - 4096]])
        assert get(disk, 0, 8) == data(1, 8)
        disk.flush()
    with pytest.raises(HostRefused, match="no room"), open_disk(volume / "disk.vmdk") as source:
        convert(source, volume / "copy.vmdk", Kind.EAGER_ZEROED_THICK)
    assert names(volume) == {"disk.vmdk", "disk-flat.vmdk"}


# reading leaves no trace


def test_reading_writes_nothing(tmp_path: Path) -> None:
    model = []
    in_folder = volume_folder(tmp_path)
    model.append(written(in_folder / "disk.vmdk", Kind.MONOLITHIC_SPARSE, SIZE))
    close_volumes()
    (image,) = images(tmp_path)
    image.chmod(0o400)
    before = image.read_bytes()[: 64 * MIB], image.stat().st_mtime_ns
    path = resolve(f"{image}:/vm/disk.vmdk")
    assert contents(path) == model[0]
    assert check(path) == []
    assert disk_facts(path)["use"] == "free"
    assert path.store._writer is None
    close_volumes()
    assert (image.read_bytes()[: 64 * MIB], image.stat().st_mtime_ns) == before


# hosts beside each other


def test_a_disk_that_another_process_writes_is_refused_with_its_name(tmp_path: Path, volume: VolumePlace) -> None:
    path = volume / "disk.vmdk"
    model = written(path, Kind.THIN, SIZE)
    owner = os.getpid()

    def other() -> None:
        STORES.clear()  # what was open belongs to the parent
        mine = place_in(images(tmp_path), "vm/disk.vmdk")
        for writable in (False, True):
            with pytest.raises(Locked, match=rf"disk-flat\.vmdk: locked by .* \(pid {owner}\)"):
                open_disk(mine, writable=writable)
        with open_disk(mine, lock=False) as disk:
            assert get(disk, 0, SIZE // SECTOR) == model
        assert use(mine) == "written"

    with open_disk(path, writable=True) as disk:
        assert in_child(other) == 0
        put(disk, 3, data(7, 1))
    assert use(path) == "free"


def test_parents_are_read_by_several_and_written_by_none(tmp_path: Path, volume: VolumePlace) -> None:
    base = volume / "vm.vmdk"
    model = written(base, Kind.THIN, SIZE)
    first, second = volume / "a.vmdk", volume / "b.vmdk"
    create_child(first, base)
    create_child(second, base)

    def other() -> None:
        STORES.clear()
        mine = place_in(images(tmp_path), "vm")
        with open_disk(mine / "b.vmdk", writable=True) as disk:
            assert get(disk, 0, 4) == model[: 4 * SECTOR]
            put(disk, 0, data(5, 1))
        with pytest.raises(Locked, match="locked by"):
            open_disk(mine / "vm.vmdk", writable=True)

    with open_disk(first, writable=True) as disk:
        put(disk, 1, data(6, 1))
        assert in_child(other) == 0
    assert contents(second) == data(5, 1) + model[SECTOR:]


def test_what_a_killed_process_held_is_free_at_once(tmp_path: Path, volume: VolumePlace) -> None:
    path = volume / "disk.vmdk"
    written(path, Kind.THIN, SIZE)
    close_volumes()

    def dies() -> None:
        disk = open_disk(place_in(images(tmp_path), "vm/disk.vmdk"), writable=True)
        put(disk, 0, data(8, 1))
        disk.flush()
        os._exit(KILLED)

    assert in_child(dies) == KILLED
    again = place_in(images(tmp_path), "vm/disk.vmdk")
    with open_disk(again, writable=True) as disk:
        assert get(disk, 0, 1) == data(8, 1)
        put(disk, 1, data(9, 1))


def folded(path: VolumePlace) -> None:
    commit(path, into=path.parent / "vm.vmdk")


def renamed(path: VolumePlace) -> None:
    rename_disk(path.parent / "other.vmdk", path.parent / "new.vmdk")


def enlarged(path: VolumePlace) -> None:
    resize(path.parent / "other.vmdk", 2 * SIZE)


@pytest.mark.parametrize("action", [folded, renamed, enlarged])
@pytest.mark.parametrize("stride", [43, pytest.param(1, marks=pytest.mark.long)])
def test_killed_anywhere_a_change_of_disks_has_happened_or_not(
    tmp_path: Path, action: Callable[[VolumePlace], None], stride: int
) -> None:
    """Every so many writes to the device, in turn, are the last ones of a process."""
    made, place = tmp_path / "made", tmp_path / "place"
    made.mkdir()
    home = volume_folder(made)
    shown = written(home / "vm.vmdk", Kind.THIN, SIZE)
    with open_disk(home / "vm.vmdk") as parent:
        make_child(home / "vm-000001.vmdk", parent)
    with open_disk(home / "vm-000001.vmdk", writable=True) as disk:
        shown = scribble(disk, 2, bytearray(shown), 5)
    other = written(home / "other.vmdk", Kind.VMFS_SPARSE, SIZE)
    close_volumes()
    step, last = stride // 2, False
    while not last:
        place.mkdir()
        copy_file(made / "disk0.img", place / "disk0.img")

        def dies(step: int = step) -> None:
            left = [step]
            real = os.pwritev

            def pwritev(fd: int, views: Any, offset: int) -> int:
                if not left[0]:
                    os._exit(KILLED)
                left[0] -= 1
                return real(fd, views, offset)

            os.pwritev = pwritev  # type: ignore[assignment]
            action(place_in(images(place), "vm/vm-000001.vmdk"))

        last = in_child(dies) == 0
        after = place_in(images(place), "vm")
        after.store.to_write()  # whoever comes next recovers what the killed one left
        youngest = next(path for path in (after / "vm-000001.vmdk", after / "vm.vmdk") if path.exists())
        assert contents(youngest) == shown, step
        found = [path for path in (after / "other.vmdk", after / "new.vmdk") if path.exists()]
        assert contents(found[-1])[:SIZE] == other, step
        close_volumes()
        judge(images(place), killed=True)
        (place / "disk0.img").unlink()
        place.rmdir()
        step += stride


def test_a_host_that_has_lost_its_heartbeat_writes_no_more(tmp_path: Path) -> None:
    volume = volume_folder(tmp_path)
    written(volume / "disk.vmdk", Kind.EAGER_ZEROED_THICK, SIZE)
    disk = open_disk(volume / "disk.vmdk", writable=True)
    put(disk, 0, data(1, 1))
    disk.flush()
    volume.store.to_write().session.heartbeat.lost = True  # as after a stop of more than 16 seconds
    for change in (lambda: put(disk, 1, data(2, 1)), disk.flush):
        with pytest.raises(HostTrouble, match="heartbeat"):
            change()
    assert get(disk, 0, 2) == data(1, 1) + bytes(SECTOR)
    close_volumes()
    judge(images(tmp_path), killed=True)


# datastores


def test_a_volume_is_a_datastore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    paths = make(tmp_path, devices=2)
    known = Datastores.of_user()
    known.add("san", paths[::-1])
    folder = resolve("[san] vm")
    folder.mkdir()
    model = written(resolve("[san] vm/disk.vmdk"), Kind.THIN, SIZE)
    assert str(folder / "disk.vmdk") == "[san] vm/disk.vmdk"
    assert contents(resolve(f"{paths[0]}+{paths[1]}:/vm/disk.vmdk")) == model
    assert isinstance(resolve("[san]"), VolumePlace)
    (tmp_path / "host").mkdir()
    known.add("local", [tmp_path / "host"])
    create_child(resolve("[local] child.vmdk"), resolve("[san] vm/disk.vmdk"))
    assert contents(resolve("[local] child.vmdk")) == model
    with pytest.raises(BadOption, match="inside the datastore"):
        resolve("[san] ../x")
    close_volumes()
    judge(paths)


def test_the_heartbeat_ends_with_the_process(tmp_path: Path) -> None:
    home = volume_folder(tmp_path)
    written(home / "disk.vmdk", Kind.THIN, SIZE)
    with Volume.open(images(tmp_path)) as seen:
        from vmkernel.storage.vmfs3.heartbeat import slots_in_use

        assert len(slots_in_use(seen.lv)) == 1
        close_volumes()
        assert slots_in_use(seen.lv) == []


def test_a_flat_disk_on_a_volume_is_read_by_one_call_a_request(tmp_path: Path, volume: VolumePlace) -> None:
    for where in (tmp_path, volume):
        create(where / "flat.vmdk", Kind.EAGER_ZEROED_THICK, 8 * MIB)
    calls = []
    real = os.preadv

    def preadv(fd: int, views: Any, offset: int) -> int:
        calls.append(fd)
        return real(fd, views, offset)

    counts = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "preadv", preadv)
        for where in (tmp_path, volume):
            with open_disk(where / "flat.vmdk") as disk:
                calls.clear()
                for sector in range(0, disk.sectors, 8):
                    get(disk, sector, 8)
                counts.append(len(calls))
    assert counts == [8 * MIB // 4096] * 2


@pytest.mark.parametrize("kind", [Kind.THIN, Kind.MONOLITHIC_SPARSE, Kind.VMFS_SPARSE])
def test_where_a_disk_lies_is_told_in_bytes_of_the_device(tmp_path: Path, volume: VolumePlace, kind: Kind) -> None:
    model = written(volume / "disk.vmdk", kind, 4 * MIB)
    (image,) = images(tmp_path)
    with open_disk(volume / "disk.vmdk") as disk, image.open("rb") as device:
        shown = bytearray(4 * MIB)
        for piece in disk.runs(0, disk.size_bytes):
            if piece.file is not None:
                assert piece.file.path == image
                device.seek(piece.offset)
                shown[piece.start : piece.start + piece.length] = device.read(piece.length)
    assert shown == model
