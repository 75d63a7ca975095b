"""vmfs-tools and dissect.vmfs read the same volumes with equal results."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.vmkernel.storage.vmfs3 import peers
from tests.vmkernel.storage.vmfs3.filled import Filled
from tests.vmkernel.storage.vmfs3.specimen import MIB
from vmkernel.storage.vmfs3.identity import uuid_text
from vmkernel.storage.vmfs3.volume import Volume

SHAPES: dict[str, dict[str, Any]] = {
    "1 MB": {"pes": (1,)}, "2 MB, 3 devices": {"pes": (1, 2, 1), "block_size": 2 * MIB},
    "4 MB, no table": {"pes": (1,), "block_size": 4 * MIB, "partitioned": False},
    "8 MB, 2 devices": {"pes": (1, 1), "block_size": 8 * MIB}, "fragmented": {"pes": (1,), "fragmented": True},
}  # fmt: skip
SUB_BLOCK = 65536


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Filled:
    return Filled(tmp_path_factory.mktemp("peers"), **SHAPES[request.param])


def ours(volume: Volume, path: str) -> bytes:
    file = volume.open_file(volume.lookup(path))
    return file.bytes_at(0, file.size)


def test_debugvmfs_reads_the_same(filled: Filled) -> None:
    with Volume.open(filled.paths) as volume:
        for path in filled.files:
            assert peers.debugvmfs(filled.paths, "cat", path) == ours(volume, path), path


def test_debugvmfs_lists_the_same(filled: Filled) -> None:
    with Volume.open(filled.paths) as volume:
        for path in filled.directories:
            fd = volume.lookup(path)
            listed = peers.debugvmfs(filled.paths, "ls", path).decode("utf-8", "surrogateescape").split("\n")
            names = [entry.name for entry in volume.entries(fd, dots=True)]
            assert [name for name in listed if name] == names


def shown(filled: Filled, what: str) -> dict[str, str]:
    text = peers.debugvmfs(filled.paths, "show", *what.split()).decode()
    return dict(re.findall(r"^ *([^:]+?): (.*)$", text, re.M))


def test_debugvmfs_shows_the_same_volume(filled: Filled) -> None:
    with Volume.open(filled.paths) as volume:
        head = shown(filled, "")
        assert (head["Label"], head["UUID"], head["Mode"]) == (volume.label, uuid_text(volume.uuid), "public")
        assert head["Block size"] == f"{volume.block_size // MIB} MiB"
        counts = volume.statistics()
        for name, kind in (
            ("fbb", "file_block"), ("fdc", "file_descriptor"), ("pbc", "pointer_block"), ("sbc", "sub_block"),
        ):  # fmt: skip
            bitmap = shown(filled, name)
            assert (int(bitmap["Total items"]), int(bitmap["Free items"])) == counts[kind]
        assert shown(filled, "lvm")["UUID"] == uuid_text(volume.lv.uuid or b"")
        for index, device in enumerate(volume.lv.devices):
            extent = shown(filled, f"lvm.extent[{index}]")
            assert extent["UUID"] == uuid_text(device.header.device_uuid)
            assert (int(extent["First Segment"]), int(extent["Last Segment"])) == (
                device.descriptor.first_pe, device.descriptor.last_pe,
            )  # fmt: skip


def test_its_checkers_find_a_specimen_sound(filled: Filled) -> None:
    """What `debugvmfs check_vol_bitmaps` and `fsck.vmfs` say of it is what they say of a right volume."""
    assert peers.bitmap_errors(filled.paths) == 0
    counts = peers.fsck(filled.paths)
    zeroed = 4  # blocks that were never written, which fsck.vmfs takes for lost
    gaps = len(filled.made.fbb.blocks + filled.made.fdc.blocks + filled.made.pbc.blocks + filled.made.sbc.blocks) - 1
    fragmented = filled.made.sbc.blocks[0] - filled.made.pbc.blocks[-1] > 1
    lost = counts.pop("Lost blocks")
    assert lost == zeroed + gaps * fragmented
    assert set(counts.values()) == {0}


def test_dissect_reads_the_same(filled: Filled) -> None:
    """But for sub-blocks in two pieces, across the border of file blocks: it takes them as one."""

    def whole(path: str) -> bool:
        return len(filled.files[path]) > SUB_BLOCK or len(volume.map(volume.lookup(path))) < 2

    with peers.dissected(filled.paths, filled.made.base) as theirs, Volume.open(filled.paths) as volume:
        for path in filled.files:
            if whole(path):
                assert peers.dissect_reads(theirs, path) == ours(volume, path), path
        for path in filled.directories:
            assert list(theirs.get(path).listdir()) == [
                entry.name for entry in volume.entries(volume.lookup(path), dots=True)
            ]
        for path, target in filled.links.items():
            assert theirs.get(path).link == target
        stream, file = theirs.get("/big").open(), volume.open_file(volume.lookup("/big"))
        size = filled.made.block_size
        for index in (0, 1, 1023, 1024, 1025, 2999):
            stream.seek(index * size)
            assert stream.read(4096) == file.bytes_at(index * size, 4096)
        assert bytes(theirs.get("/mapped").rdm_mapping.diskId.id) == volume.lookup("/mapped").disk_id.id


def test_dissect_needs_the_shift_that_esx_3_does_not_write(tmp_path: Path) -> None:
    """Byte 289h of a descriptor: with zero, as real volumes have it, dissect 3.12 and later read a first block only."""
    filled = Filled(tmp_path, shift=False)
    with peers.dissected(filled.paths, filled.made.base) as theirs, Volume.open(filled.paths) as volume:
        assert ours(volume, "/blocks") == filled.files["/blocks"]
        with pytest.raises(IndexError):
            peers.dissect_reads(theirs, "/blocks")


def test_vmfs_fuse_shows_the_same(tmp_path: Path) -> None:
    filled = Filled(tmp_path)
    with peers.mounted(filled.paths, tmp_path / "mnt") as mounted, Volume.open(filled.paths) as volume:
        for path in (*filled.files, *filled.directories):
            fd, status = volume.lookup(path), os.stat(f"{mounted}{path}")
            assert (status.st_size, status.st_mode, status.st_mtime) == (fd.length, fd.mode, fd.mtime), path
            assert (status.st_nlink, status.st_uid, status.st_gid) == (fd.nlink, fd.uid, fd.gid)
        for path, data in filled.files.items():
            assert Path(f"{mounted}{path}").read_bytes() == data
        for path, target in filled.links.items():
            assert os.readlink(f"{mounted}{path}") == target
        with open(f"{mounted}/big", "rb") as big:
            file = volume.open_file(volume.lookup("/big"))
            for start in (1020 * MIB, 2998 * MIB):
                big.seek(start)
                assert big.read(5 * MIB) == file.bytes_at(start, 5 * MIB)
