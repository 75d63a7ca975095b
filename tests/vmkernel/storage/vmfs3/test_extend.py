"""A volume gets more devices, or another label."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ringfence.errors import BadInput, BadOption
from tests.vmkernel.storage.vmfs3 import peers
from tests.vmkernel.storage.vmfs3.hosts import (
    GIB,
    MIB,
    ONE_EXTENT,
    SteppedClock,
    get,
    make,
    opened,
    put,
    somewhere,
    sparse,
    tree,
)
from tests.vmkernel.storage.vmfs3.power import Films, recorded
from tests.vmkernel.storage.vmfs3.test_names import agree
from vmkernel.storage.errors import Locked
from vmkernel.storage.vmfs3.check import check
from vmkernel.storage.vmfs3.errors import IncompleteVolume
from vmkernel.storage.vmfs3.extend import put_size
from vmkernel.storage.vmfs3.growing import Provision
from vmkernel.storage.vmfs3.volume import Volume


@pytest.mark.parametrize("block_size", [1, 8])
def test_a_device_is_added(tmp_path: Path, block_size: int) -> None:
    paths = make(tmp_path, GIB, block_size=block_size * MIB)
    data = bytes(range(256)) * 3000
    more = [sparse(tmp_path / f"more{number}.img", GIB + number * 256 * MIB) for number in range(2)]
    with opened(paths) as volume:
        put(volume, "/f", data)
        before, total = volume.statistics()["file_block"]
        volume.extend(more[:1])
        volume.extend(more[1:])
        assert get(volume, "/f") == data
        assert volume.lv.size == (3 + 3 + 4) * 256 * MIB
        total, free = volume.statistics()["file_block"]
        assert total == volume.lv.size // volume.block_size
        volume.create("/big")
        with volume.open_for_write("/big") as file:
            file.reserve(free * volume.block_size - 4 * volume.block_size, Provision.THICK)
            file.write(free * volume.block_size - 5 * volume.block_size, [b"at the end"])
        assert before < total
    paths += more
    agree(paths)
    with Volume.open(list(reversed(paths))) as volume:
        assert get(volume, "/f") == data
        file = volume.open_file(volume.lookup("/big"))
        assert file.bytes_at(file.size - volume.block_size * 1, 10) in (b"at the end", bytes(10))
    assert peers.debugvmfs(paths, "cat", "/f") == data
    with pytest.raises(IncompleteVolume, match="3 of volume"):
        Volume.open(paths[:2])


def test_file_blocks_behind_a_new_group_of_clusters(tmp_path: Path) -> None:
    paths = make(tmp_path, 6 * GIB)
    with opened(paths) as volume:
        groups = volume.fbb.geometry.groups
        volume.extend([sparse(tmp_path / "more.img", 40 * GIB)])
        assert volume.fbb.geometry.groups > groups
    agree([*paths, tmp_path / "more.img"])


def test_what_cannot_be_added(tmp_path: Path) -> None:
    paths = make(tmp_path)
    with opened(paths) as volume:
        volume.create("/f")
        with pytest.raises(BadInput):
            volume.extend([sparse(tmp_path / "small.img", MIB)])
        with pytest.raises(BadOption):
            volume.extend([])
        good = sparse(tmp_path / "good.img", ONE_EXTENT)
        with volume.open_for_write("/f"), pytest.raises(Locked, match="files are open"):
            volume.extend([good])
        with Volume.open(paths):
            pass
        assert volume.exists("/f")
    agree(paths)


def test_another_host_that_has_the_volume_open_is_not_surprised(tmp_path: Path) -> None:
    paths = make(tmp_path)
    one, other = opened(paths), opened(paths)
    with pytest.raises(Locked, match="has the volume open"):
        one.extend([sparse(tmp_path / "more.img", ONE_EXTENT)])
    put(one, "/f", b"still in use")
    one.close()
    other.close()
    agree(paths)


def test_a_label(tmp_path: Path) -> None:
    paths = make(tmp_path, label="old name")
    with opened(paths) as volume:
        volume.set_label("neu: Größe")
        assert volume.label == "neu: Größe"
        with pytest.raises(BadOption):
            volume.set_label("x" * 128)
    assert b"neu: Gr\xc3\xb6\xc3\x9fe" in peers.debugvmfs(paths, "show")
    agree(paths)


def judge(paths: list[Path], shown: dict[str, object], moment: int) -> None:
    """The next host finds all files, and leaves nothing to be mended."""
    clock = SteppedClock(1)
    with Volume.open(paths) as volume:
        assert tree(volume) == shown
    volume = opened(paths, clock, somewhere(2))
    clock.advance(17)
    volume.session.recover()
    assert tree(volume) == shown
    put(volume, "/new", b"written after the crash")
    volume.close()
    opened(paths).close()  # the dead host is gone by now: what it had begun with the file blocks is done
    assert [str(finding) for finding in check(paths)] == [], moment


@pytest.mark.parametrize("devices", [pytest.param(1, marks=pytest.mark.long), 3])
def test_a_host_that_dies_leaves_the_volume_without_or_with_the_devices(tmp_path: Path, devices: int) -> None:
    old = make(tmp_path, ONE_EXTENT, devices)
    more = [sparse(tmp_path / f"more{number}.img", ONE_EXTENT) for number in range(2)]
    with opened(old) as volume:
        put(volume, "/f", bytes(range(256)) * 600)
        shown = tree(volume)
    with recorded() as tape:
        volume = opened(old)
        volume.extend(more)
        volume.close()
    films = Films(tape)
    for path in {*more} - {*films.files}:
        films.files[path] = os.open(path, os.O_RDWR)
    found = []
    for moment, write in enumerate(tape.writes):
        for torn in {0, write.sectors // 2}:
            with films.cut(moment, torn):
                try:
                    Volume.open(old).close()
                    found.append("without")
                except IncompleteVolume as error:
                    assert f"expected the {devices + 2} of volume" in str(error)
                    found.append("with")
                judge(old if found[-1] == "without" else [*old, *more], shown, moment)
    films.close()
    assert found == sorted(found, reverse=True) and set(found) == {"with", "without"}
    judge([*old, *more], shown, len(tape.writes))


def test_devices_that_say_less_than_the_head_are_no_volume(tmp_path: Path) -> None:
    paths = make(tmp_path, ONE_EXTENT, 3)
    with opened(paths) as volume:
        lun = volume.lv.luns[0]
        put_size(lun, volume.lv.size + 1, 4, 100, 0)
    with pytest.raises(IncompleteVolume, match="logical_size of the volume descriptor"):
        Volume.open(paths)
